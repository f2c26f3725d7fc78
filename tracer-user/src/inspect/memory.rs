//! Reads the memory of another process from outside, without stopping it, with `process_vm_readv`:
//! <https://man7.org/linux/man-pages/man2/process_vm_readv.2.html>. Memory that is kept beyond the end of its process is
//! read from its file.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use crate::host::capabilities::ptrace_remedy;

/// Most ranges that the kernel takes in one call (`UIO_MAXIOV`).
const MAX_RANGES: usize = 1024;

/// Most bytes that one call reads: they are parsed right after it, and should still be in the processor's own cache
/// then.
const MAX_BYTES: usize = 256 << 10;
/// Places with a larger gap between them are read as two ranges: one more range costs about as much as copying this
/// many bytes.
const MAX_GAP: u64 = 2048;
/// Most bytes of one run of places.
const MAX_RUN: usize = 64 << 10;

/// A range of bytes to read from another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address of the first byte in the other process.
    pub address: u64,
    /// Number of bytes. All of them are held in memory at once, so this should be small.
    pub size: usize,
}

/// Neighbouring places that are read as one range.
#[derive(Debug)]
struct Run {
    address: u64,
    size: usize,
    places: std::ops::Range<usize>,
}

impl Run {
    /// Groups as many places into runs as one call can read, and returns how many places those are. `first` is the
    /// index that `places[0]` has in the caller's list.
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
    /// The kernel denies access to the memory of the process with this id.
    #[error("cannot read the memory of process {0}: permission denied; {why}", why = ptrace_remedy())]
    Permission(i32),
    /// The process with this id has ended.
    #[error("cannot read the memory of process {0}: it has ended")]
    Gone(i32),
    /// Nothing is mapped at the address that was to be read.
    #[error("cannot read the memory of process {pid} at {address:#x}: nothing is mapped there")]
    Unmapped {
        /// Id of the process.
        pid: i32,
        /// The address at which nothing is mapped.
        address: u64,
    },
    /// The kernel reported another error.
    #[error("cannot read the memory of process {pid}: {errno}")]
    Other {
        /// Id of the process.
        pid: i32,
        /// The error that the kernel reported.
        errno: Errno,
    },
}

/// The memory of one process.
#[derive(Clone, Debug)]
pub struct ProcessMemory {
    pid: i32,
    /// The same as a file, where it is kept beyond the end of the process.
    kept: Option<Arc<File>>,
}

impl ProcessMemory {
    /// The memory of the process that has this id in golife's pid namespace. Nothing is opened or checked yet.
    pub fn new(pid: i32) -> ProcessMemory {
        ProcessMemory { pid, kept: None }
    }

    /// The same memory, which is read from its file once the process has ended: see [`crate::host::keeper`].
    pub fn kept(self, kept: Option<Arc<File>>) -> ProcessMemory {
        ProcessMemory { kept, ..self }
    }

    /// Id of the process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Fills the buffer with the bytes at an address.
    ///
    /// # Errors
    /// Any [`MemoryError`]; if only a part of the range is mapped, it is [`MemoryError::Unmapped`].
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

    /// Reads eight bytes as a little-endian number.
    ///
    /// # Errors
    /// Any [`MemoryError`].
    pub fn read_u64(&self, address: u64) -> Result<u64, MemoryError> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// Does what [`Reader::read_many`] does, with buffers that are used once.
    ///
    /// # Errors
    /// The same as those of [`Reader::read_many`].
    pub fn read_many(
        &self,
        places: &[Place],
        found: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), MemoryError> {
        Reader::new(self.clone()).read_many(places, found)
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

    /// Returns how many bytes could be read, which is 0 if the first one is not mapped.
    fn read_ranges(&self, ranges: &[RemoteIoVec], buffer: &mut [u8]) -> Result<usize, MemoryError> {
        let local = &mut [IoSliceMut::new(buffer)];
        match process_vm_readv(Pid::from_raw(self.pid), local, ranges) {
            Ok(read) => Ok(read),
            // EINVAL is returned for an address that no process can have: it makes the kernel's sum of the lengths
            // overflow.
            Err(Errno::EFAULT | Errno::EINVAL) => Ok(0),
            Err(Errno::EPERM | Errno::EACCES) => Err(MemoryError::Permission(self.pid)),
            Err(Errno::ESRCH) => match &self.kept {
                Some(kept) => self.read_kept(kept, ranges, local),
                None => Err(MemoryError::Gone(self.pid)),
            },
            Err(errno) => Err(MemoryError::Other { pid: self.pid, errno }),
        }
    }

    /// Reads from the file of memory that is kept, one range after the other.
    fn read_kept(
        &self,
        kept: &File,
        ranges: &[RemoteIoVec],
        local: &mut [IoSliceMut],
    ) -> Result<usize, MemoryError> {
        let Some(buffer) = local.first_mut() else { return Ok(0) };
        let mut done = 0;
        for range in ranges {
            let Some(bytes) = buffer.get_mut(done..done + range.len) else { break };
            match kept.read_at(bytes, range.base as u64) {
                // It was let go.
                Ok(0) if range.len > 0 => return Err(MemoryError::Gone(self.pid)),
                Ok(read) => {
                    done += read;
                    if read < range.len {
                        break;
                    }
                }
                // Nothing is mapped there.
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

/// Reads many places of a process, and keeps its buffers from one call to the next: to touch fresh memory for the first
/// time costs more than to copy data into it.
#[derive(Debug)]
pub struct Reader {
    memory: ProcessMemory,
    runs: Vec<Run>,
    ranges: Vec<RemoteIoVec>,
    buffer: Vec<u8>,
}

impl Reader {
    /// A reader for this process, with empty buffers.
    pub fn new(memory: ProcessMemory) -> Reader {
        Reader { memory, runs: Vec::new(), ranges: Vec::new(), buffer: Vec::new() }
    }

    /// Reads many places with few system calls. Calls `found` for each place with its index and its bytes, or with none
    /// if a part of it is not mapped, and not necessarily in the order of the list. Places that follow each other
    /// closely both in memory and in the list are read as one range.
    ///
    /// # Errors
    /// [`MemoryError::Permission`], [`MemoryError::Gone`] and [`MemoryError::Other`] end the reading. A place that is
    /// not mapped is no error.
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
            // The kernel stops at the first range that it cannot read, so all ranges before that one are complete.
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
        // This number is above the largest pid that Linux gives out.
        assert_eq!(ProcessMemory::new(1 << 30).read_u64(8), Err(MemoryError::Gone(1 << 30)));
    }

    #[test]
    fn more_ranges_than_one_call_takes() {
        let words: Vec<u64> = (0..5000).collect();
        for stride in [1, 1000] {
            // With a stride of 1 neighbours are read as one range; with 1000 no two places are.
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
        // SAFETY: the page belongs to this test, and nothing in this process reads or writes it.
        assert_eq!(unsafe { libc::mprotect(second.cast(), 4096, libc::PROT_NONE) }, 0);
        let pages = second as u64 - 4096;
        let places = [4000, 4088, 4100].map(|offset| Place { address: pages + offset, size: 8 });
        let mut seen = [None; 3];
        own().read_many(&places, |index, bytes| seen[index] = Some(bytes.is_some())).unwrap();
        assert_eq!(seen, [Some(true), Some(true), Some(false)]);
    }
}
