//! Where sweeps are kept for a fleet, how processes are called there, and what is not to be said of them.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint};

use crate::report::Redacted;

/// Where what was found is kept, beside being shown.
#[derive(Clone, Debug, Args)]
pub struct Storing {
    /// Keep what was found in this store, too, as a Parquet file for golife fleet: a folder, s3://BUCKET/PATH, gs://BUCKET/PATH
    /// or az://CONTAINER/PATH. Keys come from the environment (AWS_…, GOOGLE_…, AZURE_…) or the instance's metadata. All sites
    /// are kept, also those that --top and --min-age hide; command lines and labels never are
    #[arg(long, value_name = "URL", value_hint = ValueHint::AnyPath)]
    pub to: Option<String>,
    /// The host's name in the store, unless that is what the host calls itself
    #[arg(long, value_name = "NAME", requires = "to")]
    pub host: Option<String>,
    /// Keep whole distributions of lifetimes in the store (HdrHistogram), beside the buckets that fleets are merged by. That
    /// doubles the size
    #[arg(long, requires = "to")]
    pub with_hdr: bool,
    /// How long to try to reach the store, again and again with growing pauses, before it counts as away
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = super::parse_duration, requires = "to")]
    pub store_timeout: Duration,
    /// Where files wait while the store is away; the next golife with the same --to sends them. /var/lib/golife/spool for root,
    /// ~/.local/state/golife/spool for others
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "to")]
    pub spool: Option<PathBuf>,
    /// Most bytes that may wait for a store. Beyond that the oldest files are dropped, which is said
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, requires = "to")]
    pub spool_bytes: u64,
}

/// How processes are called, and what is not said of them.
#[derive(Clone, Debug, Args)]
pub struct Naming {
    /// The service that the processes are of, in reports, profiles and stores. Unless said, it is the pod's workload, else the name of the container,
    /// else the systemd unit, else the executable's name
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// What to leave out of reports and profiles, since it may hold secrets: command, labels (those of pprof.Do), or both
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = redacted_parser())]
    pub redact: Vec<Redacted>,
}

fn redacted_parser() -> impl TypedValueParser<Value = Redacted> {
    PossibleValuesParser::new(Redacted::NAMES.map(|(name, _)| name)).try_map(|name| {
        Redacted::NAMES
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, what)| what)
            .ok_or("no such thing")
    })
}

impl Naming {
    /// Whether the user has said nothing.
    pub fn is_default(&self) -> bool {
        self.service.is_none() && self.redact.is_empty()
    }
}
