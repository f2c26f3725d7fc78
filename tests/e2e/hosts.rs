//! Sweeps hosts by ssh: who answers is shown, who does not is named with the reason, and nothing stays on any of them.

use std::{fs, net::TcpListener};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::*;

/// A program that leaks on this machine, which is what all hosts are, and golife's arguments to see no other.
fn leaking(sshd: &Sshd) -> (Running, Vec<String>) {
    let own = sshd.directory().join("leaking");
    fs::copy(fixture("leaky", Build::default()), &own).unwrap();
    let mut leaky = ready(&own, &["-rate", "100", "-for", "60s"]);
    leaky.write("go");
    (leaky, vec!["--exe".into(), own.display().to_string()])
}

/// Runs golife to its end.
#[track_caller]
fn swept(sshd: &Sshd, hosts: &[&str], more: &[&[&str]]) -> Ended {
    let mut golife = Running::start(&mut sshd.sweep(hosts, &more.concat()));
    golife.close_stdin();
    golife.wait()
}

fn strings(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn hosts_answer_or_are_named_with_the_reason() {
    need_root();
    let sshd = Sshd::start();
    let (leaky, only) = leaking(&sshd);
    let only = strings(&only);
    let port = sshd.port("plain");
    let is_v6 = TcpListener::bind("[::1]:0").is_ok();
    let third = if is_v6 { format!("root@[::1]:{port}") } else { format!("root@127.0.0.1:{port}") };
    let by_address = [format!("127.0.0.1:{port}"), format!("localhost:{port} # by its name"), third];
    let nobody_listens = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut hosts = strings(&by_address);
    hosts.extend(["greeting", "nobody", "broken", "full", "foreign", "hostile", "endless", &nobody_listens]);
    let ended = swept(&sshd, &hosts, &[&only]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let text = &ended.stdout;
    let block = format!("pid {}  ", leaky.pid());
    assert_eq!(text.matches(&block).count(), 4, "{ended:?}");
    for word in [
        "5 of 11 hosts have answered",
        "4 Go processes",
        "permission denied; run as root or",
        "--sudo does",
        "cannot do it",
        "that is Linux riscv64, and this golife is for Linux",
        "report of schema \"\\u{1b}[2J\"",
        "Connection refused",
        "what it says does not end",
    ] {
        assert!(text.contains(word), "`{word}` in {ended:?}");
    }
    assert!(!text.contains('\x1b'), "{ended:?}");
    let row = |host: &str| text.lines().find(|line| line.contains(host)).unwrap_or_default();
    assert!(row("full").starts_with("no answer"), "{ended:?}");
    assert!(row("nobody").contains("no Go process"), "{ended:?}");
    sshd.expect_clean();

    // Other programs get a line for each host.
    let store = sshd.directory().join("store");
    let stored = ["--to", store.to_str().unwrap(), "--service", "api", "--redact", "command", "--top", "1"];
    let three = ["plain", "greeting", "broken"];
    let ended = swept(&sshd, &three, &[&only, &["--format", "jsonl"], &stored]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let reports: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 2, "{ended:?}");
    for report in &reports {
        assert_eq!(report["schema"], "golife.report/1");
        assert!(report["tool"]["host"].is_string(), "{report:#}");
        let process = only_process(report);
        assert_eq!((&process["pid"], &process["service"]), (&leaky.pid().into(), &"api".into()));
        assert_eq!(process["command"], Value::Null, "it may hold secrets");
        assert_eq!(process["sites"].as_array().unwrap().len(), 1);
    }
    assert_eq!(ended.stderr.matches("stored 3 sites of ").count(), 2, "all, from each host: {ended:?}");
    assert!(ended.stderr.contains("note: broken has not answered: "), "{ended:?}");
}

#[test]
fn golife_fails_on_what_the_hosts_have_together() {
    need_root();
    let sshd = Sshd::start();
    let (_leaky, only) = leaking(&sshd);
    let only = strings(&only);
    let both = ["plain", "greeting"];
    let looks = ["--twice", "1s", "--fail-on", "watch"];
    let known = sshd.directory().join("known-leaks");
    let baseline = ["--baseline", known.to_str().unwrap()];
    let written = swept(&sshd, &both, &[&only, &looks, &baseline, &["--write-baseline"]]);
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    assert!(written.stdout.contains("watch 1 "), "{written:?}");
    let line = line_of("leaky", "leak");
    let entry = format!("main.main#2  # main.go:{line} chan-receive");
    assert_eq!(fs::read_to_string(&known).unwrap().lines().nth(1), Some(&*entry));

    // What is known passes on each host, but of one that does not answer nothing is known.
    let ended = swept(&sshd, &["plain", "broken"], &[&only, &looks, &baseline]);
    ended.expect_error(0, &["--fail-on watch is undecided: 1 of 2 hosts has not answered"]);
    assert!(ended.stdout.contains("1 site is known by --baseline"), "{ended:?}");
    let strict = ["--name", "^no such program$", "--fail-on", "watch", "--strict"];
    swept(&sshd, &["plain", "broken"], &[&strict]).expect_error(3, &["1 of 2 hosts has not answered"]);
    assert_eq!(swept(&sshd, &["plain"], &[&strict]).status.code(), Some(0));
    sshd.expect_clean();
}

#[test]
fn hosts_that_do_not_answer_are_left_and_nothing_stays_there() {
    need_root();
    let sshd = Sshd::start();
    let ended = swept(&sshd, &["stuck"], &[&["--host-timeout", "2s"]]);
    ended.expect_error(4, &["the host has not answered"]);
    assert!(ended.stdout.contains("no answer within 2 s, still"), "{ended:?}");
    sshd.expect_clean();

    let (leaky, only) = leaking(&sshd);
    let only = strings(&only);
    let ask = |hosts: &[&str]| {
        let more = [&only[..], &["--twice", "1h", "--parallel", "2"]].concat();
        let golife = Running::start(&mut sshd.sweep(hosts, &more));
        eventually("one host looks, and another has a folder", || {
            // It has a second thread as soon as it has its request.
            let is_looking = sshd.processes("plain").into_iter().any(|pid| {
                let of_process = |name: &str| format!("/proc/{pid}/{name}");
                let is_golife =
                    fs::read_link(of_process("exe")).is_ok_and(|exe| exe.ends_with("golife (deleted)"));
                is_golife && fs::read_dir(of_process("task")).is_ok_and(|threads| threads.count() > 1)
            });
            is_looking && sshd.left("plain").is_empty() && !sshd.left("stuck").is_empty()
        });
        golife
    };
    // Ctrl-C: who looks takes the second look at once.
    let golife = ask(&["plain", "stuck", "greeting"]);
    golife.signal(Signal::SIGINT);
    let ended = golife.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stdout.contains("1 of 3 hosts have answered"), "{ended:?}");
    assert!(ended.stdout.contains(&format!("pid {}  ", leaky.pid())), "{ended:?}");
    let row = |begin: &str| ended.stdout.lines().find(|line| line.starts_with(begin)).unwrap_or_default();
    assert!(row("no answer").contains("stuck") && row("no answer").contains("cut off"), "{ended:?}");
    assert!(row("not asked").contains("greeting"), "{ended:?}");
    sshd.expect_clean();

    // golife is gone without a word.
    let golife = ask(&["plain", "stuck"]);
    golife.signal(Signal::SIGKILL);
    golife.wait();
    sshd.expect_clean();

    // The network is.
    let golife = ask(&["plain", "stuck"]);
    sshd.break_connections();
    let ended = golife.wait();
    ended.expect_error(4, &["none of 2 hosts has answered"]);
    sshd.expect_clean();
}

#[test]
fn what_is_no_list_of_hosts_is_refused_before_anybody_is_asked() {
    need_root();
    let sweep = |list: &str, more: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.txt");
        fs::write(&path, list).unwrap();
        run(&[&["sweep", "--ssh", "--hosts", path.to_str().unwrap()], more].concat())
    };
    let bad = "web-1\n-oProxyCommand=id\nroot@web 2\n";
    sweep(bad, &[]).expect_error(2, &["hosts.txt:2: \"-oProxyCommand=id\"", "hosts.txt:3: ", "hyphen"]);
    sweep("# nobody yet\n", &[]).expect_error(2, &["lists no host"]);
    for format in ["json", "pprof", "sarif"] {
        sweep("web-1\n", &["--format", format]).expect_error(2, &["text, or jsonl"]);
    }
    sweep("web-1\n", &["--baseline", "no/such/file"]).expect_error(2, &["--baseline no/such/file"]);
    run(&["sweep", "--ssh", "--hosts", "no/such/file"]).expect_error(1, &["cannot read no/such/file"]);
}
