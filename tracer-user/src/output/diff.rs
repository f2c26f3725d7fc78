//! Writes what has changed between two reports: as text, or as GitHub-flavoured Markdown for a pull request.

use std::io::{self, Write};

use super::names::{located, place};
use super::style::{BOLD, DIM, of_level, paint};
use crate::human::{clean, count, duration, file_name, imported, rate, wrap};
use crate::report::{Change, Compared, Diff, Difference, Level, Measure, Seen, SiteDiff};

/// Columns before what is said of a statement.
const INDENT: usize = 8;

/// Writes it for people, in at most `width` columns.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn write(diff: &Diff, width: usize, out: &mut dyn Write) -> io::Result<()> {
    for line in wrap(&format!("{}; {}", compared(diff), summary(diff)), width) {
        writeln!(out, "{}", paint(BOLD, line))?;
    }
    for site in &diff.sites {
        let style = if site.regression { of_level(Level::Suspect) } else { of_change(site.change) };
        let label = paint(style, format_args!("{:<INDENT$}", site.change.name()));
        writeln!(out, "\n{label}{}{}", located(&site.site), number(site))?;
        let program = site.program.as_ref().map(|program| format!("of {}", clean(program)));
        let cells = MEASURES
            .iter()
            .filter_map(|measure| Some(format!("{} {}", measure_name(*measure), cell(site, *measure)?)));
        let about: Vec<String> = cells.chain(silenced(site).map(str::to_owned)).chain(program).collect();
        for line in wrap(&about.join("; "), width.saturating_sub(INDENT)) {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
    }
    if !diff.sites.is_empty() {
        writeln!(out)?;
    }
    for line in wrap(&method(diff), width) {
        writeln!(out, "{}", paint(DIM, line))?;
    }
    Ok(())
}

/// Writes it as GitHub-flavoured Markdown.
///
/// # Errors
/// The text cannot be written to `out`.
pub fn write_markdown(diff: &Diff, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "### Goroutines: {}\n", summary(diff))?;
    if !diff.sites.is_empty() {
        writeln!(out, "| change | `go` statement | verdict | live | lifetime, median | created |")?;
        writeln!(out, "| --- | --- | --- | --- | --- | --- |")?;
    }
    for site in &diff.sites {
        let change =
            if site.regression { format!("**{}**", site.change.name()) } else { site.change.name().into() };
        let change = silenced(site).map_or(change.clone(), |silenced| format!("{change}, {silenced}"));
        let statement = format!("{} in {}{}", place(&site.site), imported(&site.site.function), number(site));
        let cells = MEASURES.map(|measure| cell(site, measure).unwrap_or_default().replace('|', "\\|"));
        writeln!(out, "| {change} | {} | {} |", code(&statement), cells.join(" | "))?;
    }
    if !diff.sites.is_empty() {
        writeln!(out)?;
    }
    writeln!(out, "<sub>{}: {}</sub>", html(&compared(diff)), html(&method(diff)))
}

/// What is shown, in this order.
const MEASURES: [Measure; 4] = [Measure::Verdict, Measure::Live, Measure::Lifetime, Measure::Created];

fn measure_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Verdict => "verdict",
        Measure::Live => "live",
        Measure::Lifetime => "median lifetime",
        Measure::Created => "created",
    }
}

/// What was and what is, with how likely chance makes the difference; `None` if neither is known.
fn cell(site: &SiteDiff, measure: Measure) -> Option<String> {
    let value = |seen: &Option<Seen>| seen.as_ref().and_then(|seen| value(seen, measure));
    let values = match (value(&site.old), value(&site.new)) {
        (None, None) => return None,
        (Some(old), Some(new)) if old == new => old,
        (old, new) => {
            let or_none = |value: Option<String>| value.unwrap_or_else(|| "–".into());
            format!("{} → {}", or_none(old), or_none(new))
        }
    };
    let difference = site.differences.iter().find(|difference| difference.measure == measure);
    Some(match difference.and_then(chance) {
        Some(chance) => format!("{values} ({chance})"),
        None => values,
    })
}

fn value(seen: &Seen, measure: Measure) -> Option<String> {
    match measure {
        Measure::Verdict => Some(match seen.cause {
            Some(cause) if seen.level >= Level::Watch => format!("{} ({})", seen.level.name(), cause.name()),
            _ => seen.level.name().into(),
        }),
        Measure::Live => Some(count(seen.live)),
        Measure::Lifetime => seen.p50_ns.map(duration),
        Measure::Created => Some(seen.created_per_s.map_or_else(|| count(seen.created), rate)),
    }
}

fn chance(difference: &Difference) -> Option<String> {
    let p = difference.p?;
    Some(match () {
        () if p < 0.0001 => "p < 0.0001".into(),
        () if p < 0.1 => format!("p = {p:.4}"),
        () => format!("p = {p:.2}"),
    })
}

/// Which statement of its function it is, where that is known.
fn number(site: &SiteDiff) -> String {
    site.ordinal.map(|ordinal| format!(" #{ordinal}")).unwrap_or_default()
}

fn silenced(site: &SiteDiff) -> Option<&'static str> {
    site.new.as_ref().filter(|new| new.silenced).map(|_| "silenced")
}

fn of_change(change: Change) -> anstyle::Style {
    match change {
        Change::Worse => of_level(Level::Suspect),
        Change::Better => of_level(Level::Healthy),
        Change::New | Change::Gone | Change::Changed => BOLD,
    }
}

fn summary(diff: &Diff) -> String {
    let of = &diff.summary;
    let all = [of.worse, of.new, of.gone, of.better, of.changed, of.same];
    let [worse, new, gone, better, changed, same] = all.map(count);
    format!("{worse} worse, {new} new, {gone} gone, {better} better, {changed} changed, {same} unchanged")
}

fn compared(diff: &Diff) -> String {
    let of = |report: &Compared| {
        let (path, time) = (clean(file_name(&report.path)), duration(report.duration_ns));
        let processes = if report.processes == 1 { "process" } else { "processes" };
        format!("{path} ({time}, {} {processes})", count(report.processes))
    };
    format!("{} against {}", of(&diff.new), of(&diff.old))
}

/// What the numbers mean, and what was left out.
fn method(diff: &Diff) -> String {
    let left_out = |number: u64, one: &str, what: &str| match number {
        0 => String::new(),
        1 => format!(" 1 {one} {what}."),
        number => format!(" {} {one}s {what}.", count(number)),
    };
    let unnamed =
        left_out(diff.old.unnamed + diff.new.unnamed, "row", "of sites beyond --max-sites: not compared");
    let hidden = left_out(
        diff.old.hidden + diff.new.hidden,
        "site",
        "not in the files (--top, --min-age): what is new or gone may be one of them",
    );
    format!(
        "p is how likely chance alone makes such a difference, if goroutines are created independently of each other and the \
         load is the same. What counts is half as much again or more (of lifetimes by 10 ms, too), with p below {} / {} tests.{unnamed}{hidden}",
        diff.chance,
        count(diff.tests)
    )
}

/// Text from a target as code in a cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", clean(text).replace('`', "'").replace('|', "\\|"))
}

/// Text that is no Markdown and no HTML.
fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '|' | '~' | '@' | '\\' | '#' | '!' => {
                safe.push_str(&format!("&#{};", u32::from(char)));
            }
            char => safe.push(char),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cause, Changes, DIFF_SCHEMA, Frame};

    fn example() -> Diff {
        let seen = |level, live| Seen {
            level,
            cause: Some(Cause::Mutex),
            created: live,
            created_per_s: Some(8.0),
            live,
            ..Seen::default()
        };
        let frame = |function: &str| Frame {
            function: function.into(),
            file: Some("/a/hub.go".into()),
            line: Some(88),
        };
        let live = Difference { measure: Measure::Live, worse: true, p: Some(1e-9), significant: true };
        let created =
            Difference { measure: Measure::Created, worse: true, p: Some(0.031), significant: false };
        let site = SiteDiff {
            change: Change::Worse,
            regression: true,
            program: Some("x.io/a|b".into()),
            site: frame("x.io/a|b.(*Hub).`run`"),
            ordinal: Some(2),
            old: Some(seen(Level::Healthy, 4)),
            new: Some(Seen {
                p50_ns: Some(2_000_000),
                created_per_s: Some(9.0),
                ..seen(Level::Suspect, 240)
            }),
            differences: vec![live, created],
        };
        let gone = SiteDiff {
            change: Change::Gone,
            regression: false,
            new: None,
            differences: Vec::new(),
            site: frame("x.io/c.f"),
            ordinal: None,
            ..site.clone()
        };
        let compared = |path: &str| Compared {
            path: format!("/tmp/{path}"),
            duration_ns: 30_000_000_000,
            processes: 1,
            ..Compared::default()
        };
        Diff {
            schema: DIFF_SCHEMA.into(),
            old: compared("a_*old*.json"),
            new: compared("new.json"),
            summary: Changes { worse: 1, gone: 1, same: 7, regressions: 1, ..Changes::default() },
            chance: 0.01,
            tests: 20,
            sites: vec![site, gone],
        }
    }

    #[test]
    fn people_read_what_was_and_what_is() {
        let mut text = Vec::new();
        write(&example(), 400, &mut text).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&text).unwrap()).to_string();
        for said in [
            "new.json (30 s, 1 process) against a_*old*.json (30 s, 1 process); 1 worse, 0 new, 1 gone, 0 better, 0 changed, 7 unchanged\n",
            "worse   hub.go:88 in ",
            " #2\n        verdict healthy → suspect (mutex); live 4 → 240 (p < 0.0001); median lifetime – → 2 ms; created 8.0/s → \
             9.0/s (p = 0.0310); of x.io/a|b\n",
            "gone    hub.go:88 in c.f\n        verdict healthy → –; live 4 → –; created 8.0/s → –; of",
            "p below 0.01 / 20 tests.",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
    }

    #[test]
    fn a_table_stands_whatever_the_names_are() {
        let mut text = Vec::new();
        write_markdown(&example(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let row = "| **worse** | `hub.go:88 in x.io/a\\|b.(*Hub).'run' #2` | healthy → suspect (mutex) | 4 → 240 (p < 0.0001) | \
                   – → 2 ms | 8.0/s → 9.0/s (p = 0.0310) |\n";
        assert!(text.contains(row), "{text}");
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let table: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(table.len() == 4 && table.iter().all(|line| cells(line) == 7), "{text}");
        assert!(text.contains("a&#95;&#42;old&#42;.json"), "{text}");
    }
}
