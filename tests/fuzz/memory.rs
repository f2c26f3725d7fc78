//! The memory of a process that lies. A Go program is stopped, and numbers in its runtime's memory become others.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use golife::inspect::{Depth, WalkLimits};
use golife::look::Look;
use golife::targets::{Binaries, Subject};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::driver::{Target, fuzz};
use super::programs::build;

/// The program, which ends with this.
struct Liar(Child);

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Most words of all that can be changed.
const MOST_WORDS: usize = 1 << 16;

/// Addresses of the words that a look reads: the list of goroutines, each `runtime.g`, what it waits on, and its stack.
fn words(subject: &Subject, memory: &File) -> Vec<u64> {
    let snapshot = subject.scan(WalkLimits::default(), Depth::Objects).unwrap();
    let word = |address: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, address).ok().map(|()| u64::from_le_bytes(bytes))
    };
    let is_g = |address| snapshot.goroutines.iter().any(|goroutine| goroutine.address == address);
    let mut words = Vec::new();
    // What points to an array of goroutines is the list, and after it is its length. Where the heap begins is random from
    // Go 1.26 on, so nothing is known of the pointer but what it points to.
    let mut maps = String::new();
    File::open(format!("/proc/{}/maps", subject.process.pid)).unwrap().read_to_string(&mut maps).unwrap();
    let of_program = maps.lines().filter(|line| line.contains("rw") && line.contains("fuzz-"));
    for (start, end) in of_program.filter_map(|line| line.split(' ').next()?.split_once('-')) {
        let bound = |text| u64::from_str_radix(text, 16).unwrap();
        for address in (bound(start)..bound(end)).step_by(8) {
            if let Some(list) = word(address)
                && list.is_multiple_of(8)
                && word(list).is_some_and(is_g)
            {
                words.extend([address, address + 8, address + 16, list, list + 8, list + 16]);
            }
        }
    }
    assert!(!words.is_empty(), "no list of goroutines in\n{maps}");
    for goroutine in &snapshot.goroutines {
        let g = goroutine.address;
        words.extend((0..56).map(|at| g + 8 * at));
        let objects = snapshot.objects(goroutine).iter();
        words.extend(objects.flat_map(|object| (0..12).map(|at| object.address() + 8 * at)));
        // Of the stack the innermost words: its bounds are the first two words of a `g`.
        let stack = word(g).unwrap()..word(g + 8).unwrap();
        words.extend(stack.rev().step_by(8).take(64).map(|address| address & !7));
    }
    words.truncate(MOST_WORDS);
    words
}

#[test]
fn memory() {
    let mut child = Command::new(build("queues", "liar", &[]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let liar = Liar(child);
    let pid = liar.0.id();
    std::thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(pid as i32), Signal::SIGSTOP).unwrap();
    let subject = Binaries::default().subject(pid).unwrap();
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
    let words = words(&subject, &memory);

    // Each lie is the number of a word and what it becomes. Afterwards all is as it was.
    let run = |input: &[u8]| {
        let mut before = Vec::new();
        for lie in input.as_chunks::<10>().0.iter().take(64) {
            let number = usize::from(u16::from_le_bytes([lie[0], lie[1]]));
            let address = words[number % words.len()];
            let mut old = [0; 8];
            if memory.read_exact_at(&mut old, address).is_ok() && memory.write_at(&lie[2..], address).is_ok()
            {
                before.push((address, old));
            }
        }
        let earlier = Look::at(&subject, None, Instant::now() + Duration::from_millis(500));
        if let Ok(look) = earlier {
            let _ =
                Look::at(&subject, Some(&look.findings.places), Instant::now() + Duration::from_millis(500));
        }
        for (address, old) in before.into_iter().rev() {
            memory.write_all_at(&old, address).unwrap();
        }
    };
    let lie = |word: u16, value: u64| [&word.to_le_bytes()[..], &value.to_le_bytes()].concat();
    let length = (0..6).map(|word| lie(word, u64::MAX));
    let stacks = (0..60).map(|word| lie(word * 97, 1 << 47));
    let seeds = length.chain([stacks.collect::<Vec<_>>().concat()]).collect();
    fuzz(&Target { name: "memory", seeds, hot: Vec::new(), run: &run });
}
