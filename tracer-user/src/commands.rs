//! What each subcommand does, from arguments to exit code.

mod dump;
mod sweep;

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, IsTerminal, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context;
use clap::{CommandFactory, error::ErrorKind};

use crate::cli::{Cli, Command, Format, Hist, Limits, ProfileForm, Run, Trace, View, Window};
use crate::output::profile::Profile;
use crate::output::{flame, folded, hist, json, pprof, text};
use crate::pipeline::{Outcome, Settings, Source};
use crate::probes::selftest;
use crate::report::{Mode, Report, Selection, Top};
use crate::{cli, doctor, human, inspect, pipeline, session, targets};

/// A site was found at or above the level of `--fail-on`.
const FOUND: u8 = 3;
/// Nothing could be traced.
const NOTHING: u8 = 4;

/// How long `leaks` and `hist` watch unless the user says otherwise.
const DEFAULT_WINDOW: Duration = Duration::from_secs(30);

/// Runs a subcommand.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Trace(arguments) => trace(&arguments, arguments.window.duration, true),
        Command::Leaks(arguments) => {
            trace(&arguments, arguments.window.duration.or(Some(DEFAULT_WINDOW)), false)
        }
        Command::Hist(arguments) => draw(&arguments),
        Command::Run(arguments) => launch(&arguments),
        Command::Dump(arguments) => dump::run(&arguments),
        Command::Sweep(arguments) => sweep::run(&arguments),
        Command::Doctor => {
            let works = quietly(doctor::run(&mut anstream::stdout()).map(Some))?.unwrap_or(true);
            Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "golife", &mut script);
            quietly(io::stdout().write_all(&script).map(|()| None::<()>))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            quietly(manual(&mut io::stdout()).map(|()| None::<()>))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::SelftestTarget => {
            selftest::run_target()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The exit code that belongs to an error: 4 where nothing could be traced, 1 for all else.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let nothing = match error.downcast_ref::<pipeline::Error>() {
        Some(pipeline::Error::System { .. }) => false,
        Some(_) => true,
        None => {
            error.is::<session::Error>() || error.is::<inspect::WalkError>() || error.is::<targets::Error>()
        }
    };
    if nothing { ExitCode::from(NOTHING) } else { ExitCode::FAILURE }
}

/// An error in one line, for standard error: control characters made visible, since much of it names things of others.
pub fn message(error: &anyhow::Error) -> String {
    human::clean(&human::chain(error.as_ref()))
}

fn trace(arguments: &Trace, duration: Option<Duration>, table: bool) -> anyhow::Result<ExitCode> {
    let mut sink = Sink::of(&arguments.view, Stream::Stdout)?;
    let settings = settings(duration, &arguments.window, &arguments.limits, &arguments.view);
    let outcome = follow(&Source::Selectors(&arguments.targets), &settings, &mut sink)?;
    sink.finish(&outcome.report, as_text(&outcome.report, table))?;
    Ok(judge(&outcome.report, &arguments.view))
}

fn launch(arguments: &Run) -> anyhow::Result<ExitCode> {
    let mut sink = Sink::of(&arguments.view, Stream::Stderr)?;
    let settings = settings(arguments.window.duration, &arguments.window, &arguments.limits, &arguments.view);
    let outcome = follow(&Source::Command(&arguments.command), &settings, &mut sink)?;
    sink.finish(&outcome.report, as_text(&outcome.report, true))?;
    let judged = match untraced(&outcome.report, &arguments.command) {
        Some(why) => {
            eprintln!("golife: nothing was traced: {}", human::clean(&why));
            ExitCode::from(NOTHING)
        }
        None => judge(&outcome.report, &arguments.view),
    };
    Ok(match outcome.child.map(child_code) {
        Some(0) | None => judged,
        Some(code) => ExitCode::from(code),
    })
}

/// Why nothing of `golife run` was traced, if nothing was.
fn untraced(report: &Report, command: &[std::ffi::OsString]) -> Option<String> {
    if report.processes.iter().any(|process| process.mode != Mode::Unsupported) {
        return None;
    }
    let detail = report.processes.iter().find_map(|process| process.detail.clone());
    let program = command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
    Some(detail.unwrap_or_else(|| {
        format!("{program} is not a Go program, and started none that lived long enough to be seen")
    }))
}

fn draw(arguments: &Hist) -> anyhow::Result<ExitCode> {
    let form = arguments.view.format.profile();
    refuse_binary(form, arguments.view.output.as_deref(), Stream::Stdout);
    let reports = if arguments.reports.is_empty() {
        let duration = arguments.window.duration.or(Some(DEFAULT_WINDOW));
        let mut settings = settings(duration, &arguments.window, &arguments.limits, &arguments.view);
        // Which are the first is known when all are merged.
        settings.selection.top = None;
        vec![pipeline::trace(&Source::Selectors(&arguments.targets), &settings, &mut |_| {})?.report]
    } else {
        arguments.reports.iter().map(|path| read_report(path)).collect::<anyhow::Result<Vec<_>>>()?
    };
    let mut sink = Sink::of(&arguments.view, Stream::Stdout)?;
    if let Some(form) = form {
        sink.profile(form, &Profile::of_reports(&reports))?;
        return Ok(ExitCode::SUCCESS);
    }
    let merged = hist::merge(&reports).context("cannot merge the reports' histograms")?;
    let layout = hist::Hist { width: width(), top: arguments.view.top.unwrap_or(10), scale: arguments.scale };
    sink.write(|out| hist::write(&merged, &layout, out))?;
    Ok(ExitCode::SUCCESS)
}

fn follow(source: &Source, settings: &Settings, sink: &mut Sink) -> anyhow::Result<Outcome> {
    let mut failed = None;
    let outcome = pipeline::trace(source, settings, &mut |report| {
        if let Err(error) = sink.line(report) {
            failed.get_or_insert(error);
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(outcome),
    }
}

fn settings<'a>(
    duration: Option<Duration>,
    window: &Window,
    limits: &'a Limits,
    view: &View,
) -> Settings<'a> {
    Settings {
        duration,
        interval: window.interval,
        limits,
        selection: Selection {
            sort: view.sort,
            top: view.top.map(Top::OfEachProcess),
            min_age_ns: view.min_age.map(|age| age.as_nanos() as u64),
            include_system: view.include_system,
        },
        each_interval: view.format == Format::Jsonl,
    }
}

fn judge(report: &Report, view: &View) -> ExitCode {
    match (view.fail_on, report.summary.worst()) {
        (Some(limit), Some(worst)) if worst >= limit => ExitCode::from(FOUND),
        _ => ExitCode::SUCCESS,
    }
}

/// As shells have it: 128 and the number of the signal that ended the program.
fn child_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

fn read_report(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    json::read(&text).with_context(|| format!("cannot read {} as a golife report", path.display()))
}

/// Where a report goes unless `--output` names a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    /// Standard output belongs to the program of `golife run`.
    Stderr,
}

/// Where a report goes.
struct Sink {
    format: Format,
    to: To,
}

enum To {
    Stream(Stream),
    File(PathBuf, File),
}

impl Sink {
    /// Where and as what the user wants a report.
    fn of(view: &View, stream: Stream) -> anyhow::Result<Sink> {
        Sink::open(view.format, view.output.as_deref(), stream)
    }

    /// Opens the output before anything is traced, so that a wrong path costs nothing. An existing file keeps its
    /// content until the report is there.
    fn open(format: Format, path: Option<&Path>, stream: Stream) -> anyhow::Result<Sink> {
        refuse_binary(format.profile(), path, stream);
        let mut sink = Sink { format, ..Sink::plain(path, stream)? };
        if format == Format::Jsonl {
            sink.replace()?;
        }
        Ok(sink)
    }

    /// As [`Sink::open`], for what is no report.
    fn plain(path: Option<&Path>, stream: Stream) -> anyhow::Result<Sink> {
        let to = match path {
            None => To::Stream(stream),
            Some(path) => {
                let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
                To::File(path.into(), file.with_context(|| format!("cannot write {}", path.display()))?)
            }
        };
        Ok(Sink { format: Format::Text, to })
    }

    /// Empties the file, if it is one, for what comes.
    fn replace(&mut self) -> anyhow::Result<()> {
        if let To::File(path, file) = &mut self.to {
            truncate(file).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// One interval's report.
    fn line(&mut self, report: &Report) -> anyhow::Result<()> {
        self.write(|out| json::write_line(report, out))
    }

    /// The last report; `text` writes it for people.
    fn finish(
        &mut self,
        report: &Report,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        if let Some(form) = self.format.profile() {
            return self.profile(form, &Profile::of_reports(std::slice::from_ref(report)));
        }
        if self.format != Format::Jsonl {
            self.replace()?;
        }
        match self.format {
            Format::Json => self.write(|out| json::write(report, out)),
            Format::Jsonl => self.line(report),
            _ => self.write(text),
        }
    }

    /// Stacks with numbers: bytes, in which nothing is an escape sequence.
    fn profile(&mut self, form: ProfileForm, profile: &Profile) -> anyhow::Result<()> {
        self.replace()?;
        let body = |out: &mut dyn Write| match form {
            ProfileForm::Pprof => pprof::write(profile, out),
            ProfileForm::Folded => folded::write(profile, out),
            ProfileForm::Svg => flame::write(profile, out),
        };
        let written = match &mut self.to {
            To::Stream(Stream::Stdout) => buffered(io::stdout(), body),
            To::Stream(Stream::Stderr) => buffered(io::stderr(), body),
            To::File(_, file) => buffered(file, body),
        };
        self.done(written)
    }

    /// Colours go to terminals only.
    fn write(&mut self, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        let written = match &mut self.to {
            To::Stream(Stream::Stdout) => buffered(anstream::stdout(), body),
            To::Stream(Stream::Stderr) => buffered(anstream::stderr(), body),
            To::File(_, file) => buffered(anstream::StripStream::new(file), body),
        };
        self.done(written)
    }

    fn done(&self, written: io::Result<()>) -> anyhow::Result<()> {
        let name = || match &self.to {
            To::Stream(_) => "the report".to_owned(),
            To::File(path, _) => path.display().to_string(),
        };
        quietly(written.map(|()| None::<()>)).with_context(|| format!("cannot write {}", name()))?;
        Ok(())
    }
}

/// Ends golife where a form that no terminal can show would go to one, or between other lines on standard error.
fn refuse_binary(form: Option<ProfileForm>, path: Option<&Path>, stream: Stream) {
    let mixed = stream == Stream::Stderr || io::stdout().is_terminal();
    if form == Some(ProfileForm::Pprof) && path.is_none() && mixed {
        let message = "--format pprof is binary: write it to a file with --output FILE";
        Cli::command().error(ErrorKind::MissingRequiredArgument, message).exit();
    }
}

/// The report for people.
fn as_text(report: &Report, table: bool) -> impl FnOnce(&mut dyn Write) -> io::Result<()> {
    move |out| text::write(report, &text::Text { width: width(), table }, out)
}

fn buffered(out: impl Write, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    body(&mut out)?;
    out.flush()
}

/// Columns to fill: the terminal's, or a page's where there is none.
fn width() -> usize {
    terminal_size::terminal_size().map_or(100, |(terminal_size::Width(columns), _)| columns.into())
}

/// Pipes and terminals have no length to cut.
fn truncate(file: &mut File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

/// A reader who has seen enough (`golife … | head`) is no failure.
fn quietly<T>(written: io::Result<Option<T>>) -> io::Result<Option<T>> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        other => other,
    }
}

/// The manual: one page with all subcommands.
fn manual(out: &mut dyn Write) -> io::Result<()> {
    let command = Cli::command();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("golife {}", sub.get_name());
        writeln!(out, ".SH \"{}\"", name.to_uppercase())?;
        if let Some(about) = sub.get_long_about().or(sub.get_about()) {
            writeln!(out, "{about}")?;
        }
        let sub =
            sub.clone().about(None::<&str>).long_about(None::<&str>).bin_name(&name).display_name(&name);
        let mut section = Vec::new();
        let man = clap_mangen::Man::new(sub);
        man.render_synopsis_section(&mut section)?;
        man.render_options_section(&mut section)?;
        // Subsections of the subcommand's own section.
        out.write_all(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").as_bytes())?;
    }
    // Literally: the two columns stay columns.
    writeln!(out, ".SH EXAMPLES\n.nf\n{}.fi", cli::EXAMPLES.replace('-', "\\-"))?;
    writeln!(out, ".SH \"EXIT STATUS\"\n{}", cli::EXIT_CODES.trim_start_matches("Exit codes: "))
}
