//! `golife-fleet sql`: any query over the table `sites`, which can only read.

use std::process::ExitCode;

use super::show;
use crate::arguments::Sql;
use crate::output::{Answer, Table, arrow};
use crate::session::Session;

/// Runs it.
///
/// # Errors
/// The store cannot be read, or the query cannot be answered.
pub async fn run(arguments: &Sql) -> anyhow::Result<ExitCode> {
    let asking = &arguments.asking;
    let session = Session::open(asking, arguments.window.ms()).await?;
    let mut answer = Answer { schema: "golife.fleet-sql/1", title: "sites".into(), ..Answer::default() };
    if asking.explain {
        answer.drawn(session.explain(&arguments.query).await?);
    } else {
        let (schema, batches) = session.query(&arguments.query).await?;
        answer.json.insert("rows".into(), arrow::json(&batches)?);
        let columns = schema.fields().iter().map(|field| (field.name().clone(), arrow::is_number(field)));
        let mut table = Table::new(columns);
        for batch in &batches {
            table.rows.extend(arrow::rows(batch)?);
        }
        answer.table(None, table);
    }
    answer.notes = session.notes();
    show(&answer, &asking.showing)?;
    Ok(ExitCode::SUCCESS)
}
