//! Rows as DataFusion gives them become cells, and JSON.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Field;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::ArrayWriter;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;

use super::Cell;

/// Whether a column holds numbers.
pub fn is_number(field: &Field) -> bool {
    field.data_type().is_numeric()
}

/// The rows of a batch as cells.
///
/// # Errors
/// A value cannot be shown.
pub fn rows(batch: &RecordBatch) -> Result<Vec<Vec<Cell>>, ArrowError> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let columns: Vec<ArrayFormatter> = columns.collect::<Result<_, _>>()?;
    let cell = |column: usize, row: usize| match batch.column(column).is_null(row) {
        true => Ok(Cell::Missing),
        false => columns[column].value(row).try_to_string().map(Cell::Text),
    };
    (0..batch.num_rows()).map(|row| (0..columns.len()).map(|column| cell(column, row)).collect()).collect()
}

/// The rows as JSON: an object each.
///
/// # Errors
/// A value has no form in JSON.
pub fn json(batches: &[RecordBatch]) -> anyhow::Result<Value> {
    let mut writer = ArrayWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    let text = writer.into_inner();
    Ok(if text.is_empty() { Value::Array(Vec::new()) } else { serde_json::from_slice(&text)? })
}
