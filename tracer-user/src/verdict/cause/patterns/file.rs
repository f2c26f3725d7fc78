//! The user's own rows, from a file in TOML. Its form is described in `docs/patterns.md`.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use toml::Spanned;

use super::Remedy;
use crate::go::Activity;
use crate::report::Cause;
use crate::verdict::waits::Wait;

/// Most bytes of such a file.
const MOST_BYTES: usize = 1 << 20;
/// Most bytes that an expression may take when it is compiled.
const MOST_COMPILED: usize = 1 << 20;

/// Rows of the user's, which are asked before the built-in ones.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    rows: Vec<Pattern>,
}

/// A row of the user's. The fields are those of [`super::Row`].
#[derive(Clone, Debug)]
struct Pattern {
    function: Regex,
    activity: Option<Activity>,
    cause: Cause,
    advice: String,
    close: Option<String>,
}

/// Why a file of patterns cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct PatternError {
    /// The file as the user called it.
    pub file: String,
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    pattern: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    function: Spanned<String>,
    waits: Option<Spanned<String>>,
    cause: Spanned<String>,
    advice: Spanned<String>,
    close: Option<Spanned<String>>,
}

impl Patterns {
    /// Reads the text of a file. `file` is what the user calls it.
    ///
    /// # Errors
    /// The text is too long, no TOML, or has a key or a value that means nothing.
    pub fn read(text: &str, file: &str) -> Result<Patterns, PatternError> {
        let error = |at: usize, what: String| {
            let before = text.get(..at).unwrap_or(text);
            PatternError { file: file.into(), line: 1 + before.matches('\n').count(), what }
        };
        if text.len() > MOST_BYTES {
            return Err(error(MOST_BYTES, format!("longer than {MOST_BYTES} bytes")));
        }
        let document: Document = toml::from_str(text).map_err(|wrong| {
            let at = wrong.span().map_or(0, |span| span.start);
            error(at, wrong.message().replace('\n', ", "))
        })?;
        let rows = document.pattern.iter().map(Pattern::of);
        let rows = rows.collect::<Result<_, _>>().map_err(|Wrong { at, what }| error(at, what))?;
        Ok(Patterns { rows })
    }

    /// What the first row that fits says.
    pub(super) fn find(&self, wait: &Wait, functions: &[&str]) -> Option<Remedy<'_>> {
        let fits = |row: &&Pattern| {
            row.activity.is_none_or(|wanted| wanted == wait.activity())
                && functions.iter().any(|function| row.function.is_match(function))
        };
        let Pattern { cause, advice, close, .. } = self.rows.iter().find(fits)?;
        Some(Remedy { cause: Some(*cause), advice, close: close.as_deref() })
    }
}

/// What is wrong with a value, and where it begins.
struct Wrong {
    at: usize,
    what: String,
}

impl Wrong {
    fn new(value: &Spanned<String>, what: impl fmt::Display) -> Wrong {
        Wrong { at: value.span().start, what: what.to_string() }
    }
}

impl Pattern {
    fn of(entry: &Entry) -> Result<Pattern, Wrong> {
        let Entry { function, waits, cause, advice, close } = entry;
        let compiled = RegexBuilder::new(function.get_ref()).size_limit(MOST_COMPILED).build();
        // The library draws a picture of the mistake; its last line says it.
        let said = |wrong: regex::Error| {
            let text = wrong.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        Ok(Pattern {
            function: compiled.map_err(|wrong| Wrong::new(function, format!("function: {}", said(wrong))))?,
            activity: waits.as_ref().map(activity).transpose()?,
            cause: self::cause(cause)?,
            advice: self::advice(advice)?,
            close: close.as_ref().map(|close| close.get_ref().clone()),
        })
    }
}

fn activity(waits: &Spanned<String>) -> Result<Activity, Wrong> {
    match Activity::of(waits.get_ref()) {
        Activity::Other => Err(Wrong::new(
            waits,
            format!(
                "no such wait: {}; as golife dump prints it, such as 'chan receive', select or 'IO wait'",
                waits.get_ref()
            ),
        )),
        activity => Ok(activity),
    }
}

fn cause(cause: &Spanned<String>) -> Result<Cause, Wrong> {
    let found = Cause::ALL.into_iter().find(|known| known.name() == cause.get_ref());
    let names = || Cause::ALL.map(Cause::name).join(", ");
    found.ok_or_else(|| Wrong::new(cause, format!("no such cause: {}; one of {}", cause.get_ref(), names())))
}

/// The text in one line, with nothing between braces but gaps that can be filled.
fn advice(advice: &Spanned<String>) -> Result<String, Wrong> {
    let text = advice.get_ref().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut gaps = text.split('{');
    let is_closed = !gaps.next().unwrap_or_default().contains('}');
    let is_gap = |rest: &str| {
        let gap = rest.split_once('}').filter(|(_, after)| !after.contains('}'));
        gap.is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()))
    };
    match is_closed && gaps.all(is_gap) {
        true => Ok(text),
        false => Err(Wrong::new(advice, "advice: braces are for {place} and for verbs such as {made}")),
    }
}
