//! `golife fleet` over S3: as over a folder, and where keys are wrong, or the store is away, refuses, hangs or breaks off.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use golife::report::Level;
use golife::store::{Place, Row, SweepFile};
use serde_json::Value;

use super::support::{Ended, Moto, Running, golife};

/// 2026-11-02T00:00:00Z.
const START_MS: i64 = 1_793_577_600_000;
const HOUR_MS: i64 = 3_600_000;
const STORE: &str = "s3://fleet/prod";

/// A store with three hosts that swept in each of two hours.
fn filled() -> Moto {
    filled_by(&["a", "b", "c"])
}

fn filled_by(hosts: &[&str]) -> Moto {
    let moto = Moto::start();
    moto.make_bucket("fleet");
    for (host, hour) in hosts.iter().flat_map(|host| [0, 1].map(|hour| (*host, hour))) {
        let time = START_MS + hour * HOUR_MS;
        let row = Row {
            sweep_time_ms: time,
            host: host.into(),
            service: "api".into(),
            function: "main.leak".into(),
            ordinal: Some(1),
            entry: "main.leak.func1".into(),
            created: 10,
            exited: 5,
            live: 100 + hour as u64,
            level: Level::Suspect,
            cause: Some("chan-send".into()),
            lifetime: vec![(0, 5)],
            lifetime_count: 5,
            lifetime_sum_s: 4.0,
            window_ns: 60_000_000_000,
            ..Row::default()
        };
        let file = SweepFile::new(Place::new(host, time, 1), vec![row]).unwrap();
        let local = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(local.path(), &file.bytes).unwrap();
        moto.put(&format!("fleet/prod/{}", file.place), local.path());
    }
    moto
}

fn ask(endpoint: &str, arguments: &[&str]) -> Ended {
    let mut command = golife();
    command.arg("fleet").args(arguments).envs([
        ("AWS_ENDPOINT", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "AKIAHUNTER"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_REGION", "us-east-1"),
    ]);
    let ended = Running::start(&mut command).wait();
    assert!(!format!("{ended:?}").to_lowercase().contains("hunter"), "{ended:?}");
    ended
}

fn answer(endpoint: &str, arguments: &[&str]) -> Value {
    let ended = ask(endpoint, &[arguments, &["--format", "json"]].concat());
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

const LEAKS: [&str; 4] = ["leaks", STORE, "--since", "2026-11-01"];

#[test]
fn a_bucket_is_asked_and_kept_in_order_as_a_folder_is() {
    let moto = filled();
    let endpoint = moto.endpoint.as_str();
    let rows = || {
        answer(endpoint, &["sql", STORE, "SELECT count(*) AS n, sum(live) AS live FROM sites"])["rows"][0]
            .clone()
    };
    let expected = serde_json::json!({ "n": 6, "live": 603 });
    assert_eq!(rows(), expected);
    let leaks = || answer(endpoint, &LEAKS)["findings"].as_array().unwrap().clone();
    let found = leaks();
    assert_eq!(
        (found.len(), &found[0]["hosts"], &found[0]["state"]),
        (1, &3.into(), &"new".into()),
        "{found:?}"
    );
    assert_eq!(leaks()[0]["state"], "new", "the same sweeps say the same");
    assert_eq!(moto.list("fleet").matches("<Key>prod/state/findings/").count(), 1, "written once");
    let id = found[0]["id"].as_str().unwrap();
    ask(endpoint, &["ack", STORE, id, "--until", "2999-01-01", "--why", "known"]);
    assert_eq!(leaks(), [] as [Value; 0]);
    ask(endpoint, &["unack", STORE, id]);
    assert_eq!(leaks().len(), 1);
    assert_eq!(answer(endpoint, &["hist", STORE])["groups"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer(endpoint, &["check", STORE])["hosts"], 3);
    answer(endpoint, &["compact", STORE]);
    let count = |folder: &str| moto.list("fleet").matches(&format!("<Key>prod/{folder}/")).count();
    assert_eq!((count("compact"), count("sites"), rows()), (2, 6, expected.clone()));
    answer(endpoint, &["expire", STORE, "--keep", "3650d"]);
    assert_eq!((count("compact"), count("sites"), rows()), (2, 0, expected));
}

#[test]
fn what_is_wrong_with_a_store_is_said_once_with_what_to_do() {
    let moto = Moto::start_locked();
    moto.make_bucket("fleet");
    let open = Moto::start();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for (endpoint, words) in [
        (
            moto.endpoint.as_str(),
            "403 Forbidden: InvalidAccessKeyId: The AWS Access Key Id you provided does not exist",
        ),
        (&moto.endpoint, "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION"),
        (&open.endpoint, "NoSuchBucket"),
        (&open.endpoint, "is there such a bucket?"),
        ("http://127.0.0.1:1", "look at AWS_ENDPOINT"),
        (&silent, "look at AWS_ENDPOINT and the network, or raise --store-timeout"),
    ] {
        for command in [&LEAKS[..], &["check", STORE], &["compact", STORE]] {
            let ended = ask(endpoint, &[command, &["--store-timeout", "2s"]].concat());
            ended.expect_error(1, &[&format!("golife-fleet: {STORE}: cannot list "), words]);
            assert_eq!(
                ended.stderr.trim().lines().filter(|line| !line.starts_with("note: ")).count(),
                1,
                "{ended:?}"
            );
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Refused,
    Cut,
    Hangs,
}

/// What becomes of a request, by its first line.
type Faults = Mutex<Box<dyn FnMut(&str) -> Fault + Send>>;

/// Stands between golife and a store, and does to requests what a test says.
struct Proxy {
    endpoint: String,
    fault: Arc<Faults>,
}

impl Proxy {
    fn start(store: &Moto) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let fault: Arc<Faults> = Arc::new(Mutex::new(Box::new(|_| Fault::None)));
        let (address, faults) = (store.endpoint.replace("http://", ""), fault.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (address, faults) = (address.clone(), faults.clone());
                // Whoever has asked may be gone.
                std::thread::spawn(move || _ = pass_on(client.unwrap(), &address, &faults));
            }
        });
        Proxy { endpoint, fault }
    }

    /// From now on, this becomes of requests, by their first line.
    fn set(&self, fault: impl FnMut(&str) -> Fault + Send + 'static) {
        *self.fault.lock().unwrap() = Box::new(fault);
    }
}

fn pass_on(client: TcpStream, store: &str, fault: &Faults) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let head = head(&mut client)?;
    let mut body = vec![0; length(&head)];
    client.read_exact(&mut body)?;
    let mut client = client.into_inner();
    let fault = fault.lock().unwrap()(head.lines().next().unwrap_or_default());
    match fault {
        Fault::Hangs => return client.read(&mut [0]).map(|_| ()),
        Fault::Refused => {
            return client
                .write_all(b"HTTP/1.1 503 Slow Down\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlate");
        }
        Fault::None | Fault::Cut => {}
    }
    let mut server = TcpStream::connect(store)?;
    let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    server.write_all(format!("{first}\r\nconnection: close\r\n{rest}\r\n").as_bytes())?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let end = if fault == Fault::Cut { answer.len() - answer.len() / 8 } else { answer.len() };
    client.write_all(&answer[..end])
}

/// The lines before a body, without the empty one.
fn head(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while from.read_line(&mut head)? > 2 {}
    let end = head.len().saturating_sub(2);
    // Connections are used once.
    Ok(head[..end]
        .split_inclusive("\r\n")
        .filter(|line| !line.to_lowercase().starts_with("connection:"))
        .collect())
}

fn length(head: &str) -> usize {
    head.lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0)
}

#[test]
fn what_a_store_does_not_hand_out_is_left_out_by_name_and_not_taken_for_gone() {
    let moto = filled();
    let proxy = Proxy::start(&moto);
    let is_of = |line: &str, host: &str| line.starts_with("GET ") && line.contains(&format!("/{host}-2026"));
    let state = || moto.list("fleet").matches("<Key>prod/state/findings/").count();
    let leaks = || answer(&proxy.endpoint, &[&LEAKS[..], &["--store-timeout", "2s"]].concat());
    for fault in [Fault::Refused, Fault::Cut, Fault::Hangs] {
        proxy.set(move |line| if is_of(line, "b") { fault } else { Fault::None });
        let answer = leaks();
        assert_eq!(answer["findings"][0]["hosts"], 2, "{fault:?}: {answer}");
        let notes = answer["notes"].to_string();
        assert!(notes.contains("left out: sites/dt=2026-11-02/hour=00/b-2026"), "{fault:?}: {notes}");
        assert!(notes.contains("the store does not hand it out"), "{fault:?}: {notes}");
        assert!(notes.contains("what was seen is not kept") && state() == 0, "{fault:?}: {notes}");
        // What is out of reach is not compacted away, nor deleted.
        assert_eq!(ask(&proxy.endpoint, &["check", STORE, "--store-timeout", "2s"]).status.code(), Some(1));
    }
    // What passes is not even noticed.
    let mut refusals = std::collections::BTreeMap::<String, u32>::new();
    proxy.set(move |line| {
        let count = refusals.entry(line.to_owned()).or_default();
        *count += 1;
        match (line.starts_with("GET "), *count) {
            (true, 1) => Fault::Refused,
            (true, 2) => Fault::Cut,
            _ => Fault::None,
        }
    });
    let answer = leaks();
    assert_eq!(
        (&answer["findings"][0]["hosts"], &answer["notes"], state()),
        (&3.into(), &Value::Array(vec![]), 1)
    );
}

#[test]
fn a_store_that_hands_out_nothing_is_no_empty_fleet() {
    let moto = filled_by(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    let proxy = Proxy::start(&moto);
    proxy.set(|line| if line.contains("-2026") { Fault::Refused } else { Fault::None });
    let ended = ask(&proxy.endpoint, &[&LEAKS[..], &["--store-timeout", "1s"]].concat());
    ended.expect_error(
        1,
        &[
            "there is no answer, since 17 files are out of reach, such as sites/",
            "does not hand it out",
            "503",
        ],
    );
    assert_eq!(ended.stdout, "");
}
