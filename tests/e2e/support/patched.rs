//! Tells whether probes are in a process.

use std::fs;
use std::os::unix::fs::FileExt;

/// How many bytes of a process's code differ from its file, since probes have replaced them.
pub fn patched_bytes(pid: u32) -> usize {
    let exe = fs::read(format!("/proc/{pid}/exe")).unwrap();
    let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
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
        let length = ((end - start) as usize).min(exe.len() - from);
        let mut code = vec![0; length];
        memory.read_exact_at(&mut code, start).unwrap();
        patched += code.iter().zip(&exe[from..]).filter(|(live, file)| live != file).count();
    }
    patched
}
