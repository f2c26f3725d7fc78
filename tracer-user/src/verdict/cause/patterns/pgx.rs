//! github.com/jackc/pgx with the pool that it is built on, github.com/jackc/puddle: pools that are not closed, and
//! connections that are not given back.

use super::{Library, Row, closed, row};
use crate::report::Cause;

pub(super) const LIBRARY: Library =
    Library { paths: &["github.com/jackc/pgx", "github.com/jackc/puddle"], copies: &[], rows: ROWS };

const EXHAUSTED: &str = "all connections of the pgxpool.Pool wanted at {place} are taken and not given back: close the rows of every query (defer rows.Close()), end every transaction, and Release what Acquire has returned";

const ROWS: &[Row] = &[
    closed("/pgxpool.(*Pool).backgroundHealthCheck", "Pool.Close"),
    row("/pgxpool.(*Pool).Acquire", Cause::SqlRows, EXHAUSTED),
];
