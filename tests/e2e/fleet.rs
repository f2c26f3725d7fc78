//! Four hosts, one store: what each has seen of real programs becomes one finding, which is fixed after a deploy.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::support::{Build, Running, attach, fixture, golife, interrupt, line_of, need_root, ready, run};

const HOSTS: [&str; 4] = ["node-1", "node-2", "node-3", "node-4"];

/// The service on all hosts.
fn services(version: &str) -> Vec<Running> {
    let binary = fixture(version, Build::default());
    HOSTS.iter().map(|_| ready(&binary, &[])).collect()
}

/// All hosts write what they see in so many seconds to the store.
fn sweep(store: &Path, services: &[Running], seconds: u64) {
    let to = store.to_str().unwrap();
    let golife = |(service, host): (&Running, &str)| {
        let pid = service.pid().to_string();
        attach(&["leaks", "--pid", &pid, "--format", "json", "--service", "api", "--host", host, "--to", to])
    };
    let golifes: Vec<Running> = services.iter().zip(HOSTS).map(golife).collect();
    std::thread::sleep(Duration::from_secs(seconds));
    golifes.into_iter().for_each(|golife| {
        interrupt(golife);
    });
}

fn leaks(store: &Path) -> Vec<Value> {
    let ended = run(&["fleet", "leaks", store.to_str().unwrap(), "--format", "json"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["schema"], "golife.fleet/1");
    answer["findings"].as_array().unwrap().clone()
}

#[test]
fn a_leak_on_four_hosts_is_one_finding_and_then_fixed() {
    need_root();
    // `cargo xtask test` builds it.
    let beside = Path::new(golife().get_program()).with_file_name("golife-fleet");
    assert!(beside.exists(), "{} is not built: cargo build -p golife-fleet", beside.display());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    let leaking = services("fleet/leaking");
    (0..2).for_each(|_| sweep(store, &leaking, 3));
    let found = leaks(store);
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&finding["state"], &finding["hosts"]), (&"new".into(), &4.into()), "{finding:?}");
    assert_eq!((&finding["service"], &finding["cause"]), (&"api".into(), &"chan-send".into()), "{finding:?}");
    let site = &finding["site"];
    assert_eq!(
        (&site["function"], &site["line"]),
        (&"main.ask".into(), &line_of("fleet/leaking", "ask").into()),
        "{site}"
    );
    assert!(
        finding["live"].as_u64() > Some(1000) && finding["growth_per_h"].as_f64() > Some(1000.0),
        "{finding:?}"
    );
    assert!(HOSTS.map(Value::from).contains(&finding["example"]["host"]), "{finding:?}");
    let id = finding["id"].clone();
    sweep(store, &leaking, 3);
    assert_eq!(leaks(store)[0]["state"], "known");
    drop(leaking);

    let mended = services("fleet/mended");
    (0..3).for_each(|_| sweep(store, &mended, 1));
    let found = leaks(store);
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&finding["id"], &finding["state"]), (&id, &"fixed".into()), "{finding:?}");
}
