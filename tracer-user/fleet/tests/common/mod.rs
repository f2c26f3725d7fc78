//! A fleet in a folder: rows as hosts write them, files damaged in every way, and the program that is asked.
#![allow(clippy::unwrap_used, reason = "a test fails where it is")]
#![allow(dead_code, reason = "each test program uses some of it")]

pub mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use golife::store::{Place, Row, SweepFile};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

pub const HOUR_MS: i64 = 3_600_000;
/// 2026-11-02T00:00:00Z.
pub const START_MS: i64 = 1_793_577_600_000;

/// A row of a site that is well.
pub fn sweep() -> Row {
    Row {
        service: "api".into(),
        version: Some("v1.0.0".into()),
        module: Some("example.com/api".into()),
        function: "example.com/api/hub.(*Hub).Run".into(),
        file: Some("/src/hub.go".into()),
        line: Some(40),
        ordinal: Some(1),
        entry: "example.com/api/hub.(*Hub).Run.func1".into(),
        pid: 7,
        processes: 1,
        window_ns: 30_000_000_000,
        ..Row::default()
    }
}

/// The program, without the secrets of whoever runs the tests.
pub fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_golife-fleet"));
    ["TOKEN", "USER", "PASSWORD"].iter().for_each(|name| {
        program.env_remove(format!("ALERTMANAGER_{name}"));
    });
    program
}

/// Writes the file of one host's sweep, and returns its path.
pub fn write(store: &Path, rows: Vec<Row>) -> PathBuf {
    write_as(store, 1, rows)
}

/// Writes it with a random part of its name.
pub fn write_as(store: &Path, random: u32, rows: Vec<Row>) -> PathBuf {
    let place = Place::new(&rows[0].host, rows[0].sweep_time_ms, random);
    let file = SweepFile::new(place, rows).unwrap();
    let path = store.join(file.place.to_string());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, file.bytes).unwrap();
    path
}

/// What the program says, which must succeed.
pub fn ask(command: &str, store: &Path, arguments: &[&str]) -> String {
    let asked = program().arg(command).arg(store).args(arguments).output().unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).unwrap()
}

/// The same as JSON.
pub fn ask_json(command: &str, store: &Path, arguments: &[&str]) -> Value {
    let text = ask(command, store, &[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&text).unwrap()
}

/// A store in a folder that goes with this.
pub struct Fleet(tempfile::TempDir, String);

impl Fleet {
    pub fn new() -> Fleet {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().to_str().unwrap().to_owned();
        Fleet(folder, url)
    }

    pub fn url(&self) -> &str {
        &self.1
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn hour(&self, hour: i64) -> PathBuf {
        self.path().join(Place::folder(START_MS + hour * HOUR_MS))
    }

    /// Writes the sweep of a host and an hour.
    pub fn write(&self, host: &str, hour: u64, rows: Vec<Row>) {
        let time = START_MS + i64::try_from(hour).unwrap() * HOUR_MS + 60_000;
        let rows =
            rows.into_iter().map(|row| Row { host: host.into(), sweep_time_ms: time, ..row }).collect();
        write(self.path(), rows);
    }

    /// Changes the first file of a host.
    pub fn damage(&self, host: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let entries = fs::read_dir(self.hour(0)).unwrap().map(|entry| entry.unwrap().path());
        let is_its =
            |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{host}-"));
        let path = entries.into_iter().find(is_its).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    fn output(&self, arguments: &[&str]) -> Output {
        program().args(arguments).output().unwrap()
    }

    /// What the program writes.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says where it fails.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn leaks(&self, more: &[&str]) -> Vec<Value> {
        self.leaks_and_notes(more).0
    }

    pub fn leaks_and_notes(&self, more: &[&str]) -> (Vec<Value>, Vec<String>) {
        let arguments = ["leaks", self.url(), "--since", "2026-11-01", "--format", "json"];
        let text = self.run(&[&arguments[..], more].concat());
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["schema"], "golife.fleet/1");
        let notes =
            document["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned());
        (document["findings"].as_array().unwrap().clone(), notes.collect())
    }
}

fn read(bytes: &[u8]) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::copy_from_slice(bytes)).unwrap();
    reader.build().unwrap().next().unwrap().unwrap()
}

fn written(batch: &RecordBatch, version: Option<&str>) -> Vec<u8> {
    let version = version.map(|version| vec![KeyValue::new("golife.schema".to_owned(), version.to_owned())]);
    let properties = WriterProperties::builder().set_key_value_metadata(version).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// A file that says another version of the schema.
pub fn with_version(bytes: &[u8], version: &str) -> Vec<u8> {
    written(&read(bytes), Some(version))
}

/// A Parquet file that has nothing to do with golife.
pub fn foreign() -> Vec<u8> {
    let schema = Schema::new(vec![Field::new("x", DataType::Int64, false)]);
    written(&RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![1]))]).unwrap(), None)
}

/// A file of a later golife, with a column more.
pub fn with_more(bytes: &[u8]) -> Vec<u8> {
    let batch = read(bytes);
    let mut fields: Vec<Field> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.insert(3, Field::new("later", DataType::Int64, false));
    let mut columns = batch.columns().to_vec();
    columns.insert(3, Arc::new(Int64Array::from(vec![1; batch.num_rows()])));
    written(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(), Some("1"))
}

/// The file as Spark writes it: anything may be null, within lists, too, and what is in a list has another name.
pub fn by_spark(bytes: &[u8]) -> Vec<u8> {
    fn maybe(field: &Field, name: &str) -> Field {
        let kind = match field.data_type() {
            DataType::List(item) => DataType::List(Arc::new(maybe(item, "element"))),
            DataType::Struct(fields) => {
                DataType::Struct(fields.iter().map(|field| maybe(field, field.name())).collect())
            }
            other => other.clone(),
        };
        Field::new(name, kind, true)
    }
    let batch = read(bytes);
    let fields: Vec<Field> = batch.schema().fields().iter().map(|field| maybe(field, field.name())).collect();
    let columns = batch.columns().iter().zip(&fields);
    let columns = columns.map(|(column, field)| cast(column, field.data_type()).unwrap()).collect();
    written(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(), None)
}

/// A file of an earlier golife, without the columns that were added.
pub fn with_less(bytes: &[u8]) -> Vec<u8> {
    let batch = read(bytes);
    let schema = batch.schema();
    let is_first = |name: &str| !["pid", "processes", "window_ns", "memory_limit", "blame"].contains(&name);
    let kept: Vec<usize> =
        (0..batch.num_columns()).filter(|column| is_first(schema.field(*column).name())).collect();
    written(&batch.project(&kept).unwrap(), Some("1"))
}
