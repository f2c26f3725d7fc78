//! database/sql: rows, transactions and databases that are not closed.

use super::{Library, Row, row};
use crate::report::Cause;

pub(super) const LIBRARY: Library = Library { paths: &["database/sql"], copies: &[], rows: ROWS };

const OPEN_ROWS: &str = "a query{made} has rows that are not closed: defer rows.Close() right after the query, and check rows.Err()";
const TRANSACTION: &str =
    "a transaction{begun} is neither committed nor rolled back: defer tx.Rollback() right after BeginTx";
const DATABASE: &str = "a sql.DB{opened} is not closed, one after the other: open one and share it";
const POOL: &str = "all connections of the sql.DB wanted at {place} are taken and not given back: close the rows of every query, and end every transaction";

const ROWS: &[Row] = &[
    row(".(*Rows).*", Cause::SqlRows, OPEN_ROWS),
    row(".(*Tx).*", Cause::SqlRows, TRANSACTION),
    row(".(*DB).connectionOpener", Cause::SqlRows, DATABASE),
    row(".(*DB).connectionCleaner", Cause::SqlRows, DATABASE),
    row(".(*DB).conn", Cause::SqlRows, POOL),
];
