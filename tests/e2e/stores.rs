//! What golife keeps in a store: whole files that say what the report says, also where the store is away, refuses or hangs.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use golife::store::Place;
use nix::sys::signal::Signal;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::support::{
    Build, Moto, Running, attach, eventually, fixture, golife, interrupt, line_of, need_root, ready, run,
    stop,
};

/// The files of a store or a spool, by path.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// The rows of a sweep file.
fn rows(bytes: Vec<u8>) -> RecordBatch {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
    reader.map(Result::unwrap).next().unwrap()
}

fn text<'rows>(rows: &'rows RecordBatch, column: &str, row: usize) -> &'rows str {
    rows.column_by_name(column).unwrap().as_string::<i32>().value(row)
}

fn number(rows: &RecordBatch, column: &str, row: usize) -> i64 {
    rows.column_by_name(column).unwrap().as_primitive::<Int64Type>().value(row)
}

/// The row of the statement that the fixture marks.
fn row_of(rows: &RecordBatch, site: &str) -> usize {
    let line = line_of("leaky", site) as i32;
    let lines = rows.column_by_name("line").unwrap().as_primitive::<arrow_array::types::Int32Type>();
    (0..rows.num_rows()).find(|row| lines.is_valid(*row) && lines.value(*row) == line).unwrap()
}

fn leaky() -> Running {
    let mut leaky = ready(&fixture("leaky", Build::default()), &["-rate", "50", "-for", "5m"]);
    leaky.write("go");
    leaky
}

#[test]
fn a_trace_is_kept_whole() {
    need_root();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("fleet");
    let leaky = leaky();
    let pid = leaky.pid().to_string();
    let to = store.to_str().unwrap();
    let golife = attach(&[
        "trace",
        "--pid",
        &pid,
        "--format",
        "json",
        "--top",
        "1",
        "--to",
        to,
        "--host",
        "web/1",
        "--service",
        "payments",
    ]);
    std::thread::sleep(Duration::from_secs(1));
    let report = interrupt(golife);
    let sites = report["processes"][0]["sites"].as_array().unwrap();
    assert_eq!((sites.len(), &report["processes"][0]["service"]), (1, &"payments".into()));
    let files = files(&store);
    let [file] = &files[..] else { panic!("{files:?}") };
    let place = Place::parse(file.strip_prefix(&store).unwrap().to_str().unwrap()).unwrap();
    assert_eq!(place.host, "web_1");
    let rows = rows(fs::read(file).unwrap());
    let [leak, pool] = ["leak", "pool"].map(|site| row_of(&rows, site));
    assert_eq!(text(&rows, "host", leak), "web/1");
    assert_eq!((text(&rows, "service", pool), text(&rows, "counts", pool)), ("payments", "exact"));
    let of_report = |field: &str| sites[0][field].as_i64().unwrap();
    assert_eq!(sites[0]["site"]["line"], line_of("leaky", "leak"));
    for field in ["created", "exited", "live", "at_attach"] {
        assert_eq!(number(&rows, field, leak), of_report(field), "{field}");
    }
    assert_eq!(number(&rows, "pid", leak).to_string(), pid);
    assert_eq!(number(&rows, "live", pool), 4);
    let healthy = row_of(&rows, "healthy");
    assert_eq!(number(&rows, "lifetime_count", healthy), number(&rows, "exited", healthy));
}

#[test]
fn each_sweep_counts_what_came_since_the_one_before() {
    need_root();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("fleet");
    let leaky = leaky();
    let mut command = golife();
    let pid = leaky.pid().to_string();
    command.args(["sweep", "--pid", &pid, "--every", "1s", "--to"]).arg(&store);
    let golife = Running::start(&mut command);
    eventually("four sweeps", || files(&store).len() >= 4);
    let ended = stop(golife);
    assert!(ended.stderr.contains("stored "), "{ended:?}");
    let all: Vec<_> = files(&store).into_iter().map(|file| rows(fs::read(file).unwrap())).collect();
    for pair in all.windows(2) {
        let [before, now] = [&pair[0], &pair[1]].map(|rows| {
            let leak = row_of(rows, "leak");
            ["live", "created", "at_attach", "oldest_ns", "window_ns"].map(|name| number(rows, name, leak))
        });
        assert!(now[0] > before[0] && now[1] == now[0] - before[0], "{before:?} {now:?}");
        assert_eq!(now[2], before[0], "{before:?} {now:?}");
        assert!(now[3] > before[3], "the oldest is older: {before:?} {now:?}");
        assert!(now[4] < 5_000_000_000, "{now:?}");
    }
}

#[test]
fn what_a_store_does_not_take_waits_for_the_next_golife() {
    need_root();
    let folder = tempfile::tempdir().unwrap();
    let [store, spool] = ["fleet", "spool"].map(|name| folder.path().join(name));
    let leaky = leaky();
    let pid = leaky.pid().to_string();
    // The address is taken, and nobody who listens there ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let sweep = |to: &str, endpoint: &str| {
        let mut command = golife();
        let arguments =
            ["sweep", "--format", "json", "--pid", &pid, "--store-timeout", "1s", "--to", to, "--spool"];
        command.args(arguments).arg(&spool);
        command.envs([
            ("AWS_ENDPOINT", endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_REGION", "us-east-1"),
        ]);
        Running::start(&mut command).wait()
    };
    let s3 = "s3://fleet/prod";
    for endpoint in [format!("http://{}", silent.local_addr().unwrap()), "http://127.0.0.1:1".into()] {
        let ended = sweep(s3, &endpoint);
        ended.expect_error(
            1,
            &["the sweep waits in", "for the next golife with this --to: cannot write to", s3],
        );
        assert_eq!(
            ended.report()["processes"].as_array().unwrap().len(),
            1,
            "the report is there all the same"
        );
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
    assert_eq!(files(&spool).len(), 2);
    let moto = Moto::start();
    moto.make_bucket("fleet");
    let ended = sweep(s3, &moto.endpoint);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.contains("sent 2 sweeps that had waited"), "{ended:?}");
    assert_eq!(files(&spool).len(), 0);
    assert_eq!(moto.list("fleet").matches("<Key>prod/sites/dt=").count(), 3);
    // Another store has a spool of its own.
    let ended = sweep(store.to_str().unwrap(), &moto.endpoint);
    assert_eq!((ended.status.code(), files(&store).len()), (Some(0), 1), "{ended:?}");
    // A bucket that is not there.
    sweep("s3://other/prod", &moto.endpoint).expect_error(1, &["s3://other/prod", "404"]);
}

#[test]
fn a_golife_that_is_killed_leaves_no_half_file() {
    need_root();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("fleet");
    let leaky = leaky();
    let pid = leaky.pid().to_string();
    let whole = || {
        let is_whole = |path: &PathBuf| path.extension() == Some("parquet".as_ref());
        files(&store).into_iter().filter(is_whole).collect::<Vec<_>>()
    };
    for after in 0..20 {
        let mut command = golife();
        let golife =
            Running::start(command.args(["sweep", "--pid", &pid, "--every", "30ms", "--to"]).arg(&store));
        eventually("a sweep", || whole().len() > after);
        std::thread::sleep(Duration::from_millis(7 * after as u64 % 40));
        golife.signal(Signal::SIGKILL);
        golife.wait();
    }
    let whole = whole();
    assert!(whole.len() >= 20, "{whole:?}");
    whole.into_iter().for_each(|path| assert!(rows(fs::read(path).unwrap()).num_rows() > 0));
}

#[test]
fn secrets_of_a_command_line_are_left_out() {
    need_root();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("fleet");
    let leaky = leaky();
    let pid = leaky.pid().to_string();
    let to = store.to_str().unwrap();
    let said = run(&["sweep", "--format", "json", "--pid", &pid]);
    assert!(said.stdout.contains("-rate 50"), "{said:?}");
    let said = run(&["sweep", "--format", "json", "--pid", &pid, "--redact", "command,labels", "--to", to]);
    assert!(
        said.report()["processes"][0]["command"].is_null() && !said.stdout.contains("-rate 50"),
        "{said:?}"
    );
    let bytes = fs::read(&files(&store)[0]).unwrap();
    assert!(!bytes.windows(8).any(|part| part == b"-rate 50"));
    run(&["sweep", "--pid", &pid, "--to", "s3://key:hunter2@bucket"]).expect_error(1, &["environment"]);
}
