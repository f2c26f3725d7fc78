//! go.opentelemetry.io/otel: providers that are not shut down.

use super::{Library, Row, closed};

pub(super) const LIBRARY: Library = Library { paths: &["go.opentelemetry.io/otel"], copies: &[], rows: ROWS };

const ROWS: &[Row] = &[
    closed("/sdk/trace.(*batchSpanProcessor).processQueue", "TracerProvider.Shutdown"),
    closed("/sdk/metric.(*PeriodicReader).run", "MeterProvider.Shutdown"),
];
