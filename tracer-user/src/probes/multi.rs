//! Uprobe-multi links: all probes of one program on one binary in one link, which is attached and detached at once. The
//! kernel has them since Linux 6.6 ([`crate::host::kernel::MULTI_SINCE`] says since when they can be used). aya has
//! none yet, so this calls the `bpf` system call directly.
//!
//! Such links are not only quicker to detach: they need only CAP_BPF and CAP_PERFMON, and perf events need
//! CAP_SYS_ADMIN as well.

use std::{
    collections::HashSet,
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use aya::maps::Map;
use aya_obj::{Object, generated::bpf_insn};

use crate::probes::{ProbeError, Program};

// These numbers, and the structs below, are those of
// <https://github.com/torvalds/linux/blob/v6.6/include/uapi/linux/bpf.h>.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;

/// Size of the buffer for the verifier's log in bytes.
const LOG_BYTES: usize = 64 << 10;

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The part of `union bpf_attr` that creates a uprobe-multi link.
#[repr(C)]
#[derive(Default)]
struct CreateLink {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    link_flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    flags: u32,
    pid: u32,
    pad: u32,
}

/// A program that was loaded for uprobe-multi links.
pub struct MultiProgram(OwnedFd);

impl MultiProgram {
    /// Loads a program of the object for this kind of link. It uses the maps that exist already, which are given by
    /// their names.
    ///
    /// # Errors
    /// The object is damaged, or the kernel refuses the program.
    pub fn load<'a>(
        object: &[u8],
        program: Program,
        maps: impl Iterator<Item = (&'a str, BorrowedFd<'a>)>,
    ) -> Result<MultiProgram, ProbeError> {
        let broken = |what: String| ProbeError::Load(format!("the object of the probes is damaged: {what}"));
        let mut object = Object::parse(object).map_err(|error| broken(error.to_string()))?;
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let definitions = object.maps.clone();
        let maps: Vec<_> = maps
            .filter_map(|(name, fd)| {
                let (name, definition) = definitions.get_key_value(name)?;
                Some((name.as_str(), fd.as_raw_fd(), definition))
            })
            .collect();
        object.relocate_maps(maps.into_iter(), &sections).map_err(|error| broken(error.to_string()))?;
        object.relocate_calls(&sections).map_err(|error| broken(error.to_string()))?;
        let found = object
            .programs
            .get(program.name())
            .and_then(|found| Some((found, object.functions.get(&found.function_key())?)));
        let (found, function) = found.ok_or_else(|| broken(format!("no program {}", program.name())))?;
        load(program.name(), &found.license, &function.instructions).map(MultiProgram)
    }

    /// Attaches the program at many file offsets of one binary, each with its cookie, for one process or for all (`pid`
    /// 0).
    ///
    /// # Errors
    /// The kernel's answer, if it refuses.
    pub fn attach(&self, path: &CStr, offsets: &[u64], cookies: &[u64], pid: u32) -> io::Result<OwnedFd> {
        debug_assert_eq!(offsets.len(), cookies.len());
        let attributes = CreateLink {
            prog_fd: self.0.as_raw_fd() as u32,
            attach_type: BPF_TRACE_UPROBE_MULTI,
            path: path.as_ptr() as u64,
            offsets: offsets.as_ptr() as u64,
            cookies: cookies.as_ptr() as u64,
            cnt: offsets.len() as u32,
            pid,
            ..CreateLink::default()
        };
        bpf(BPF_LINK_CREATE, &attributes)
    }
}

fn load(name: &str, license: &CStr, instructions: &[bpf_insn]) -> Result<OwnedFd, ProbeError> {
    let mut attributes = LoadProgram {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
        ..LoadProgram::default()
    };
    for (to, from) in attributes.prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    let first = match bpf(BPF_PROG_LOAD, &attributes) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    // The program is loaded once more to get the verifier's log. That costs time, so the first attempt does without it.
    let mut log = vec![0u8; LOG_BYTES];
    attributes.log_level = 1;
    attributes.log_size = LOG_BYTES as u32;
    attributes.log_buf = log.as_mut_ptr() as u64;
    let Err(_) = bpf(BPF_PROG_LOAD, &attributes) else { return Err(crate::probes::classify(&first)) };
    let log = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
    // The last line of the log counts instructions, and the one before it says what is wrong.
    match log.trim().lines().rfind(|line| !line.starts_with("processed ")) {
        Some(why) => Err(ProbeError::Load(format!("the verifier refuses {name}: {why}"))),
        None => Err(crate::probes::classify(&first)),
    }
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: both commands only read `attributes` and what its pointers lead to, all of which outlives the call. Only
    // the log is written to, and its buffer is writable and as long as `log_size` says.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *const T, size_of::<T>()) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this file descriptor, so nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The file descriptor of a map. `None` for kinds of maps that the object does not have.
pub fn map_fd(map: &Map) -> Option<BorrowedFd<'_>> {
    let data = match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::RingBuf(data) | Map::HashMap(data) => data,
        _ => return None,
    };
    Some(std::os::fd::AsFd::as_fd(data.fd()))
}
