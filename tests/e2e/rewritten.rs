//! Files that are written under their probes: whatever is started from them next must run as without golife.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::support::*;

/// How often a new version is written and started in each place.
const VERSIONS: usize = 50;

/// Two programs whose code differs at the places of each other's probes.
fn versions() -> [PathBuf; 2] {
    let unoptimised = Build { unoptimised: true, ..Build::default() };
    [fixture("tiny", Build::default()), fixture("tiny", unoptimised)]
}

/// A directory that is a mount of its own, until it is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(mount: impl Fn(&Path) -> String) -> Mounted {
        let directory = tempfile::tempdir().unwrap();
        let script = mount(directory.path());
        let status = Command::new("sh").args(["-ec", &script]).status().unwrap();
        assert!(status.success(), "{script}");
        Mounted(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let place = self.path().display();
        let _ = Command::new("sh").args(["-c", &format!("umount {place}/over; umount {place}")]).output();
    }
}

fn tmpfs() -> Mounted {
    Mounted::new(|place| format!("mount -t tmpfs none {}", place.display()))
}

/// An overlay over a tmpfs: its lower layer has the file `below`, its upper one the file `above`.
fn overlay() -> Mounted {
    let program = versions()[0].display().to_string();
    Mounted::new(|place| {
        format!(
            "cd {} && mount -t tmpfs none . && cd \"$PWD\" && mkdir lower upper work over && \
             cp {program} lower/below && \
             mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay over && cp {program} over/above",
            place.display()
        )
    })
}

/// Writes a file anew without another inode. Returns how long the opening took.
fn write_in_place(path: &Path, content: &[u8]) -> Duration {
    use std::io::Write;
    let start = Instant::now();
    let mut file = File::options().write(true).truncate(true).open(path).unwrap();
    let waited = start.elapsed();
    file.write_all(content).unwrap();
    waited
}

/// Writes the versions in turn over a program that has probes, and starts each.
fn rewrite_and_start(path: &Path) {
    let contents = versions().map(|version| fs::read(version).unwrap());
    let golife = attach(&["trace", "--format", "json", "--exe", path.to_str().unwrap()]);
    let mut longest = Duration::ZERO;
    for version in 0..VERSIONS {
        longest = longest.max(write_in_place(path, &contents[(version + 1) % 2]));
        let run = std::panic::AssertUnwindSafe(|| run_traced(path));
        if let Err(panic) = std::panic::catch_unwind(run) {
            println!("version {version} of {}: {:?}", path.display(), stop(golife));
            std::panic::resume_unwind(panic);
        }
    }
    let ended = stop(golife);
    let report = ended.report();
    let processes = report["processes"].as_array().unwrap();
    assert_eq!(processes.len(), VERSIONS, "{report:#}");
    for process in processes {
        let sites = process["sites"].as_array().unwrap();
        let own = sites.iter().filter(|site| site["site"]["function"] == "main.main");
        let created: u64 = own.map(|site| site["created"].as_u64().unwrap()).sum();
        assert_eq!(created, 2, "{process:#}");
    }
    assert!(ended.stderr.contains("is being written"), "{}", ended.stderr);
    println!("{}: a writer waited {longest:?} at most", path.display());
    assert!(longest < Duration::from_secs(1), "a writer waited {longest:?}");
}

/// Runs a program to its end, once it is traced.
fn run_traced(path: &Path) {
    let mut running = ready(path, &[]);
    wait_for_probes(running.pid());
    running.write("go");
    truth("tiny", &running.line());
    running.close_stdin();
    let ended = running.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

#[test]
fn a_program_that_is_written_in_place_runs_as_without_golife() {
    need_root();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("program");
    fs::copy(&versions()[0], &path).unwrap();
    rewrite_and_start(&path);
}

#[test]
fn a_program_on_a_tmpfs_can_be_written_in_place() {
    need_root();
    let tmpfs = tmpfs();
    let path = tmpfs.path().join("program");
    fs::copy(&versions()[0], &path).unwrap();
    rewrite_and_start(&path);
}

#[test]
fn a_program_on_an_overlay_can_be_written_in_place() {
    need_root();
    let overlay = overlay();
    for layer in ["below", "above"] {
        rewrite_and_start(&overlay.path().join("over").join(layer));
    }
}

/// If golife is stopped, the guard lets it go on for as long as it takes to take the probes off.
#[test]
fn a_stopped_golife_keeps_no_writer_waiting() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    let [old, new] = versions();
    fs::copy(old, &path).unwrap();
    let mut golife = attach(&["trace", "--format", "json", "--exe", path.to_str().unwrap()]);
    golife.signal(Signal::SIGSTOP);
    let waited = write_in_place(&path, &fs::read(new).unwrap());
    assert!(waited < Duration::from_secs(2), "a writer waited {waited:?}");
    println!("a writer waited {waited:?} for a stopped golife");
    let mut running = ready(&path, &[]);
    running.write("go");
    truth("tiny", &running.line());
    let state = || fs::read_to_string(format!("/proc/{}/stat", golife.pid())).unwrap();
    assert!(state().contains(") T "), "it is stopped again: {}", state());
    golife.expect_alive();
    golife.signal(Signal::SIGCONT);
    let ended = stop(golife);
    assert!(ended.stderr.contains("is being written"), "{}", ended.stderr);
    running.close_stdin();
    assert_eq!(running.wait().status.code(), Some(0));
}

/// The kernel lets a library be written under the processes that have loaded it. They are not traced any more.
#[test]
fn a_library_that_is_written_under_a_process_ends_its_tracing() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("library.so");
    fs::copy(fixture("counts", Build { way: Way::Library, ..Build::default() }), &path).unwrap();
    let mut running = ready_as(Command::new(loader()).arg(&path));
    let golife = attach(&["trace", "--format", "json", "--exe", path.to_str().unwrap()]);
    assert!(patched_bytes_in(&path, running.pid()) > 0);
    // With the same content, the process is not harmed.
    let content = fs::read(&path).unwrap();
    std::io::Write::write_all(&mut File::options().write(true).open(&path).unwrap(), &content).unwrap();
    assert_eq!(patched_bytes_in(&path, running.pid()), 0);
    running.write("go");
    truth("counts", &running.line());
    let ended = stop(golife);
    assert!(ended.stderr.contains("one process that runs it is not traced any more"), "{}", ended.stderr);
    let detail = only_process(&ended.report())["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("not traced any more"), "{detail}");
}

/// A plan of another content would put probes into the middle of instructions.
#[test]
fn a_file_that_was_written_since_it_was_read_gets_no_probes() {
    use golife::host::guard::Guard;
    use golife::probes::{Loading, Probes, Scope};
    use golife::targets::Binaries;
    use golife::trace::attachments::Attachments;
    use golife::trace::session::Session;
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    let content = fs::read(&versions()[0]).unwrap();
    fs::copy(&versions()[0], &path).unwrap();
    let (probes, _ring) = Probes::load(Loading { ring_bytes: Some(4096), creation_stacks: false }).unwrap();
    let mut session = Session::new(Binaries::default(), Attachments::new(probes, Guard::start()));
    let planned = session.binaries.plan(File::open(&path).unwrap(), &path).unwrap();
    write_in_place(&path, &content);
    let error = session.attachments.attach(&planned, Scope::Everyone).unwrap_err().to_string();
    assert!(error.contains("written while golife read it"), "{error}");
    assert!(session.attachments.files().is_empty());
    session.ask_for(&File::open(&path).unwrap(), &path).unwrap();
    assert_eq!(session.attachments.files().len(), 1);
    // A file that is touched while it is read is read once more.
    for after in (0..30).map(|at| Duration::from_millis(at * 2)) {
        fs::copy(&versions()[0], path.with_file_name(format!("{after:?}"))).unwrap();
        let path = path.with_file_name(format!("{after:?}"));
        let file = File::open(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(after);
                file.set_modified(std::time::SystemTime::now()).unwrap();
            });
            let asked_for = session.ask_for(&file, &path);
            assert!(asked_for.is_ok(), "touched after {after:?}: {asked_for:?}");
        });
    }
    assert_eq!(session.attachments.files().len(), 31);
}

/// Where there is no lease, each process gets its probes for itself.
#[test]
fn without_a_lease_each_process_has_its_own_probes() {
    need_root();
    let library = fixture("counts", Build { way: Way::Library, ..Build::default() });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("library.so");
    fs::copy(&library, &path).unwrap();
    let mut running = ready_as(Command::new(loader()).arg(&path));
    // The kernel lets a library be written that a process has loaded.
    let writer = File::options().write(true).open(&path).unwrap();
    let mut golife = attach(&["trace", "--format", "json", "--exe", path.to_str().unwrap()]);
    eventually("it has probes", || patched_bytes_in(&path, running.pid()) > 0);
    drop(writer);
    // Another process that loads the file gets none at once, so that a new version of the file would be safe.
    let other = ready_as(Command::new(loader()).arg(&path));
    assert_eq!(patched_bytes_in(&path, other.pid()), 0);
    running.write("go");
    let truth = truth("counts", &running.line());
    golife.expect_alive();
    let ended = stop(golife);
    assert!(ended.stderr.contains("no lease on the file"), "{}", ended.stderr);
    let report = ended.report();
    let process =
        report["processes"].as_array().unwrap().iter().find(|it| it["pid"] == running.pid()).unwrap();
    assert_eq!(reported("counts", process), truth);
}
