//! Checks the profiles of stacks: pprof as Go's own tool reads it, folded stacks, and flame graphs.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::*;
use flate2::read::GzDecoder;
use golife::output::pprof::message::Profile;
use nix::sys::signal::Signal;
use prost::Message;
use serde_json::Value;

/// Go's own pprof. It is not started by `go tool`, which would leave it behind when it is killed.
fn pprof() -> Command {
    let output = Command::new("go").args(["tool", "-n", "pprof"]).output().expect("cannot run go");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = String::from_utf8(output.stdout).unwrap();
    let mut pprof = Command::new(path.trim());
    pprof.env("PPROF_TMPDIR", env!("CARGO_TARGET_TMPDIR"));
    pprof
}

/// What pprof prints of a profile, with nothing left out for being small.
fn view(profile: &Path, args: &[&str]) -> String {
    let output = pprof()
        .args(["-nodefraction=0", "-edgefraction=0", "-nodecount=100000"])
        .args(args)
        .arg(profile)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The number that each of a fixture's lines has in `pprof -top -lines`, without zeros.
fn by_line(profile: &Path, kind: &str, name: &str) -> BTreeMap<u64, u64> {
    let file = format!("/{name}/main.go:");
    let text = view(profile, &["-top", "-lines", &format!("-sample_index={kind}")]);
    let mut lines = BTreeMap::new();
    for row in text.lines() {
        let Some((before, line)) = row.split_once(&file) else { continue };
        let number: u64 = before.split_whitespace().next().unwrap().parse().unwrap();
        if number > 0 {
            *lines.entry(line.split_whitespace().next().unwrap().parse().unwrap()).or_default() += number;
        }
    }
    lines
}

/// The total of a profile, which pprof prints as `Showing nodes accounting for 140, 100% of 140 total`.
fn total(profile: &Path, kind: &str) -> u64 {
    let text = view(profile, &["-top", &format!("-sample_index={kind}")]);
    let found = text.split_once(" total\n").and_then(|(before, _)| before.rsplit_once(" of "));
    found.unwrap_or_else(|| panic!("no total in {text}")).1.parse().unwrap()
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn created_exited_and_live_are_what_the_program_counted() {
    need_root();
    let directory = directory();
    let path = directory.path().join("counts.pb.gz");
    let mut fixture = ready(&fixture("counts", Build::default()), &["-n", "40"]);
    let pid = fixture.pid().to_string();
    let output = path.to_str().unwrap();
    let golife =
        attach(&["trace", "--format", "pprof", "--output", output, "--ring-bytes", ROOMY, "--pid", &pid]);
    fixture.write("go");
    let truth = truth("counts", &fixture.line());
    golife.signal(Signal::SIGINT);
    assert_eq!(golife.wait().status.code(), Some(0));
    let check = |kind: &str, number: fn(&Counts) -> u64| {
        let want: BTreeMap<u64, u64> =
            truth.iter().map(|(line, counts)| (*line, number(counts))).filter(|(_, n)| *n > 0).collect();
        assert_eq!(by_line(&path, kind, "counts"), want, "{kind}");
    };
    check("created", |counts| counts.created);
    check("exited", |counts| counts.exited);
    check("live_by_creation", |counts| counts.live);
    // The first goroutine is alive as well.
    let live: u64 = truth.values().map(|counts| counts.live).sum();
    assert_eq!((total(&path, "goroutines"), total(&path, "live_by_creation")), (live + 1, live + 1));
    assert_eq!(total(&path, "created"), truth.values().map(|counts| counts.created).sum::<u64>());
    assert!(view(&path, &["-top", "-sample_index=lifetime"]).contains("Type: lifetime"));
}

#[test]
fn pprof_shows_suspects_reasons_and_flame_graphs() {
    need_root();
    let directory = directory();
    let path = directory.path().join("leaks.pb.gz");
    let mut fixture = ready(&fixture("leaky", Build::default()), &["-rate", "20", "-for", "20s"]);
    fixture.write("go");
    let pid = fixture.pid();
    let output = path.to_str().unwrap();
    let ended =
        run(&["leaks", "--format", "pprof", "--output", output, "--for", "8s", "--pid", &pid.to_string()]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let suspects = total(&path, "suspects");
    assert!(suspects > 100, "{suspects}");
    let leak = line_of("leaky", "leak");
    // Goroutines that began after the last look are somewhere in their function, and golife does not know where.
    let at = by_line(&path, "suspects", "leaky");
    let waiting = at[&(leak + 1)];
    assert!(waiting > 100 && waiting + at.get(&leak).unwrap_or(&0) == suspects, "{at:?}");
    let live = by_line(&path, "live_by_creation", "leaky");
    assert_eq!((live[&leak], live[&line_of("leaky", "pool")]), (suspects, 4));
    // The first goroutine is alive as well.
    let all = live.values().sum::<u64>() + 1;
    assert_eq!(total(&path, "goroutines"), all);
    let tags = view(&path, &["-tags"]);
    let tag = |tags: &str, number: u64, value: &str| {
        let is = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.first() == Some(&number.to_string().as_str()) && line.ends_with(&format!(": {value}"))
        };
        assert!(tags.lines().any(is), "{number} {value} in {tags}");
    };
    tag(&tags, suspects, "suspect");
    tag(&tags, suspects, "chan-receive");
    tag(&tags, suspects, &format!("main.go:{leak} in main.main"));
    tag(&tags, all, "leaky");
    tag(&tags, all, &pid.to_string());
    let traces = view(&path, &["-traces", "-sample_index=suspects"]);
    assert!(
        traces.contains("reason:  chan receive") && traces.contains(&format!("{waiting}   main.main.func2")),
        "{traces}"
    );
    let raw = view(&path, &["-raw"]);
    assert!(raw.contains("goroutines/count[dflt] suspects/count live_by_creation/count created/count exited/count lifetime/microseconds"), "{raw}");
    assert!(raw.contains(&format!("pid:[{pid}]")), "{raw}");
    let focused = view(&path, &["-top", "-tagfocus=verdict=suspect"]);
    assert!(focused.contains(&format!("accounting for {suspects}, ")), "{focused}");
    let page = flame_graph(&path);
    assert!(page.contains("main.main.func2"), "{page}");
}

/// The page that `pprof -http` serves.
fn flame_graph(profile: &Path) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut server = Running::start(pprof().args(["-no_browser", &format!("-http={address}")]).arg(profile));
    let mut page = String::new();
    eventually("pprof serves the profile", || {
        assert!(server.is_alive(), "pprof has ended");
        let Ok(mut stream) = TcpStream::connect(&address) else { return false };
        write!(stream, "GET /ui/flamegraph HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
        page.clear();
        stream.read_to_string(&mut page).is_ok() && page.contains(" 200 OK")
    });
    page
}

/// How many goroutines have each stack, whose frames are innermost first.
type Stacks = BTreeMap<String, i64>;

/// The stacks of all goroutines but the first.
fn stacks(path: &Path) -> Stacks {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    let profile = Profile::decode(bytes.as_slice()).unwrap();
    let text = |at: i64| profile.string_table[at as usize].as_str();
    // golife's has a second type, for how long they wait, which tools that know only Go's do not ask for.
    let types: Vec<_> = profile.sample_type.iter().map(|kind| (text(kind.r#type), text(kind.unit))).collect();
    assert_eq!(types, [("goroutine", "count"), ("waiting", "nanoseconds")][..types.len()]);
    assert_eq!(
        (text(profile.default_sample_type).trim_start_matches("goroutine"), profile.duration_nanos),
        ("", 0)
    );
    let mut stacks = Stacks::new();
    for sample in &profile.sample {
        let mut stack = String::new();
        for id in &sample.location_id {
            let location = profile.location.iter().find(|location| location.id == *id).unwrap();
            for line in &location.line {
                let function =
                    profile.function.iter().find(|function| function.id == line.function_id).unwrap();
                // Go's traceback and golife leave out type arguments, but Go's profiles name them from Go 1.21 on.
                let name = text(function.name).replace("[go.shape.string]", "[...]");
                stack += &format!("{name} {}:{}\n", text(function.filename), line.line);
            }
        }
        if !stack.contains("main.main ") {
            *stacks.entry(stack).or_default() += sample.value[0];
        }
    }
    stacks
}

#[test]
fn a_dumps_profile_is_the_programs_own() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let directory = directory();
        let file = |name: &str| -> PathBuf { directory.path().join(name) };
        let (own, dumped) = (file("own.pb.gz"), file("dump.pb.gz"));
        let build = Build { toolchain: Some(toolchain), stripped: true, ..Build::default() };
        let mut fixture = ready(&fixture("profiled", build), &["-profile", own.to_str().unwrap()]);
        fixture.write("go");
        let live: u64 = truth("profiled", &fixture.line()).values().map(|counts| counts.live).sum();
        let pid = fixture.pid().to_string();
        let dump = |format: &str, path: &Path| {
            let ended = run(&["dump", "--format", format, "--output", path.to_str().unwrap(), "--pid", &pid]);
            assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
        };
        dump("pprof", &dumped);
        let (own, dump_stacks) = (stacks(&own), stacks(&dumped));
        assert_eq!(own.values().sum::<i64>(), live as i64);
        let only_in = |stacks: &Stacks, others: &Stacks| -> Vec<(String, i64)> {
            let differs = |(stack, count): &(&String, &i64)| others.get(*stack) != Some(*count);
            stacks.iter().filter(differs).map(|(stack, count)| (stack.clone(), *count)).collect()
        };
        assert_eq!(only_in(&dump_stacks, &own), only_in(&own, &dump_stacks), "{toolchain}");
        assert_eq!(total(&dumped, "goroutine"), live + 1);

        let folded = run(&["dump", "--format", "folded", "--pid", &pid]).stdout;
        assert_eq!(counted(&folded), live + 1);
        assert!(folded.contains("[chan receive] 2") && folded.contains("[select (no cases)] 1"), "{folded}");
        assert!(folded.contains(&format!("{}main.receive;", "main.deep;".repeat(21))), "{folded}");
        // The stacks of a report are as deep as those of a dump.
        let swept = run(&["sweep", "--format", "folded", "--pid", &pid]).stdout;
        assert!(
            swept.contains(&format!("{}main.receive;[chan receive] 2", "main.deep;".repeat(21))),
            "{swept}"
        );
        assert!(!swept.contains("(frames left out)"), "{swept}");
        let svg = file("dump.svg");
        dump("svg", &svg);
        let svg = fs::read_to_string(svg).unwrap();
        assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("goroutines of profiled") && svg.contains("main.receive ("), "{svg}");
    }
}

#[test]
fn a_dumps_profile_has_labels() {
    need_root();
    let directory = directory();
    let path = directory.path().join("labels.pb.gz");
    let mut fixture = ready(&fixture("labels", Build::default()), &[]);
    fixture.write("go");
    truth("labels", &fixture.line());
    let pid = fixture.pid().to_string();
    let ended = run(&["dump", "--format", "pprof", "--output", path.to_str().unwrap(), "--pid", &pid]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let tags = view(&path, &["-tags"]);
    let values = |key: &str| -> Vec<&str> {
        let of_key = tags.split("\n\n").map(str::trim).find(|tag| tag.starts_with(&format!("{key}: Total ")));
        let lines = of_key.unwrap_or_else(|| panic!("no {key} in {tags}")).lines().skip(1);
        lines.map(|line| line.split_once("): ").unwrap().1).collect()
    };
    assert_eq!(values("tenant"), ["acme"]);
    assert_eq!(values("odd key"), ["two\\nlines ] and \"quotes\", ünïcode"]);
    assert_eq!((values("key00"), values("key39")), (vec!["value00"], vec!["value39"]));
    // The program itself has a label of this name, too, which gets a prefix.
    assert_eq!((values("service"), values("label.service")), (vec!["labels"], vec!["checkout"]));
    let focused = view(&path, &["-top", "-tagfocus=tenant=acme"]);
    assert!(focused.contains("accounting for 1, "), "{focused}");
    assert_eq!(total(&path, "goroutine"), 6);
}

/// The sum of the numbers at the ends of folded lines.
fn counted(folded: &str) -> u64 {
    folded.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_sweep_and_a_saved_report_are_profiles_too() {
    need_root();
    let mut fixture = ready(&fixture("leaky", Build::default()), &["-rate", "100", "-for", "300ms"]);
    fixture.write("go");
    let truth = truth("leaky", &fixture.line());
    let live: u64 = truth.values().map(|counts| counts.live).sum::<u64>() + 1;
    let pid = fixture.pid().to_string();
    let folded = run(&["sweep", "--format", "folded", "--pid", &pid]).stdout;
    assert_eq!(counted(&folded), live);
    let leaked = truth[&line_of("leaky", "leak")].live;
    assert!(folded.contains(&format!("main.main.func2;[chan receive] {leaked}\n")), "{folded}");
    let directory = directory();
    let saved = directory.path().join("saved.json");
    let saved = saved.to_str().unwrap();
    run(&["trace", "--format", "json", "--for", "300ms", "--output", saved, "--pid", &pid]);
    assert_eq!(run(&["hist", saved, "--format", "folded"]).stdout, folded);
    let both = directory.path().join("both.pb.gz");
    let ended = run(&["hist", saved, saved, "--format", "pprof", "--output", both.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(total(&both, "goroutines"), live, "one report, named twice");
    let top = run(&["sweep", "--format", "svg", "--top", "1", "--pid", &pid]).stdout;
    assert!(top.contains(&format!(">{leaked} goroutines of leaky (pid {pid})")), "{top}");
}

#[test]
fn a_binary_form_is_kept_from_terminals() {
    need_root();
    let binary = fixture("tiny", Build::default());
    let program = binary.to_str().unwrap();
    run(&["run", "--format", "pprof", "--", program, "-now"])
        .expect_error(2, &["--format pprof", "--output"]);
    let fixture = ready(&binary, &[]);
    let pid = fixture.pid().to_string();
    for command in [&["dump"][..], &["sweep"], &["trace", "--for", "1s"], &["hist", "--for", "1s"]] {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let output = golife()
            .args(command)
            .args(["--format", "pprof", "--pid", &pid])
            .stdout(terminal.slave)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {message}");
        assert!(message.contains("is binary: write it to a file with --output FILE"), "{message}");
    }
    let piped = golife().args(["dump", "--format", "pprof", "--pid", &pid]).output().unwrap();
    assert_eq!(piped.stdout[..2], [0x1f, 0x8b], "gzip goes through a pipe");
}

/// Goroutines that wait at one line are one group of a report, which has the stacks by which they got there.
#[test]
fn a_report_tells_callers_of_one_line_apart() {
    need_root();
    let directory = directory();
    let path = directory.path().join("callers.pb.gz");
    // A report has room for the 4 stacks of 2 levels, but not for all of 12 levels.
    for (levels, blocked) in [("2", 10), ("12", 4000)] {
        let args = ["-levels", levels, "-blocked", &blocked.to_string()];
        let mut fixture = ready(&fixture("paths", Build::default()), &args);
        fixture.write("go");
        fixture.line();
        let pid = fixture.pid().to_string();
        let report = run(&["trace", "--format", "json", "--for", "300ms", "--pid", &pid]).report();
        let line = line_of("paths", "blocked");
        let sites = only_process(&report)["sites"].as_array().unwrap();
        let site = sites.iter().find(|site| site["site"]["line"] == line).unwrap();
        let waiting = &site["waiting"][0];
        assert_eq!((&waiting["count"], &waiting["at"]), (&blocked.into(), &waiting["stacks"][0]["at"]));
        let calls = |stack: &Value| {
            let frames = stack["at"].as_array().unwrap().iter();
            let names = frames.map(|frame| frame["function"].as_str().unwrap());
            names.filter_map(|name| name.strip_prefix("main.")).collect::<Vec<_>>().join(" ")
        };
        let stacks: Vec<(u64, String)> = (waiting["stacks"].as_array().unwrap().iter())
            .map(|stack| (stack["count"].as_u64().unwrap(), calls(stack)))
            .collect();
        if levels == "2" {
            // The last bit of a path decides about the innermost call.
            let expected =
                [(4, "right", "right"), (3, "right", "left"), (2, "left", "right"), (1, "left", "left")];
            for ((count, inner, outer), got) in expected.into_iter().zip(&stacks) {
                let calls = format!("descend {inner} descend {outer} descend");
                assert!(got.0 == count && got.1.starts_with(&calls), "{stacks:?}");
            }
            assert_eq!(stacks.len(), 4);
        } else {
            assert_eq!(stacks.len(), 16);
            assert!(stacks.iter().map(|(count, _)| count).sum::<u64>() < blocked, "{stacks:?}");
        }
        let output = path.to_str().unwrap();
        run(&["trace", "--format", "pprof", "--output", output, "--for", "300ms", "--pid", &pid]);
        assert_eq!(total(&path, "goroutines"), blocked + 1);
        let traces = view(&path, &["-traces", "-sample_index=goroutines"]);
        assert_eq!(traces.contains("(frames left out)"), levels != "2", "{traces}");
    }
}
