//! Runs a target again and again, keeps an input that breaks it, and says how to run that one alone.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use super::dice::Dice;

/// No input may take longer, also on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);

/// Something that is given damaged input.
pub struct Target<'a> {
    /// The name of the test.
    pub name: &'static str,
    /// What is changed.
    pub seeds: Vec<Vec<u8>>,
    /// The parts of each seed in which changes matter; all of it if there are none. Then its length stays.
    pub hot: Vec<Vec<Range<usize>>>,
    /// Takes an input. It must come back, and must not panic.
    pub run: &'a dyn Fn(&[u8]),
}

/// The seeds of a target that are kept in the repository: inputs that broke it once, and what is hard to come by.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The input that is being run, and since when.
type Running = Arc<Mutex<Option<(Instant, PathBuf)>>>;

/// Runs a target with all its seeds, and then with changes of them until the time is over.
pub fn fuzz(target: &Target) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    fs::create_dir_all(&directory).unwrap();
    let running = Running::default();
    watch(running.clone());
    let file = directory.join(format!("{}-{}", target.name, process::id()));
    let run = |input: &[u8]| {
        // It is there before the input is run, so that it is also kept if the process ends.
        fs::write(&file, input).unwrap();
        *running.lock().unwrap() = Some((Instant::now(), file.clone()));
        let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        *running.lock().unwrap() = None;
        assert!(ended.is_ok(), "{}", broken(target.name, &file));
    };
    if let Ok(input) = env::var("GOLIFE_FUZZ_INPUT") {
        return run(&fs::read(input).unwrap());
    }
    let seed = number("GOLIFE_FUZZ_SEED", u64::from(process::id()));
    let end = Instant::now() + Duration::from_secs(number("GOLIFE_FUZZ_SECONDS", 3));
    target.seeds.iter().for_each(|seed| run(seed));
    let mut dice = Dice::new(seed);
    let mut inputs = 0u64;
    while Instant::now() < end {
        let at = dice.below(target.seeds.len());
        let mut input = target.seeds[at].clone();
        dice.change(&mut input, target.hot.get(at).map_or(&[], Vec::as_slice));
        run(&input);
        inputs += 1;
    }
    println!("{}: {inputs} inputs from seed {seed}", target.name);
    assert!(inputs > 0);
    let _ = fs::remove_file(&file);
}

fn broken(name: &str, file: &Path) -> String {
    format!("this input breaks it: cargo xtask fuzz {name} --input {}", file.display())
}

/// Ends the process if an input takes too long: a thread that does not come back cannot be stopped.
fn watch(running: Running) {
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            if let Some((since, file)) = &*running.lock().unwrap()
                && since.elapsed() > LONGEST
            {
                let name = file.file_name().and_then(|name| name.to_str()?.split('-').next()).unwrap_or("");
                eprintln!("more than {LONGEST:?}; {}", broken(name, file));
                process::abort();
            }
        }
    });
}
