//! Loads the programs that run at probes, one for each thing that they must know: see [`Constants`].

use std::{
    collections::{HashMap, HashSet},
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use aya_obj::Object;
use tracer_ebpf::{CONSTANTS, Constants};

use super::error::{ProbeError, classify};
use super::syscalls;

/// Size of the buffer for the verifier's log in bytes.
const LOG_BYTES: usize = 64 << 10;

/// Name of the map with what programs can only read.
const READ_ONLY: &str = ".rodata";

/// What all programs have in common, and those that were loaded for everyone.
pub struct Programs {
    object: Object,
    /// The maps that programs use, by their names.
    maps: HashMap<String, OwnedFd>,
    /// Whether programs are for uprobe-multi links.
    for_multi: bool,
    loaded: HashMap<(&'static str, Constants), OwnedFd>,
}

impl Programs {
    /// Takes the compiled programs, with the values of globals, and the maps that they are to use.
    ///
    /// # Errors
    /// The object is damaged.
    pub fn new(
        object: &[u8],
        globals: &[(&str, Vec<u8>)],
        maps: HashMap<String, OwnedFd>,
        for_multi: bool,
    ) -> Result<Programs, ProbeError> {
        let mut object = Object::parse(object).map_err(|error| broken(&error))?;
        let globals = globals.iter().map(|(name, value)| (*name, (value.as_slice(), true)));
        object.patch_map_data(globals.collect()).map_err(|error| broken(&error))?;
        Ok(Programs { object, maps, for_multi, loaded: HashMap::new() })
    }

    /// The program of this name that knows these constants. Programs for everyone are kept for the next binary that needs the
    /// same; there are as many as Go has layouts, and registers. Those for one process are not.
    ///
    /// # Errors
    /// The object is damaged, or the kernel refuses the program.
    pub fn get(&mut self, name: &'static str, constants: Constants) -> Result<OwnedFd, ProbeError> {
        let key = (name, constants);
        if let Some(loaded) = self.loaded.get(&key) {
            return loaded.try_clone().map_err(|error| classify(&error));
        }
        let program = self.load(name, constants)?;
        if constants.pid == 0 {
            let kept = program.try_clone().map_err(|error| classify(&error))?;
            self.loaded.insert(key, kept);
        }
        Ok(program)
    }

    fn load(&self, name: &str, constants: Constants) -> Result<OwnedFd, ProbeError> {
        let mut object = self.object.clone();
        let bytes = constants.to_bytes();
        object
            .patch_map_data(HashMap::from([(CONSTANTS, (&bytes[..], true))]))
            .map_err(|error| broken(&error))?;
        let definitions = object.maps.clone();
        let read_only = match definitions.get(READ_ONLY) {
            Some(map) => read_only(map.data()).map_err(|error| classify(&error))?,
            None => return Err(broken(&format!("no map {READ_ONLY}"))),
        };
        let maps = self.maps.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()));
        let maps = maps.filter(|(name, _)| *name != READ_ONLY).chain([(READ_ONLY, read_only.as_fd())]);
        let maps: Vec<_> =
            maps.filter_map(|(name, fd)| Some((name, fd.as_raw_fd(), definitions.get(name)?))).collect();
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(maps.into_iter(), &sections).map_err(|error| broken(&error))?;
        object.relocate_calls(&sections).map_err(|error| broken(&error))?;
        let found = object
            .programs
            .get(name)
            .and_then(|found| Some((found, object.functions.get(&found.function_key())?)));
        let (found, function) = found.ok_or_else(|| broken(&format!("no program {name}")))?;
        let load = |log: &mut [u8]| {
            syscalls::load_program(name, &found.license, &function.instructions, self.for_multi, log)
        };
        // The program is loaded once more to get the verifier's log. That costs time, so the first attempt does without it.
        load(&mut []).map_err(|first| {
            let mut log = vec![0u8; LOG_BYTES];
            if load(&mut log).is_ok() {
                return classify(&first);
            }
            let log = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
            // The last line of the log counts instructions, and the one before it says what is wrong.
            match log.trim().lines().rfind(|line| !line.starts_with("processed ")) {
                Some(why) => ProbeError::Load(format!("the verifier refuses {name}: {why}")),
                None => classify(&first),
            }
        })
    }
}

/// Makes a map that programs can only read, and nobody can write to any more.
fn read_only(data: &[u8]) -> io::Result<OwnedFd> {
    let map = syscalls::create_array(data.len() as u32, 1, syscalls::BPF_F_RDONLY_PROG)?;
    syscalls::update(map.as_fd(), 0, data)?;
    syscalls::freeze(map.as_fd())?;
    Ok(map)
}

fn broken(what: &dyn std::fmt::Display) -> ProbeError {
    ProbeError::Load(format!("the object of the probes is damaged: {what}"))
}

/// The file descriptor of a map. `None` for kinds of maps that the object does not have.
pub fn map_fd(map: &aya::maps::Map) -> Option<BorrowedFd<'_>> {
    use aya::maps::Map;
    let data = match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::HashMap(data)
        | Map::ProgramArray(data)
        | Map::ArrayOfMaps(data) => data,
        _ => return None,
    };
    Some(data.fd().as_fd())
}
