//! `golife-fleet compact`: the many small files of an hour become one, sorted and well compressed. Whoever asks meanwhile sees each
//! row once: a compacted file says in its metadata which files it stands for, and appears whole or not at all. Nothing is deleted;
//! `expire` does that.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use datafusion::arrow::compute::cast;
use datafusion::arrow::record_batch::RecordBatch;
use golife::human;
use golife::store::columns::{self, ORDER, VERSION, VERSION_KEY};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;

use super::{say, show};
use crate::arguments::{Hourly, ms};
use crate::listing::{COMPACT, HOUR_MS, LeftOut, SweepObject, hour_text, list, without_copies};
use crate::output::{Answer, Cell, Table};
use crate::session::Session;
use crate::store::Store;
use crate::written;

/// Most bytes of sources that become one file. Compacted they are a quarter of that.
const MOST_BYTES: u64 = 1 << 30;
/// Most sources that become one file, which names each of them in its footer.
const MOST_FILES: usize = 20_000;

/// Runs it.
///
/// # Errors
/// The store cannot be read or written.
pub async fn run(arguments: &Hourly) -> anyhow::Result<ExitCode> {
    let asking = &arguments.asking;
    let store = Store::open(&asking.url, asking.store_timeout)?;
    let left_out = LeftOut::default();
    let over = ms(SystemTime::now()) - arguments.after.as_millis() as i64;
    let files = list(&store, arguments.window.ms(), &left_out).await?;
    let mut hours: BTreeMap<i64, Vec<SweepObject>> = BTreeMap::new();
    for file in files.into_iter().filter(|file| file.hour + HOUR_MS <= over) {
        hours.entry(file.hour).or_default().push(file);
    }
    let mut answer = Answer {
        schema: "golife.fleet-compact/1",
        title: format!("compacted {}", store.name()),
        ..Answer::default()
    };
    let mut table =
        Table::new([("hour", false), ("files", true), ("bytes", true), ("rows", true), ("bytes now", true)]);
    for (hour, of_hour) in hours {
        // One file alone is as good as it gets, unless it is the rest of what came late.
        if of_hour.len() < 2 {
            continue;
        }
        let (of_hour, copies) = without_copies(&store, of_hour).await;
        let session = Session::over(asking, store.clone(), of_hour).await?;
        let readable = session.readable().await?;
        let covered: HashSet<&str> = readable.iter().flat_map(SweepObject::sources).collect();
        let raw: Vec<_> = readable.iter().filter(|file| file.is_raw()).cloned().collect();
        let mut copies: Vec<String> = copies
            .iter()
            .map(SweepObject::path)
            .filter(|path| !covered.contains(path))
            .map(str::to_owned)
            .collect();
        if raw.is_empty() {
            copies.clear();
        }
        for sources in portions(raw) {
            let before = sources.iter().map(|file| file.meta.size).sum();
            let number = sources.len() as u64;
            say(&format!("compacting {} of {}", human::plural(number, "file", "files"), hour_text(hour)));
            let made = compacted(arguments, &store, sources, std::mem::take(&mut copies)).await?;
            table.rows.push(vec![
                Cell::Text(hour_text(hour)),
                Cell::Count(number),
                Cell::Bytes(before),
                Cell::Count(made.rows),
                Cell::Bytes(made.bytes),
            ]);
        }
        answer.notes.extend(session.notes());
    }
    if table.rows.is_empty() {
        answer.words("nothing to compact: no hour that is over has several files of hosts");
    } else {
        answer.table(None, table);
    }
    answer.notes.extend(left_out.said());
    show(&answer, &asking.showing)?;
    Ok(ExitCode::SUCCESS)
}

/// What has become of some files.
struct Compacted {
    rows: u64,
    bytes: u64,
}

/// Writes one file in the place of several, and of copies that are not read.
async fn compacted(
    arguments: &Hourly,
    store: &Store,
    sources: Vec<SweepObject>,
    copies: Vec<String>,
) -> anyhow::Result<Compacted> {
    let first = sources.first().cloned().context("no file is there")?;
    let mut paths: Vec<String> = sources.iter().map(|file| file.path().to_owned()).collect();
    paths.extend(copies);
    let session = Session::over(&arguments.asking, store.clone(), sources).await?;
    let names: Vec<_> =
        columns::schema().fields().iter().map(|field| format!("\"{}\"", field.name())).collect();
    let sql = format!("SELECT {} FROM sites ORDER BY {}", names.join(", "), ORDER.join(", "));
    let temporary = tempfile::tempfile().context("cannot make a temporary file")?;
    let writer = Writer::new(temporary.try_clone()?, &paths)?;
    let mut writer = Some(writer);
    // A file that turns out to be broken would begin the answer anew, which a file on disk cannot.
    let rows = session
        .fold(
            &sql,
            || 0u64,
            |rows, batch| {
                *rows += batch.num_rows() as u64;
                writer.as_mut().context("the file is written")?.add(&batch)
            },
        )
        .await?;
    anyhow::ensure!(
        session.notes().is_empty(),
        "a file of {} cannot be read to its end: {}; golife fleet check names it, and compacting goes on without it then",
        hour_text(first.hour),
        session.notes().join("; ")
    );
    writer.take().context("the file is written")?.finish()?;
    let bytes = read_whole(temporary)?;
    let size = bytes.len() as u64;
    // Another one that compacts the same files gives them the same name.
    store.put_new(&written::path(COMPACT, &first, &paths), bytes).await?;
    Ok(Compacted { rows, bytes: size })
}

/// A file that is written batch by batch.
struct Writer(ArrowWriter<File>);

impl Writer {
    fn new(file: File, sources: &[String]) -> anyhow::Result<Writer> {
        let schema = columns::schema();
        let version = KeyValue::new(VERSION_KEY.to_owned(), VERSION.to_string());
        let properties = written::properties(&schema, &ORDER, sources, vec![version])?;
        Ok(Writer(ArrowWriter::try_new(file, schema, Some(properties))?))
    }

    /// Adds rows. Where an older golife left out a column that must be there, this fails.
    fn add(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let schema = columns::schema();
        // As they were read, whatever is within a list may be null.
        let columns = batch.columns().iter().zip(schema.fields());
        let columns =
            columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>();
        let batch = columns
            .and_then(|columns| RecordBatch::try_new(schema, columns))
            .context("rows of an older golife lack a column, and are left as they are")?;
        Ok(self.0.write(&batch)?)
    }

    fn finish(self) -> anyhow::Result<()> {
        self.0.close()?;
        Ok(())
    }
}

fn read_whole(mut file: File) -> anyhow::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_end(&mut bytes))
        .context("cannot read a temporary file")?;
    Ok(bytes)
}

/// Files that become one together.
fn portions(files: Vec<SweepObject>) -> Vec<Vec<SweepObject>> {
    let mut portions: Vec<Vec<SweepObject>> = Vec::new();
    let mut bytes = u64::MAX;
    for file in files {
        let is_full = portions.last().is_some_and(|portion| portion.len() >= MOST_FILES);
        if is_full || bytes.saturating_add(file.meta.size) > MOST_BYTES {
            portions.push(Vec::new());
            bytes = 0;
        }
        bytes += file.meta.size;
        portions.last_mut().into_iter().for_each(|portion| portion.push(file.clone()));
    }
    portions
}
