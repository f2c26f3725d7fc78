//! Reads saved reports, site by site. A report of many sites takes several times more room in memory than in its file, and
//! what is made of it needs one site at a time.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::report::{Process, Report, SCHEMA, Site};

/// Why a saved report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The text is not JSON, or not a report. The message names the field.
    #[error("not a golife report: {0}")]
    Json(String),
    /// It is a report of another schema, which is named here.
    #[error("report of schema {0:?}, this golife reads {SCHEMA}")]
    Schema(String),
    /// The text is empty.
    #[error("no report in it")]
    Empty,
}

/// A saved report: a document, or lines of which the last one counts, since each covers the time since the start.
#[derive(Debug)]
pub struct Saved {
    source: Source,
    /// Where the document begins, in bytes.
    start: u64,
}

/// Where the text is. A file is opened each time it is read, so that any number of reports needs no more open files.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    Text(Vec<u8>),
}

trait ReadAt: Read + Seek {}
impl<T: Read + Seek> ReadAt for T {}

impl Source {
    fn open(&self) -> io::Result<Box<dyn ReadAt + '_>> {
        Ok(match self {
            Source::File(path) => Box::new(File::open(path)?),
            Source::Text(text) => Box::new(Cursor::new(text)),
        })
    }
}

impl Saved {
    /// Opens a saved report, and reads all of it but its sites. What is no regular file, such as a pipe, is kept in memory.
    ///
    /// # Errors
    /// The file cannot be read, or it is no report, or one of another schema.
    pub fn open(path: &Path) -> Result<(Report, Saved), ReadError> {
        let mut file = File::open(path)?;
        if file.metadata()?.is_file() {
            return Saved::of(Source::File(path.to_owned()));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Saved::of(Source::Text(text))
    }

    fn of(source: Source) -> Result<(Report, Saved), ReadError> {
        let reader = BufReader::new(source.open()?);
        let mut documents = serde_json::Deserializer::from_reader(reader).into_iter::<IgnoredAny>();
        let (mut last, mut end) = (None, 0);
        while let Some(document) = documents.next() {
            document.map_err(|error| ReadError::Json(error.to_string()))?;
            last = Some(end);
            end = documents.byte_offset() as u64;
        }
        drop(documents);
        let saved = Saved { start: last.ok_or(ReadError::Empty)?, source };
        let Head { schema } = saved.read(|text| Head::deserialize(text))?;
        if schema != SCHEMA {
            return Err(ReadError::Schema(schema.chars().take(80).collect()));
        }
        let report = saved.read(|text| Document(None).deserialize(text))?;
        Ok((report, saved))
    }

    /// Reads the sites, and hands each of them on with the number of its process.
    ///
    /// # Errors
    /// The text is no report, a site has numbers that cannot be, or `each` says why it cannot take one.
    pub fn sites(&self, each: &mut dyn FnMut(usize, Site) -> Result<(), String>) -> Result<(), ReadError> {
        self.read(|text| Document(Some(each)).deserialize(text)).map(drop)
    }

    /// Reads the document. An error says where in it.
    fn read<T>(
        &self,
        read: impl FnOnce(
            serde_path_to_error::Deserializer<'_, '_, &mut JsonReader<'_>>,
        ) -> Result<T, serde_json::Error>,
    ) -> Result<T, ReadError> {
        let mut source = self.source.open()?;
        source.seek(SeekFrom::Start(self.start))?;
        let mut text = serde_json::Deserializer::from_reader(BufReader::new(source));
        let mut track = serde_path_to_error::Track::new();
        let read = read(serde_path_to_error::Deserializer::new(&mut text, &mut track));
        read.map_err(|error| ReadError::Json(at(&track.path(), &error)))
    }
}

type JsonReader<'a> = serde_json::Deserializer<serde_json::de::IoRead<BufReader<Box<dyn ReadAt + 'a>>>>;

/// An error with the field that it is about.
fn at(path: &serde_path_to_error::Path, error: &dyn fmt::Display) -> String {
    match path.iter().next() {
        Some(_) => format!("{path}: {error}"),
        None => error.to_string(),
    }
}

/// Reads a whole report.
///
/// # Errors
/// It is no report, or one of another schema.
pub fn read(text: &str) -> Result<Report, ReadError> {
    let (mut report, saved) = Saved::of(Source::Text(text.into()))?;
    saved.sites(&mut |process, site| {
        report.processes[process].sites.push(site);
        Ok(())
    })?;
    Ok(report)
}

/// What every version of the contract has.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    schema: String,
}

/// Takes a site with the number of its process.
type Each<'a> = &'a mut dyn FnMut(usize, Site) -> Result<(), String>;

/// A report of which each site is handed on. Without anybody who takes them, sites are passed over.
struct Document<'a>(Option<Each<'a>>);

/// The processes of a report.
struct Processes<'a, 'b>(&'b mut Option<Each<'a>>);

/// A process with its number.
struct OfProcess<'a, 'b>(usize, &'b mut Option<Each<'a>>);

/// The sites of the process with this number.
struct Sites<'a, 'b>(usize, &'b mut Option<Each<'a>>);

/// What was read of an object beside the one field that is read piece by piece, as the type that it is of.
fn whole<T: DeserializeOwned, E: serde::de::Error>(
    mut rest: Map<String, Value>,
    piecewise: &str,
) -> Result<T, E> {
    rest.insert(piecewise.into(), Value::Array(Vec::new()));
    let value = serde_path_to_error::deserialize(Value::Object(rest));
    value.map_err(|error| E::custom(at(error.path(), error.inner())))
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = Report;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Report, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Report;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a report")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Report, A::Error> {
        let (mut rest, mut processes) = (Map::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            if key == "processes" {
                processes = Some(map.next_value_seed(Processes(&mut self.0))?);
            } else {
                rest.insert(key, map.next_value()?);
            }
        }
        let processes = processes.ok_or_else(|| A::Error::missing_field("processes"))?;
        Ok(Report { processes, ..whole(rest, "processes")? })
    }
}

impl<'de> DeserializeSeed<'de> for Processes<'_, '_> {
    type Value = Vec<Process>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Process>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Processes<'_, '_> {
    type Value = Vec<Process>;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of processes")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Process>, A::Error> {
        let mut processes = Vec::new();
        while let Some(process) = seq.next_element_seed(OfProcess(processes.len(), self.0))? {
            processes.push(process);
        }
        Ok(processes)
    }
}

impl<'de> DeserializeSeed<'de> for OfProcess<'_, '_> {
    type Value = Process;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Process, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OfProcess<'_, '_> {
    type Value = Process;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a process")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Process, A::Error> {
        let (mut rest, mut has_sites) = (Map::new(), false);
        while let Some(key) = map.next_key::<String>()? {
            has_sites |= key == "sites";
            match key.as_str() {
                "sites" if self.1.is_none() => drop(map.next_value::<IgnoredAny>()?),
                "sites" => map.next_value_seed(Sites(self.0, self.1))?,
                _ => drop(rest.insert(key, map.next_value()?)),
            }
        }
        if !has_sites {
            return Err(A::Error::missing_field("sites"));
        }
        whole(rest, "sites")
    }
}

impl<'de> DeserializeSeed<'de> for Sites<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Sites<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of sites")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(site) = seq.next_element::<Site>()? {
            let taken = site.check().map_err(str::to_owned).and_then(|()| match self.1 {
                Some(each) => each(self.0, site),
                None => Ok(()),
            });
            taken.map_err(|why| A::Error::custom(format!("site {number}: {why}")))?;
            number += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::go_tests;
    use crate::report::{Baselined, Ignored, Loss, Overhead, Summary, Test, TestKind, Tool, Window};

    fn report(sites: u32) -> Report {
        let window = Window { start: "s".into(), end: "e".into(), duration_ns: 7 };
        let site = |n| Site { live: u64::from(n), ..Site::default() };
        let process = |pid| Process { pid, sites: (0..sites).map(site).collect(), ..Process::default() };
        let (loss, overhead, summary) = (Loss::default(), Overhead::default(), Summary::default());
        let processes = vec![process(1), process(2)];
        Report {
            schema: SCHEMA.into(),
            tool: Tool::default(),
            window,
            loss,
            overhead,
            summary,
            ignored: vec![Ignored { pattern: "main".into(), sites: 1 }],
            baseline: Some(Baselined::default()),
            max_created: Vec::new(),
            tests: vec![Test { test: "TestPool".into(), runs: 2, ..Test::default() }],
            toolchain_processes: 3,
            processes,
        }
    }

    #[test]
    fn what_was_written_is_read_again_whatever_the_order_of_the_fields() {
        let report = report(3);
        let text = serde_json::to_string_pretty(&report).unwrap();
        assert_eq!(read(&text).unwrap(), report);
        // A value orders the fields by name.
        let sorted = serde_json::to_value(&report).unwrap().to_string();
        assert_eq!(read(&sorted).unwrap(), report);
        assert_eq!(read(&format!("{{}}\n{sorted}\n")).unwrap(), report, "the last line counts");
    }

    #[test]
    fn what_tests_have_left_behind_is_read_again() {
        let report = go_tests();
        assert!(report.tests.iter().any(|test| test.leaked.len() > 1));
        assert_eq!(read(&serde_json::to_string(&report).unwrap()).unwrap(), report);
        let mut value = serde_json::to_value(&report).unwrap();
        value["tests"][0]["kind"] = "of_tomorrow".into();
        assert_eq!(read(&value.to_string()).unwrap().tests[0].kind, TestKind::Unknown);
        let left = value["tests"].as_array().unwrap().iter().position(|test| test["leaked"][0].is_object());
        value["tests"][left.unwrap()]["leaked"][0]["outlived_ns"] = (-1).into();
        let said = read(&value.to_string()).unwrap_err().to_string();
        assert!(said.contains("leaked[0].outlived_ns: invalid value"), "{said}");
    }

    #[test]
    fn sites_come_one_by_one_and_do_not_stay() {
        let text = serde_json::to_string(&report(500)).unwrap();
        let (head, saved) = Saved::of(Source::Text(text.into())).unwrap();
        assert!(head.processes.iter().all(|process| process.sites.is_empty()));
        let mut seen = Vec::new();
        saved
            .sites(&mut |process, site| {
                seen.push((process, site.live));
                Ok(())
            })
            .unwrap();
        assert_eq!((seen.len(), seen[499], seen[500]), (1_000, (0, 499), (1, 0)));
    }

    #[test]
    fn what_is_not_a_report_is_refused() {
        assert!(matches!(read(""), Err(ReadError::Empty)));
        assert!(matches!(read("{"), Err(ReadError::Json(_))));
        assert!(matches!(read("{\"schema\": \"golife.report/9\"}"), Err(ReadError::Schema(_))));
        assert!(matches!(read("{}\n{\"schema\": \"golife.report/8\"}\n"), Err(ReadError::Schema(_))));
        assert!(matches!(read("{}\n{\"schema\""), Err(ReadError::Json(_))));
        assert!(matches!(read("[1]"), Err(ReadError::Json(_) | ReadError::Schema(_))));
        assert!(matches!(read("{\"schema\": \"golife.report/1\"}"), Err(ReadError::Json(_))));
    }

    #[test]
    fn a_number_that_cannot_be_is_refused_with_its_field() {
        let refused = |change: fn(&mut Value)| {
            let mut value = serde_json::to_value(report(2)).unwrap();
            change(&mut value);
            read(&value.to_string()).unwrap_err().to_string()
        };
        let said = refused(|report| report["processes"][1]["sites"][1]["live"] = (-1).into());
        assert!(said.contains("processes[1].sites[1].live: invalid value: integer `-1`"), "{said}");
        let said = refused(|report| report["processes"][1]["sites"][0]["created_per_s"] = (-0.5).into());
        assert!(said.contains("processes[1].sites") && said.contains("created_per_s"), "{said}");
        let said = refused(|report| report["window"]["duration_ns"] = 1e300.into());
        assert!(said.contains("window.duration_ns"), "{said}");
        let said = refused(|report| report["processes"][0]["pid"] = (1u64 << 40).into());
        assert!(said.contains("processes[0]") && said.contains("pid: invalid value"), "{said}");
    }
}
