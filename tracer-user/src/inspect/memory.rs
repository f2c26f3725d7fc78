//! The memory of another process, read from outside without stopping it: `process_vm_readv(2)`.

use std::io::IoSliceMut;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// The kernel takes no more ranges in one call (`UIO_MAXIOV`).
const MAX_RANGES: usize = 1024;

/// Most bytes of one call: what is read is looked at next, and should still be in a processor's own cache then.
const MAX_BYTES: usize = 256 << 10;
/// What lies further apart is not read as one: a range costs about as much as this many bytes.
const MAX_GAP: u64 = 2048;
/// Longest run of places that are read as one.
const MAX_RUN: usize = 64 << 10;

/// Bytes of another process that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where they begin.
    pub address: u64,
    /// How many; not many, they are held in memory.
    pub size: usize,
}

/// Places that are read as one range.
#[derive(Debug)]
struct Run {
    address: u64,
    size: usize,
    places: std::ops::Range<usize>,
}

impl Run {
    /// Makes runs of as many places as one call takes; returns how many those are. `first`: the index of the first.
    fn gather(places: &[Place], first: usize, runs: &mut Vec<Run>) -> usize {
        runs.clear();
        let mut bytes = 0;
        for (at, place) in places.iter().enumerate() {
            if let Some(run) = runs.last_mut() {
                let from = place.address.wrapping_sub(run.address);
                let end = from.saturating_add(place.size as u64);
                let grown = end.saturating_sub(run.size as u64) as usize;
                if from <= run.size as u64 + MAX_GAP && end <= MAX_RUN as u64 && bytes + grown <= MAX_BYTES {
                    bytes += grown;
                    run.size += grown;
                    run.places.end += 1;
                    continue;
                }
            }
            if runs.len() == MAX_RANGES || (bytes + place.size > MAX_BYTES && at > 0) {
                return at;
            }
            bytes += place.size;
            let index = first + at;
            runs.push(Run { address: place.address, size: place.size, places: index..index + 1 });
        }
        places.len()
    }
}

/// Why memory could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The kernel does not let us.
    #[error("cannot read the memory of process {0}: permission denied; run as root or grant CAP_SYS_PTRACE")]
    Permission(i32),
    /// The process ended.
    #[error("cannot read the memory of process {0}: it has ended")]
    Gone(i32),
    /// Nothing is mapped there.
    #[error("cannot read the memory of process {pid} at {address:#x}: nothing is mapped there")]
    Unmapped {
        /// The process.
        pid: i32,
        /// Where nothing is.
        address: u64,
    },
    /// Anything else that the kernel says.
    #[error("cannot read the memory of process {pid}: {errno}")]
    Other {
        /// The process.
        pid: i32,
        /// What the kernel says.
        errno: Errno,
    },
}

/// The memory of one process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    pid: i32,
}

impl ProcessMemory {
    /// Of the process with this id in golife's pid namespace. Nothing is opened or checked.
    pub fn new(pid: i32) -> ProcessMemory {
        ProcessMemory { pid }
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Fills the buffer with the bytes at an address.
    ///
    /// # Errors
    /// See [`MemoryError`]; where only a part is mapped, [`MemoryError::Unmapped`].
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < buffer.len() {
            let at = address.wrapping_add(done as u64);
            let length = buffer.len() - done;
            done += match self
                .read_ranges(&[RemoteIoVec { base: at as usize, len: length }], &mut buffer[done..])?
            {
                0 => return Err(MemoryError::Unmapped { pid: self.pid, address: at }),
                read => read,
            };
        }
        Ok(())
    }

    /// Reads a word.
    ///
    /// # Errors
    /// See [`MemoryError`].
    pub fn read_u64(&self, address: u64) -> Result<u64, MemoryError> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// [`Reader::read_many`], once.
    ///
    /// # Errors
    /// As there.
    pub fn read_many(
        &self,
        places: &[Place],
        found: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), MemoryError> {
        Reader::new(*self).read_many(places, found)
    }

    fn read_one_by_one(
        &self,
        run: &Run,
        places: &[Place],
        found: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), MemoryError> {
        if run.places.len() == 1 {
            found(run.places.start, None);
            return Ok(());
        }
        for index in run.places.clone() {
            let Place { address, size } = places[index];
            let mut bytes = vec![0; size];
            let range = RemoteIoVec { base: address as usize, len: size };
            let read = self.read_ranges(&[range], &mut bytes)?;
            found(index, (read == size).then_some(&bytes));
        }
        Ok(())
    }

    /// How many bytes could be read, 0 where the first one is not mapped.
    fn read_ranges(&self, ranges: &[RemoteIoVec], buffer: &mut [u8]) -> Result<usize, MemoryError> {
        let local = &mut [IoSliceMut::new(buffer)];
        match process_vm_readv(Pid::from_raw(self.pid), local, ranges) {
            Ok(read) => Ok(read),
            // EINVAL: an address that no process can have makes the sum of the lengths overflow.
            Err(Errno::EFAULT | Errno::EINVAL) => Ok(0),
            Err(Errno::EPERM | Errno::EACCES) => Err(MemoryError::Permission(self.pid)),
            Err(Errno::ESRCH) => Err(MemoryError::Gone(self.pid)),
            Err(errno) => Err(MemoryError::Other { pid: self.pid, errno }),
        }
    }
}

/// Reads many places of a process, again and again: it keeps its buffers, since memory that is touched for the first time
/// costs more than what is copied there.
#[derive(Debug)]
pub struct Reader {
    memory: ProcessMemory,
    runs: Vec<Run>,
    ranges: Vec<RemoteIoVec>,
    buffer: Vec<u8>,
}

impl Reader {
    /// Of this process.
    pub fn new(memory: ProcessMemory) -> Reader {
        Reader { memory, runs: Vec::new(), ranges: Vec::new(), buffer: Vec::new() }
    }

    /// Reads many places with few system calls, and hands each to `found` with its index, or none where it is not all
    /// mapped. Places that lie close behind each other in memory and in the list are read as one. Not in the order of
    /// the list.
    ///
    /// # Errors
    /// [`MemoryError::Permission`], [`MemoryError::Gone`] and [`MemoryError::Other`] end the walk.
    pub fn read_many(
        &mut self,
        places: &[Place],
        mut found: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), MemoryError> {
        let mut first = 0;
        while first < places.len() {
            let next = Run::gather(&places[first..], first, &mut self.runs);
            self.read_runs(places, &mut found)?;
            first += next;
        }
        Ok(())
    }

    fn read_runs(
        &mut self,
        places: &[Place],
        found: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), MemoryError> {
        let Reader { memory, runs, ranges, buffer } = self;
        ranges.clear();
        ranges.extend(runs.iter().map(|run| RemoteIoVec { base: run.address as usize, len: run.size }));
        let total: usize = runs.iter().map(|run| run.size).sum();
        if buffer.len() < total {
            buffer.resize(total, 0);
        }
        let mut done = 0;
        while done < runs.len() {
            let read = memory.read_ranges(&ranges[done..], buffer)?;
            let mut read = buffer.get(..read).unwrap_or_default();
            // The kernel stops at the first range that it cannot read; whole ranges before it are good.
            while let Some(run) = runs.get(done) {
                let Some((bytes, after)) = read.split_at_checked(run.size) else { break };
                for index in run.places.clone() {
                    let place = places[index];
                    let from = place.address.wrapping_sub(run.address) as usize;
                    found(index, bytes.get(from..from + place.size));
                }
                read = after;
                done += 1;
            }
            if let Some(broken) = runs.get(done) {
                memory.read_one_by_one(broken, places, found)?;
                done += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn own() -> ProcessMemory {
        ProcessMemory::new(std::process::id() as i32)
    }

    #[test]
    fn own_memory_is_read() {
        let words = [1u64, 2, 3];
        let address = words.as_ptr() as u64;
        assert_eq!(own().read_u64(address + 8), Ok(2));
        let mut seen = Vec::new();
        let places = [address, 8, address + 16].map(|address| Place { address, size: 8 });
        own().read_many(&places, |_, bytes| seen.push(bytes.map(<[u8]>::to_vec))).unwrap();
        let expected = [Some(1u64.to_le_bytes().to_vec()), None, Some(3u64.to_le_bytes().to_vec())];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let pid = own().pid();
        assert_eq!(own().read_u64(8), Err(MemoryError::Unmapped { pid, address: 8 }));
        assert_eq!(own().read_u64(u64::MAX - 3), Err(MemoryError::Unmapped { pid, address: u64::MAX - 3 }));
        // Above the largest pid that Linux gives out.
        assert_eq!(ProcessMemory::new(1 << 30).read_u64(8), Err(MemoryError::Gone(1 << 30)));
    }

    #[test]
    fn more_ranges_than_one_call_takes() {
        let words: Vec<u64> = (0..5000).collect();
        for stride in [1, 1000] {
            // Neighbours are one range, others are not.
            let order: Vec<usize> = (0..5000).map(|n| n * stride % 4999).collect();
            let places: Vec<Place> =
                order.iter().map(|n| Place { address: &words[*n] as *const u64 as u64, size: 8 }).collect();
            let mut seen = vec![0; 5000];
            let mut take = |index, bytes: Option<&[u8]>| {
                seen[index] = u64::from_le_bytes(bytes.unwrap().try_into().unwrap())
            };
            own().read_many(&places, &mut take).unwrap();
            assert!(seen.iter().zip(order).all(|(word, n)| *word == n as u64));
        }
    }

    #[test]
    fn a_run_with_a_hole_is_read_one_by_one() {
        let mut pages = memmap2::MmapMut::map_anon(8192).unwrap();
        let second = pages[4096..].as_mut_ptr();
        // SAFETY: it is a page of ours, and nothing looks at it.
        assert_eq!(unsafe { libc::mprotect(second.cast(), 4096, libc::PROT_NONE) }, 0);
        let pages = second as u64 - 4096;
        let places = [4000, 4088, 4100].map(|offset| Place { address: pages + offset, size: 8 });
        let mut seen = [None; 3];
        own().read_many(&places, |index, bytes| seen[index] = Some(bytes.is_some())).unwrap();
        assert_eq!(seen, [Some(true), Some(true), Some(false)]);
    }
}
