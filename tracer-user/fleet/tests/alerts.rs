//! Who takes alerts may ask for a secret, refuse, hang or be away: findings are shown all the same. How a real Alertmanager lists
//! them is in `tests/e2e/alerts.rs`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::server::{Reply, Request, Server};
use common::{Fleet, program, sweep};
use golife::report::Level;
use golife::store::Row;
use serde_json::Value;

fn fleet() -> Fleet {
    let fleet = Fleet::new();
    let row = Row { live: 9, created: 9, level: Level::Suspect, cause: Some("chan-send".into()), ..sweep() };
    fleet.write("h", 0, vec![row]);
    fleet
}

fn ok() -> Reply {
    Reply::Answer(200, "", "[]".into())
}

/// What the program writes, says and ends with.
fn post(fleet: &Fleet, url: &str, secrets: &[(&str, &str)]) -> (String, String, i32) {
    let mut program = program();
    program.args(["leaks", fleet.url(), "--since", "2026-11-01", "--alertmanager", url]);
    let output = program.envs(secrets.iter().copied()).output().unwrap();
    let [out, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (out, said, output.status.code().unwrap())
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers.iter().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

#[test]
fn what_fails_for_a_moment_is_asked_again_with_the_secret_of_the_environment() {
    let fleet = fleet();
    for (secrets, expected) in [
        (&[("ALERTMANAGER_TOKEN", "hunter2")][..], "Bearer hunter2"),
        // user:hunter2
        (&[("ALERTMANAGER_USER", "user"), ("ALERTMANAGER_PASSWORD", "hunter2")], "Basic dXNlcjpodW50ZXIy"),
    ] {
        let server = Server::start(|request, before| match (request.method.as_str(), before) {
            ("GET", 0) => Reply::Answer(503, "", "not yet".into()),
            ("POST", 2) => Reply::Answer(500, "", "not yet".into()),
            _ => ok(),
        });
        let (out, said, code) = post(&fleet, &server.url, secrets);
        assert!(code == 0 && said.contains("posted 1 alert") && out.contains("1 finding"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        let asked = server.asked();
        assert_eq!(
            asked.iter().map(|asked| &asked.method).collect::<Vec<_>>(),
            ["GET", "GET", "POST", "POST"]
        );
        assert!(asked.iter().all(|asked| header(asked, "authorization").as_deref() == Some(expected)));
        let alerts: Value = serde_json::from_str(&asked[3].body).unwrap();
        let labels = &alerts[0]["labels"];
        assert_eq!((&labels["alertname"], &labels["service"]), (&"GoroutineLeak".into(), &"api".into()));
        assert_eq!(labels["store"], fleet.url());
    }
}

#[test]
fn who_refuses_or_is_away_is_named_and_findings_are_shown() {
    let fleet = fleet();
    let (nothing, broken, locked, moved) = (
        Server::start(|_, _| Reply::Nothing),
        Server::start(|_, _| Reply::Answer(500, "", "\u{1b}[31mon fire".into())),
        Server::start(|_, _| Reply::Answer(401, "", "no".into())),
        Server::start(|_, _| Reply::Answer(302, "location: https://elsewhere/\r\n", String::new())),
    );
    let other = Server::start(|_, _| Reply::Answer(200, "", "<html>".into()));
    let expected = [
        (nothing.url.as_str(), "does not answer", 3..=9),
        (&broken.url, "answers 500 Internal Server Error: \\u{1b}[31mon fire", 3..=9),
        ("http://127.0.0.1:1", "does not answer", 0..=0),
        (&locked.url, "answers 401 Unauthorized: set ALERTMANAGER_TOKEN, or ALERTMANAGER_USER", 1..=1),
        (&moved.url, "answers 302 Found, to https://elsewhere/: give that address", 1..=1),
        (&other.url, "does not answer as Alertmanager does", 1..=1),
    ];
    std::thread::scope(|scope| {
        for (url, words, _) in &expected {
            let fleet = &fleet;
            scope.spawn(move || {
                let (out, said, code) = post(fleet, url, &[("ALERTMANAGER_TOKEN", "hunter2")]);
                assert!(code == 5 && out.contains("1 finding"), "{url}: {code} {out} {said}");
                assert!(said.contains(&format!("alerts are not posted: {url}/api/v2/alerts")), "{said}");
                assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
            });
        }
    });
    let servers = [Some(&nothing), Some(&broken), None, Some(&locked), Some(&moved), Some(&other)];
    for (server, (url, _, times)) in servers.iter().zip(expected) {
        let asked = server.map_or(0, |server| server.asked().len());
        assert!(times.contains(&asked), "{url} was asked {asked} times");
    }
}

#[test]
fn half_a_secret_is_none() {
    let fleet = fleet();
    for (secrets, words) in [
        (&[("ALERTMANAGER_USER", "user")][..], "one is not set"),
        (
            &[("ALERTMANAGER_TOKEN", "t"), ("ALERTMANAGER_USER", "u"), ("ALERTMANAGER_PASSWORD", "p")],
            "cannot both be set",
        ),
    ] {
        let (_, said, code) = post(&fleet, "http://127.0.0.1:1", secrets);
        assert!(code == 1 && said.contains(words), "{said}");
    }
}
