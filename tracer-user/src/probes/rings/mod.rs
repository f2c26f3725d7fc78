//! A ring for each CPU, without a lock: programs write into memory that golife maps, and only those on the same CPU write to
//! the same ring. What happens to processes comes through the kernel's ring buffer, as on older kernels all does.

mod cpu;
mod merge;
mod processes;
mod sizes;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread::JoinHandle;

use aya::maps::{MapData, RingBuf};
use memmap2::{MmapOptions, MmapRaw};
use tracer_ebpf::{FIRST_RINGS, GROWN_RINGS, RING_HEADS, RingHead};

use super::syscalls::{self, BPF_F_MMAPABLE};
use crate::host::clock::monotonic_ns;
use cpu::{CpuRing, Units, Words};
use merge::{Merge, Next, Stream};
use processes::Processes;
use sizes::Sizes;

/// The maps of the rings.
pub struct RingMaps {
    cpus: u32,
    sizes: Sizes,
    heads: OwnedFd,
    first: OwnedFd,
    grown: OwnedFd,
}

impl RingMaps {
    /// Makes them for all CPUs that this machine can have. `bytes` is for the rings that CPUs begin with, as the user wants them.
    ///
    /// # Errors
    /// The kernel has no such maps, or no memory.
    pub fn create(bytes: Option<u32>) -> io::Result<RingMaps> {
        let cpus = cpus()?;
        let heads = syscalls::create_array(size_of::<RingHead>() as u32, cpus, BPF_F_MMAPABLE)?;
        let mut sizes = Sizes::of(cpus, bytes);
        loop {
            let made =
                rings(sizes.first, cpus).and_then(|first| Ok((first, grown_rings(sizes.grown, cpus)?)));
            match made {
                Ok((first, grown)) => return Ok(RingMaps { cpus, sizes, heads, first, grown }),
                // Before Linux 5.18 a value has at most 4 MiB (`KMALLOC_MAX_SIZE` in `array_map_alloc_check`).
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) && sizes.first > 64 => {
                    sizes = sizes.halved();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The maps by the names that they have in the object.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn by_name(&self) -> io::Result<[(&'static str, OwnedFd); 3]> {
        Ok([
            (RING_HEADS, self.heads.try_clone()?),
            (FIRST_RINGS, self.first.try_clone()?),
            (GROWN_RINGS, self.grown.try_clone()?),
        ])
    }

    /// What programs must know of them: see [`tracer_ebpf::RING_MASKS`].
    pub fn masks(&self) -> [u64; 2] {
        [self.sizes.first - 1, self.sizes.grown - 1]
    }
}

/// How many CPUs there can be: programs look for their ring by the number of the CPU.
fn cpus() -> io::Result<u32> {
    let possible = aya::util::nr_cpus().map_err(|(_, error)| error)? as u32;
    let online = aya::util::online_cpus().map_err(|(_, error)| error)?;
    Ok(online.into_iter().map(|cpu| cpu + 1).fold(possible, u32::max))
}

fn rings(units: u64, count: u32) -> io::Result<OwnedFd> {
    syscalls::create_array(Sizes::bytes(units), count, BPF_F_MMAPABLE)
}

fn grown_rings(units: u64, cpus: u32) -> io::Result<OwnedFd> {
    syscalls::create_array_of_maps(rings(units, 1)?.as_fd(), cpus)
}

/// Maps a whole map. Pages of rings that nobody writes to are never touched.
fn map(fd: &OwnedFd, bytes: usize) -> io::Result<Arc<MmapRaw>> {
    Ok(Arc::new(MmapOptions::new().len(bytes).map_raw(fd.as_raw_fd())?))
}

/// A part of a mapped map as words.
fn part(memory: &Arc<MmapRaw>, at: usize, bytes: usize) -> Words {
    assert!(at + bytes <= memory.len() && at.is_multiple_of(8));
    // SAFETY: the memory is mapped as long as somebody has it, golife accesses it through `Words` alone, and programs write
    // words in one piece.
    unsafe { Words::new(memory.as_mut_ptr().add(at).cast(), bytes / 8, Box::new(memory.clone())) }
}

/// The rings, with all that is in them put in order.
pub struct Rings {
    maps: Arc<RingMaps>,
    streams: Vec<Source>,
    merge: Merge,
    /// How many more CPUs may grow.
    may_grow: u64,
    /// A larger ring that is being made, and for which CPU. The kernel takes some 10 ms for that.
    growing: Option<(usize, JoinHandle<io::Result<Units>>)>,
}

impl Rings {
    /// Opens the rings of all CPUs for writing. `buffer` is the kernel's ring buffer.
    ///
    /// # Errors
    /// They cannot be mapped.
    pub fn open(maps: RingMaps, buffer: &RingBuf<MapData>) -> io::Result<Rings> {
        let cpus = maps.cpus as usize;
        let head_bytes = size_of::<RingHead>();
        let ring_bytes = Sizes::bytes(maps.sizes.first) as usize;
        let heads = map(&maps.heads, cpus * head_bytes)?;
        let first = map(&maps.first, cpus * ring_bytes)?;
        let mut streams = vec![Source::Processes(Processes::new(buffer)?)];
        streams.extend((0..cpus).map(|cpu| {
            let units = Units::new(part(&first, cpu * ring_bytes, ring_bytes));
            Source::Cpu(CpuRing::new(part(&heads, cpu * head_bytes, head_bytes), units))
        }));
        let may_grow = maps.sizes.may_grow;
        Ok(Rings { maps: Arc::new(maps), streams, merge: Merge::default(), may_grow, growing: None })
    }

    /// Passes on what has been written until now, in order, `most` records at most. Returns whether there may be more.
    pub fn pass(&mut self, buffer: &mut RingBuf<MapData>, most: usize, pass_on: impl FnMut(&[u64])) -> bool {
        self.finish_growing();
        let now_ns = monotonic_ns();
        // The clock comes before all that follows.
        fence(Ordering::SeqCst);
        let mut full = None;
        for (index, stream) in self.streams.iter_mut().enumerate() {
            match stream {
                Source::Cpu(ring) => {
                    if ring.look() && !ring.has_grown() {
                        full = Some(index);
                    }
                }
                Source::Processes(processes) => processes.look(buffer),
            }
        }
        let has_more = self.merge.pass(&mut self.streams, now_ns, most, pass_on);
        for stream in &self.streams {
            if let Source::Cpu(ring) = stream {
                ring.give_room();
            }
        }
        if let Some(index) = full {
            self.begin_growing(index);
        }
        has_more
    }

    /// After so many units a CPU wakes the reader, as long as it has its first ring.
    pub fn units_to_wake(&self) -> u64 {
        self.maps.sizes.first / 4
    }

    /// Memory of the rings in bytes.
    pub fn bytes(&self) -> u64 {
        let grown = self.maps.sizes.may_grow - self.may_grow;
        u64::from(self.maps.cpus) * u64::from(Sizes::bytes(self.maps.sizes.first))
            + grown * u64::from(Sizes::bytes(self.maps.sizes.grown))
    }

    #[cold]
    fn begin_growing(&mut self, index: usize) {
        if self.growing.is_some() || self.may_grow == 0 {
            return;
        }
        // The first stream is that of processes.
        let (maps, cpu) = (self.maps.clone(), index as u32 - 1);
        let make = move || {
            let ring = rings(maps.sizes.grown, 1)?;
            // This returns when every program that begins sees the ring.
            syscalls::update(maps.grown.as_fd(), cpu, &ring.as_raw_fd().to_ne_bytes())?;
            let bytes = Sizes::bytes(maps.sizes.grown) as usize;
            Ok(Units::new(part(&map(&ring, bytes)?, 0, bytes)))
        };
        let thread = std::thread::Builder::new().name("larger-ring".into());
        if let Ok(thread) = thread.spawn(make) {
            self.may_grow -= 1;
            self.growing = Some((index, thread));
        }
    }

    fn finish_growing(&mut self) {
        let Some((index, thread)) = self.growing.take_if(|(_, thread)| thread.is_finished()) else { return };
        // Where it cannot be made, the CPU keeps what it has, and loss is counted as ever.
        if let (Ok(Ok(units)), Source::Cpu(ring)) = (thread.join(), &mut self.streams[index]) {
            ring.grow(units);
        }
    }
}

/// What records come from.
enum Source {
    Cpu(CpuRing),
    Processes(Processes),
}

impl Stream for Source {
    #[inline]
    fn next(&mut self) -> Next {
        match self {
            Source::Cpu(ring) => ring.next(),
            Source::Processes(processes) => processes.next(),
        }
    }

    #[inline]
    fn place(&self) -> u64 {
        match self {
            Source::Cpu(ring) => ring.place(),
            Source::Processes(processes) => processes.place(),
        }
    }

    #[inline]
    fn take(&mut self, place: u64) -> &[u64] {
        match self {
            Source::Cpu(ring) => ring.take(place),
            Source::Processes(processes) => processes.take(place),
        }
    }
}
