//! `cargo xtask spark`: golife-fleet beside Spark on the same sweeps, row for row: from a folder and from an S3 server, compacted,
//! and with a worker that is killed in mid-query; and how much sooner two workers answer than one.

mod cluster;
mod fleet;
mod rows;

use std::{
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use cluster::{Cluster, Moto};
use rows::Answer;

use crate::machine::{self, say};

/// The job, from the repository's root.
const JOB: &str = "tracer-user/fleet/spark/golife_fleet.py";
/// The folder of queries that all engines share, from the repository's root.
const QUERIES: &str = "tracer-user/fleet/sql";
/// What declares a store to Trino, from the repository's root.
const TRINO: &str = "tracer-user/fleet/trino/tables.sql";
/// Fails where a file is no SQL to Trino. The last statements, which find new folders, are a procedure's, of which nothing is known.
const PARSE: &str = "import logging, pathlib, sys, sqlglot\n\
    logging.disable()\n\
    for path in map(pathlib.Path, sys.argv[1:]):\n\
    \x20   for tree in sqlglot.parse(path.read_text(), read='trino', error_level=sqlglot.ErrorLevel.RAISE):\n\
    \x20       if isinstance(tree, sqlglot.exp.Command) and tree.name.upper() != 'CALL':\n\
    \x20           sys.exit(f'{path}: not understood: {tree.sql()}')\n";
/// What is asked for to be measured: lifetimes of all, bucket by bucket, and quantiles of them.
const MEASURED: &str = "quantiles";
/// How often that is measured; the best counts.
const TIMES: usize = 3;
/// By how much two workers are to be faster than one.
const LEAST_RATIO: f64 = 1.3;

/// What `spark` can be told.
#[derive(clap::Args)]
pub struct Args {
    /// Compare only, without measuring how much two workers gain
    #[arg(long)]
    compare: bool,
    /// Measure only
    #[arg(long, conflicts_with = "compare")]
    measure: bool,
    /// Take golife-fleet and fleet_data from this folder in place of building them
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// What the job and its cluster are run with.
struct Tools {
    /// The folder of PySpark that Python finds by `PYTHONPATH`.
    python: PathBuf,
    /// The folder of what Spark needs for S3.
    s3: PathBuf,
    /// The folder of golife-fleet, which is compared with, and of fleet_data.
    programs: PathBuf,
    /// The folder for what is made here.
    place: PathBuf,
}

/// Installs what is needed, starts clusters, compares and measures. All that was started is ended, whatever happens.
pub fn run(args: Args) -> Result<()> {
    let place = machine::target_dir().join("spark");
    let tools = Tools {
        python: machine::pyspark(&place.join("python"))?,
        s3: machine::hadoop_s3(&place.join("s3"))?,
        programs: match args.programs {
            Some(folder) => folder,
            None => fleet::programs()?,
        },
        place,
    };
    if !args.measure {
        parse(&tools)?;
        compare(&tools)?;
    }
    if !args.compare {
        measure(&tools)?;
    }
    Ok(())
}

/// Checks by a parser of Trino's dialect what Trino is given.
fn parse(tools: &Tools) -> Result<()> {
    let names = queries()?.into_iter().map(|(name, _)| format!("{QUERIES}/{name}.sql"));
    let files = names.chain([TRINO.to_owned()]).map(|name| machine::root().join(name));
    let mut python = Command::new("python3");
    python.args(["-c", PARSE]).args(files).env("PYTHONPATH", &tools.python);
    machine::run(&mut python).context("what is for Trino is no SQL to it")
}

fn compare(tools: &Tools) -> Result<()> {
    let moto = machine::moto()?;
    let store = fleet::make(
        &tools.programs,
        &tools.place.join("fleet"),
        &["--hosts", "12", "--sites", "60", "--sweeps", "8", "--seed", "3"],
    )?;
    let queries = queries()?;
    let cluster = Cluster::start(tools, 2)?;
    fleet::damage(&store)?;
    // Spark writes a sweep file of names that mean harm.
    let made = tools.place.join("hostile");
    cluster.job(&["query", path(&store)?, fleet::HOSTILE, "--to", path(&made)?])?.ended()?;
    fleet::adopt(&made, &store)?;

    let names: Vec<&str> = queries.iter().map(|(name, _)| name.as_str()).collect();
    let asked =
        |url: &str| [&["query", url][..], &names].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let expected = tools.answers(path(&store)?, &queries, None)?;
    say("Spark, two workers, from a folder");
    let said = cluster.job(&asked(path(&store)?))?.ended()?;
    rows::same(&expected, &said.answers()?)?;
    fleet::left_out(said.lines.last().context("the job has said nothing")?)?;

    say("the same with a worker that is killed by -9 once the first query is answered");
    let said = {
        let mut job = cluster.job(&asked(path(&store)?))?;
        job.first_line()?;
        cluster.kill_worker();
        job.ended()?
    };
    rows::same(&expected, &said.answers()?)?;
    ensure!(said.errors.contains("Lost executor"), "the worker that was killed had nothing to do");

    say("the same from an S3 server");
    drop(cluster);
    let moto = Moto::start(&moto)?;
    moto.upload(&store)?;
    let s3 = Cluster::start(tools, 2)?.with_s3(&moto.endpoint);
    rows::same(&expected, &tools.answers(moto.url(), &queries, Some(&moto.endpoint))?)?;
    rows::same(&expected, &s3.job(&asked(moto.url()))?.ended()?.answers()?)?;

    say("compacted by Spark, in the folder");
    s3.job(&["compact", path(&store)?])?.ended()?;
    let read = tools.files_read(path(&store)?)?;
    ensure!(read < 60, "golife-fleet still reads {read} files of a store that Spark has compacted");
    rows::same(&expected, &tools.answers(path(&store)?, &queries, None)?)?;
    rows::same(&expected, &s3.job(&asked(path(&store)?))?.ended()?.answers()?)?;
    say(format!("{} queries, row for row the same each time: {}", names.len(), names.join(", ")));
    fs::remove_dir_all(&store).context("cannot remove the fleet")
}

fn measure(tools: &Tools) -> Result<()> {
    let store = fleet::make(
        &tools.programs,
        &tools.place.join("large"),
        &["--hosts", "80", "--sites", "300", "--sweeps", "12", "--tidy"],
    )?;
    let asked = [&["query", path(&store)?][..], &[MEASURED; TIMES]].concat();
    let mut best = Vec::new();
    let mut found: Option<Vec<Answer>> = None;
    for workers in [1, 2] {
        let cluster = Cluster::start(tools, workers)?;
        let answers = cluster.job(&asked)?.ended()?.answers()?;
        let seconds: Vec<f64> = answers.iter().map(|answer| answer.seconds).collect();
        let shown: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.1}")).collect();
        say(format!("{MEASURED} with {workers} of one core: {} s", shown.join(", ")));
        best.push(seconds.into_iter().fold(f64::INFINITY, f64::min));
        match &found {
            Some(before) => rows::same(before, &answers)?,
            None => found = Some(answers),
        }
    }
    let ratio = best[0] / best[1];
    say(format!(
        "best of {TIMES}: {:.1} s with one worker, {:.1} s with two: {ratio:.2} times as fast",
        best[0], best[1]
    ));
    fs::remove_dir_all(&store).context("cannot remove the fleet")?;
    ensure!(ratio >= LEAST_RATIO, "two workers are {ratio:.2} times as fast as one, not {LEAST_RATIO}");
    Ok(())
}

/// The queries that all engines share, each with its name.
fn queries() -> Result<Vec<(String, String)>> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(machine::root().join(QUERIES)).context(QUERIES)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "sql") {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            queries.push((name, fs::read_to_string(&file)?));
        }
    }
    queries.sort();
    Ok(queries)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}

impl Tools {
    /// What golife-fleet answers to each query.
    fn answers(
        &self,
        url: &str,
        queries: &[(String, String)],
        endpoint: Option<&str>,
    ) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        for (name, text) in queries {
            let mut command = Command::new(self.programs.join("golife-fleet"));
            command.args(["sql", url, text, "--format", "json"]).stderr(Stdio::null());
            command.envs(endpoint.into_iter().flat_map(cluster::keys));
            answers.push(Answer::of_golife(name, &machine::output(&mut command)?)?);
        }
        Ok(answers)
    }

    /// How many files a query over everything reads.
    fn files_read(&self, url: &str) -> Result<u64> {
        let mut command = Command::new(self.programs.join("golife-fleet"));
        let plan = machine::output(command.args(["sql", url, "SELECT host FROM sites", "--explain"]))?;
        let count = plan.split("reads ").nth(1).and_then(|rest| rest.split_whitespace().next());
        count.and_then(|count| count.replace(',', "").parse().ok()).with_context(|| plan.clone())
    }
}

/// A job that runs.
struct Job {
    group: cluster::Group,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    first: Vec<String>,
    errors: PathBuf,
}

/// What a job that ended well has written.
struct Said {
    lines: Vec<String>,
    errors: String,
}

impl Job {
    /// Waits until the first query is answered.
    fn first_line(&mut self) -> Result<()> {
        let line = self.lines.next().with_context(|| self.failed())??;
        self.first.push(line);
        Ok(())
    }

    /// Waits for its end.
    fn ended(mut self) -> Result<Said> {
        let mut lines = std::mem::take(&mut self.first);
        for line in self.lines.by_ref() {
            lines.push(line?);
        }
        let status = self.group.0.wait()?;
        if !status.success() {
            bail!("{}\n{}", self.failed(), lines[lines.len().saturating_sub(12)..].join("\n"));
        }
        Ok(Said { lines, errors: fs::read_to_string(&self.errors)? })
    }

    fn failed(&self) -> String {
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        let last: Vec<&str> = errors.lines().filter(|line| !line.contains(" INFO ")).collect();
        format!("the job failed: {}", last[last.len().saturating_sub(12)..].join("\n"))
    }
}

impl Said {
    fn answers(&self) -> Result<Vec<Answer>> {
        let answers = self.lines.iter().filter(|line| !line.starts_with("{\"left_out\""));
        answers.map(|line| Answer::of_spark(line)).collect()
    }
}
