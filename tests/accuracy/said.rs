//! What golife says of a program that is made of cases.

use std::path::Path;

use serde_json::Value;

use crate::support::{Running, golife, only_process, ready};

/// The levels of a verdict. A leak must have at least the level that its case demands.
pub const LEVELS: [&str; 5] = ["unknown", "healthy", "watch", "suspect", "proven"];

/// The place of a level among [`LEVELS`].
pub fn rank(level: &str) -> usize {
    LEVELS.iter().position(|known| *known == level).unwrap()
}

/// What golife says of some cases that run side by side, after it has watched them for `window`.
pub fn watch(binary: &Path, args: &[&str], window: &str) -> Said {
    let mut program = ready(binary, args);
    let pid = program.pid().to_string();
    let command = &["leaks", "--creation-stacks", "--pid", &pid, "--for", window, "--format", "json"];
    let mut golife = Running::start(golife().args(command));
    golife.wait_for_error_line("tracing ");
    program.write("go");
    let ended = golife.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    program.expect_alive();
    let report = ended.report();
    assert_eq!(report["loss"]["dropped"], 0);
    let process = only_process(&report);
    let findings: Vec<Finding> = process["findings"].as_array().unwrap().iter().map(Finding::parse).collect();
    let mut sites: Vec<Site> = process["sites"].as_array().unwrap().iter().map(Site::parse).collect();
    for (number, finding) in findings.iter().enumerate() {
        for &at in &finding.sites {
            sites[at].finding = Some(number);
        }
    }
    Said { sites, findings }
}

/// What a report says of a process.
pub struct Said {
    pub sites: Vec<Site>,
    /// What belongs together.
    pub findings: Vec<Finding>,
}

/// A site of a report.
pub struct Site {
    pub function: String,
    pub file: String,
    pub line: u64,
    pub live: u64,
    pub level: usize,
    pub cause: String,
    pub advice: String,
    /// The evidence for the verdict.
    pub why: String,
    /// File and line of the code that most of its goroutines go back to.
    pub blame: Option<(String, u64)>,
    /// The number of the finding that it is a part of.
    pub finding: Option<usize>,
}

impl Site {
    fn parse(site: &Value) -> Site {
        let (place, verdict) = (&site["site"], &site["verdict"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Site {
            function: text(&place["function"]),
            file: text(&place["file"]),
            line: place["line"].as_u64().unwrap_or(0),
            live: site["live"].as_u64().unwrap(),
            level: LEVELS.iter().position(|level| verdict["level"] == *level).unwrap(),
            cause: text(&verdict["cause"]),
            advice: text(&verdict["advice"]),
            why: verdict["evidence"]
                .as_array()
                .unwrap()
                .iter()
                .map(|each| text(&each["text"]))
                .collect::<Vec<_>>()
                .join("; "),
            finding: None,
            blame: site["blame"][0]["line"].as_u64().map(|line| (text(&site["blame"][0]["file"]), line)),
        }
    }

    pub fn is_alarm(&self) -> bool {
        self.level >= rank("suspect")
    }

    pub fn is_at(&self, places: &[(String, u64)]) -> bool {
        places.iter().any(|(file, line)| self.file.ends_with(file) && self.line == *line)
    }

    /// Whether it is blamed on one of these places.
    pub fn is_blamed_on(&self, places: &[(String, u64)]) -> bool {
        is_among(&self.blame, places)
    }

    pub fn place(&self) -> String {
        format!("{} ({}:{})", self.function, self.file.rsplit('/').next().unwrap_or_default(), self.line)
    }
}

/// Whether a file and line is one of these places.
fn is_among(position: &Option<(String, u64)>, places: &[(String, u64)]) -> bool {
    let is_it =
        |(file, line): &(String, u64)| places.iter().any(|(wanted, at)| file.ends_with(wanted) && line == at);
    position.as_ref().is_some_and(is_it)
}

/// A finding of a report.
pub struct Finding {
    pub level: usize,
    pub cause: String,
    pub advice: String,
    /// File and line of the program that it is blamed on.
    pub blamed: Option<(String, u64)>,
    /// Its sites, by their indices. The first tells what to do.
    pub sites: Vec<usize>,
}

impl Finding {
    fn parse(finding: &Value) -> Finding {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let blamed = &finding["blamed"];
        let sites = finding["sites"].as_array().unwrap().iter().map(|site| site.as_u64().unwrap() as usize);
        Finding {
            level: LEVELS.iter().position(|level| finding["level"] == *level).unwrap(),
            cause: text(&finding["cause"]),
            advice: text(&finding["advice"]),
            blamed: blamed["line"].as_u64().map(|line| (text(&blamed["file"]), line)),
            sites: sites.collect(),
        }
    }

    pub fn is_alarm(&self) -> bool {
        self.level >= rank("suspect")
    }

    /// Whether it is blamed on one of these places.
    pub fn is_blamed_on(&self, places: &[(String, u64)]) -> bool {
        is_among(&self.blamed, places)
    }
}
