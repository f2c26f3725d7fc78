//! `cargo xtask demo`: a small web service with three leaks, some load, and golife, which has to name the three lines.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::machine::{self, Guard, say};

/// Path of the service's source, from the repository's root.
const SERVICE: &str = "tests/fixtures/demo/server/main.go";

/// What `demo` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// How long golife watches, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(5..=60))]
    seconds: u64,
}

/// Runs the demo. Fails if golife does not name the leaks, or names something else.
pub fn run(args: Args) -> Result<()> {
    let go = machine::go()?;
    machine::mount_tracefs()?;
    say("building golife (release)");
    machine::run(machine::cargo().args(["build", "--quiet", "--release", "--package", "tracer-user"]))?;
    say(format!("building a web service in Go: {SERVICE} (three leaks, see the comments there)"));
    let server = build(&go, "server")?;
    let load = build(&go, "load")?;

    // The server ends when its standard input is closed, so it cannot outlive this program, whatever happens.
    let mut server = Guard(
        Command::new(server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the service")?,
    );
    let pid = server.0.id();
    let mut address = String::new();
    BufReader::new(server.0.stdout.take().context("the service has no output")?).read_line(&mut address)?;
    let address = address.trim();
    say(format!("the service is process {pid} at {address}; 40 requests a second begin"));
    let _load = Guard(
        Command::new(load)
            .args(["-url", address, "-for", &format!("{}s", args.seconds + 15)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the load")?,
    );
    thread::sleep(Duration::from_secs(2));

    let golife = machine::target_dir().join("release/golife");
    let period = format!("{}s", args.seconds);
    say(format!("sudo golife leaks --pid {pid} --for {period}"));
    let mut command = machine::as_root(&golife.to_string_lossy())?;
    let golife = command
        .args(["leaks", "--pid", &pid.to_string(), "--for", &period])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start golife")?;
    let output = golife.wait_with_output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    println!("\n{report}");
    if !output.status.success() {
        bail!("golife ended with {}", output.status);
    }
    judge(&report)
}

/// Compares what golife said with the marks in the service's source.
fn judge(report: &str) -> Result<()> {
    let source = fs::read_to_string(machine::root().join(SERVICE))
        .with_context(|| format!("cannot read {SERVICE}"))?;
    let accused = accused(report);
    let mut found = 0;
    for (index, line) in source.lines().enumerate() {
        let place = format!("main.go:{}", index + 1);
        if let Some((_, name)) = line.split_once("// leak: ") {
            if !accused.contains(&place) {
                bail!("golife missed the leak `{name}` at {place}");
            }
            say(format!("found: {name:10} {place:12} {}", line.trim()));
            found += 1;
        }
        if let Some((_, name)) = line.split_once("// healthy: ")
            && accused.contains(&place)
        {
            bail!("golife accused `{name}` at {place}, which does not leak");
        }
    }
    if found == 0 {
        bail!("no leak is marked in {SERVICE}");
    }
    say(format!("golife named {found} of {found} leaks and accused nothing else of ours"));
    Ok(())
}

/// The places `FILE:LINE` where golife says that leaking goroutines were created.
fn accused(report: &str) -> Vec<String> {
    let mut is_accused = false;
    let mut places = Vec::new();
    for line in report.lines() {
        if !line.starts_with(' ') {
            is_accused = line.starts_with("proven") || line.starts_with("suspect");
        }
        if let (true, Some((_, place))) = (is_accused, line.split_once("created at ")) {
            let place = place.split_whitespace().next().unwrap_or_default();
            places.push(place.rsplit('/').next().unwrap_or_default().to_owned());
        }
    }
    places
}

fn build(go: &Path, name: &str) -> Result<PathBuf> {
    let binary = machine::target_dir().join("demo").join(name);
    machine::run(
        Command::new(go)
            .args(["build", "-buildvcs=false", "-o"])
            .arg(&binary)
            .arg(format!("./demo/{name}"))
            .current_dir(machine::root().join("tests/fixtures"))
            .env("CGO_ENABLED", "0"),
    )?;
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_suspect_or_proven_is_accused() {
        let report = "tracing 1 process\n\n\
            suspect  main.a.func1      created at main.go:33 in main.a\n         live 3\n\
            watch    main.b.func1      created at main.go:44 in main.b\n\
            proven   main.c.func1\n         created at /src/server/main.go:55 in main.c\n";
        assert_eq!(accused(report), ["main.go:33", "main.go:55"]);
    }
}
