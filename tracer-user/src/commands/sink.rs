//! Where a report goes: to a stream or into a file, as text, as a document or as a profile.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, IsTerminal, Write},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{CommandFactory, error::ErrorKind};
use tokio::io::{Interest, unix::AsyncFd};

use super::arguments::{self, Cli, Format, ProfileForm, View};
use super::note;
use crate::human;
use crate::output::not_shown;
use crate::output::sources::Sources;
use crate::output::{flame, folded, json, junit, pprof, profile::Profile, sarif, text, vet};
use crate::report::{Report, Sort};

/// Where a report goes unless `--output` names a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    /// Standard error, for `golife run`: standard output belongs to its program.
    Stderr,
}

/// Where a report goes, and in which format.
pub(super) struct Sink {
    format: Format,
    /// Where the user says that the sources are.
    source_root: Option<PathBuf>,
    to: To,
    /// Whether what is in the file is golife's: what was in it before goes right before the first byte is written.
    replaced: bool,
}

enum To {
    Stream(Stream),
    File(PathBuf, File),
}

impl Sink {
    /// Opens the output that the user wants, in the format that the user wants.
    pub(super) fn of(view: &View, stream: Stream) -> anyhow::Result<Sink> {
        Sink::open(view.format, view.output.as_deref(), stream)
    }

    /// Opens the output before anything is traced, so that a wrong path costs nothing. An existing file keeps its
    /// content until the report is there.
    pub(super) fn open(format: Format, path: Option<&Path>, stream: Stream) -> anyhow::Result<Sink> {
        refuse_binary(format.profile(), path, stream);
        let mut sink = Sink { format, ..Sink::plain(path, stream)? };
        if format == Format::Jsonl {
            sink.replace()?;
        }
        Ok(sink)
    }

    /// Does what [`Sink::open`] does, for text that is no report.
    pub(super) fn plain(path: Option<&Path>, stream: Stream) -> anyhow::Result<Sink> {
        let to = match path {
            None => To::Stream(stream),
            Some(path) => {
                let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
                To::File(path.into(), file.with_context(|| format!("cannot write {}", path.display()))?)
            }
        };
        Ok(Sink { format: Format::Text, source_root: None, to, replaced: false })
    }

    /// The same output, of a program whose sources are there.
    pub(super) fn with_sources(self, sources: &arguments::Sources) -> Sink {
        Sink { source_root: sources.source_root.clone(), ..self }
    }

    /// Empties the output if it is a file and has not been emptied yet.
    fn replace(&mut self) -> anyhow::Result<()> {
        if let (false, To::File(path, file)) = (self.replaced, &mut self.to) {
            truncate(file).with_context(|| format!("cannot write {}", path.display()))?;
        }
        self.replaced = true;
        Ok(())
    }

    /// Whether each report is a line, so that there may be many.
    pub(super) fn is_of_lines(&self) -> bool {
        self.format == Format::Jsonl
    }

    /// Writes the report of one interval as a line of JSON.
    pub(super) fn line(&mut self, report: &Report) -> anyhow::Result<()> {
        self.write(|out| json::write_line(report, out))
    }

    /// Writes the last report. `text` does it if the format is the one for people.
    pub(super) fn finish(
        &mut self,
        report: &Report,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        if let Some(form) = self.format.profile() {
            return self.profile(form, &Profile::of_reports(std::slice::from_ref(report)));
        }
        match self.format {
            Format::Json => self.write(|out| json::write(report, out)),
            Format::Jsonl => self.line(report),
            Format::Sarif => self.located(report, sarif::write),
            Format::Vet => self.located(report, vet::write),
            Format::Junit => self.located(report, junit::write),
            _ => self.text(text),
        }
    }

    /// Writes what has paths to the sources.
    fn located(
        &mut self,
        report: &Report,
        body: impl FnOnce(&Report, &Sources, &mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let here = std::env::current_dir().ok();
        let sources = Sources::find(report, self.source_root.as_deref(), here.as_deref());
        self.write(|out| body(report, &sources, out))?;
        for said in [sources.outside(), not_shown(report)].into_iter().flatten() {
            note(&said);
        }
        Ok(())
    }

    /// Writes a profile. Its bytes are not searched for escape sequences, since none of them is meant as one.
    pub(super) fn profile(&mut self, form: ProfileForm, profile: &Profile) -> anyhow::Result<()> {
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

    /// Writes text for people, in the characters that their terminal has.
    pub(super) fn text(&mut self, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
        self.write(|out| in_locale(out, body))
    }

    /// Writes text, with colours only if the output is a terminal. What is written first replaces a file's content, what
    /// is written after that is appended.
    pub(super) fn write(
        &mut self,
        body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        self.replace()?;
        let written = match &mut self.to {
            To::Stream(Stream::Stdout) => buffered(anstream::stdout(), body),
            To::Stream(Stream::Stderr) => buffered(anstream::stderr(), body),
            To::File(_, file) => buffered(anstream::StripStream::new(file), body),
        };
        self.done(written)
    }

    fn done(&self, written: io::Result<()>) -> anyhow::Result<()> {
        match &self.to {
            To::Stream(Stream::Stdout) => read(written),
            // How the program of `golife run` ended matters more than who reads the report about it.
            To::Stream(Stream::Stderr) => read(written).or_else(|error| match error.is::<ReaderGone>() {
                true => Ok(()),
                false => Err(error),
            }),
            To::File(path, _) => written.with_context(|| format!("cannot write {}", path.display())),
        }
    }
}

/// Lets `body` write to `out` in the characters of the user's locale.
pub(super) fn in_locale(
    out: &mut dyn Write,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    if is_ascii_wanted() { body(&mut Ascii(out)) } else { body(out) }
}

/// Whether the locale has other characters than those of UTF-8. Where no locale is set, which is what services and
/// containers have, UTF-8 is taken for granted.
pub(super) fn is_ascii_wanted() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    locale.is_some_and(|locale| !locale.to_lowercase().replace('-', "").contains("utf8"))
}

/// Writes what it is given in ASCII.
struct Ascii<'a>(&'a mut dyn Write);

impl Write for Ascii<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(human::ascii(text).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Nobody reads standard output any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub(super) struct ReaderGone;

/// Tells a reader who has seen enough (`golife … | head`) from other reasons why a stream cannot be written.
pub(super) fn read(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        other => other.context("cannot write the report"),
    }
}

/// Waits until nobody can read standard output any more, which is when the other end of a pipe is closed. Without this,
/// golife would only notice when it writes, and some reports are written once, hours later.
pub(super) async fn reader_gone() {
    let is_pipe = |out: &File| {
        let kind = out.metadata().map(|metadata| metadata.file_type());
        kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket())
    };
    if let Ok(out) = io::stdout().as_fd().try_clone_to_owned().map(File::from)
        && is_pipe(&out)
        // SAFETY: a file has the same descriptor for as long as it lives.
        && let Ok(pipe) = unsafe { AsyncFd::register_with_interest(out, Interest::ERROR) }
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Ends golife with a message if a binary profile would go to a terminal, or between other lines on standard error.
pub(super) fn refuse_binary(form: Option<ProfileForm>, path: Option<&Path>, stream: Stream) {
    let mixed = stream == Stream::Stderr || io::stdout().is_terminal();
    if form == Some(ProfileForm::Pprof) && path.is_none() && mixed {
        let message = "--format pprof is binary: write it to a file with --output FILE";
        Cli::command().error(ErrorKind::MissingRequiredArgument, message).exit();
    }
}

/// Returns what writes a report for people, with or without the table of sites.
pub(super) fn as_text(
    report: &Report,
    table: bool,
    sort: Sort,
) -> impl FnOnce(&mut dyn Write) -> io::Result<()> {
    move |out| text::write(report, &text::Text { width: width(), table, sort }, out)
}

fn buffered(out: impl Write, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    body(&mut out)?;
    out.flush()
}

/// The number of columns to fill: the terminal's, or those of a page if there is no terminal.
pub(super) fn width() -> usize {
    terminal_size::terminal_size().map_or(100, |(terminal_size::Width(columns), _)| columns.into())
}

/// Empties a file. Pipes and terminals are left alone, since they have no length.
fn truncate(file: &mut File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_first_replaces_a_file_and_the_rest_is_appended() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for format in [Format::Text, Format::Jsonl] {
            std::fs::write(file.path(), "a much longer report from another day\n").unwrap();
            let mut sink = Sink::open(format, Some(file.path()), Stream::Stdout).unwrap();
            for line in ["one", "two"] {
                sink.write(|out| writeln!(out, "{line}")).unwrap();
            }
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "one\ntwo\n");
        }
    }
}
