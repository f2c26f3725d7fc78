//! Tells whether probes are in a process.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::{eventually, patience};

/// How many bytes of a process's code differ from its file, since probes have replaced them.
pub fn patched_bytes(pid: u32) -> usize {
    let exe = fs::read(format!("/proc/{pid}/exe")).unwrap();
    patched_bytes_of(&exe, &fs::read_link(format!("/proc/{pid}/exe")).unwrap(), pid)
}

/// How many bytes of a library in a process differ from its file.
pub fn patched_bytes_in(library: &Path, pid: u32) -> usize {
    patched_bytes_of(&fs::read(library).unwrap(), library, pid)
}

fn patched_bytes_of(content: &[u8], path: &Path, pid: u32) -> usize {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut patched = 0;
    for map in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
        let mut words = map.split_whitespace();
        let (range, rights, offset) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        if !rights.contains('x') || !map.ends_with(path.to_str().unwrap()) {
            continue;
        }
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = range.split_once('-').map(|(start, end)| (hex(start), hex(end))).unwrap();
        let from = hex(offset) as usize;
        let length = ((end - start) as usize).min(content.len() - from);
        let mut code = vec![0; length];
        memory.read_exact_at(&mut code, start).unwrap();
        patched += code.iter().zip(&content[from..]).filter(|(live, file)| live != file).count();
    }
    patched
}

/// Waits until a process has all its probes. They come in two steps at least, those for ends first; before Linux 6.10 each by
/// itself. So all are in place when no more come.
pub fn wait_for_probes(pid: u32) {
    let mut before = 0;
    eventually("it has probes", || {
        std::thread::sleep(Duration::from_millis(30) * patience());
        let now = patched_bytes(pid);
        now > 0 && std::mem::replace(&mut before, now) == now
    });
}
