//! The memory of another process, read from outside without stopping it: `process_vm_readv(2)`.

use std::io::IoSliceMut;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// The kernel takes no more ranges in one call (`UIO_MAXIOV`).
const MAX_RANGES: usize = 1024;

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

    /// Reads `size` bytes at each address, with one system call for many, and hands each to `found` in order, or
    /// none where they are not all mapped.
    ///
    /// # Errors
    /// [`MemoryError::Permission`], [`MemoryError::Gone`] and [`MemoryError::Other`] end the walk.
    pub fn read_each(
        &self,
        addresses: &[u64],
        size: usize,
        mut found: impl FnMut(u64, Option<&[u8]>),
    ) -> Result<(), MemoryError> {
        let mut buffer = vec![0; size * addresses.len().min(MAX_RANGES)];
        let mut rest = addresses;
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(MAX_RANGES)];
            let ranges: Vec<_> =
                batch.iter().map(|address| RemoteIoVec { base: *address as usize, len: size }).collect();
            // The kernel stops at the first range that it cannot read; whole ranges before it are good.
            let whole = self.read_ranges(&ranges, &mut buffer[..size * batch.len()])? / size.max(1);
            for (address, bytes) in batch.iter().zip(buffer.chunks_exact(size)).take(whole) {
                found(*address, Some(bytes));
            }
            let mut done = whole;
            if let Some(unreadable) = batch.get(whole) {
                found(*unreadable, None);
                done += 1;
            }
            rest = &rest[done..];
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
        own()
            .read_each(&[address, 8, address + 16], 8, |_, bytes| seen.push(bytes.map(<[u8]>::to_vec)))
            .unwrap();
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
        let addresses: Vec<u64> = words.iter().map(|word| word as *const u64 as u64).collect();
        let mut seen = Vec::new();
        own()
            .read_each(&addresses, 8, |_, bytes| {
                seen.push(u64::from_le_bytes(bytes.unwrap().try_into().unwrap()))
            })
            .unwrap();
        assert_eq!(seen, words);
    }
}
