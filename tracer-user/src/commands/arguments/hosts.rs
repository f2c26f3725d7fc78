//! What `golife sweep` can be asked for beyond this host.

use std::path::PathBuf;
use std::sync::{Arc, atomic::AtomicBool};
use std::time::Duration;

use clap::{Args, ValueHint};

use super::parse_duration;

/// The subcommand that golife is started with on another host.
pub const ASKED: &str = "sweep-asked-over-ssh";

/// Other hosts than this one, and how to reach them.
#[derive(Clone, Debug, Args)]
pub struct Hosts {
    /// The file with the hosts to sweep instead of this one.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "ssh", help = "Sweep the hosts of this file \
        instead of this one: [user@]host[:port] a line, an IPv6 address in brackets, comments from # on; '-' reads standard input. \
        --ssh says how")]
    #[arg(conflicts_with_all = ["pid", "source_root", "every", "host"])]
    pub hosts: Option<PathBuf>,
    /// Reach --hosts by the system's ssh, which never asks for a password: golife sends itself to a fresh folder, which is
    /// removed before it runs, and nothing stays there. It needs sh, coreutils and gzip there, or busybox
    #[arg(long, requires = "hosts")]
    pub ssh: bool,
    /// Look as root there, by sudo -n, which never asks for a password either
    #[arg(long, requires = "hosts")]
    pub sudo: bool,
    /// The configuration of ssh, instead of the user's own: ports, keys, jump hosts
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "hosts")]
    pub ssh_config: Option<PathBuf>,
    /// How many hosts are asked at once. sshd takes ten that log in at the same time unless it is told otherwise, which counts
    /// where all are behind one jump host
    #[arg(long, value_name = "N", default_value_t = 10, requires = "hosts")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub parallel: u16,
    /// How long a host may take, beside --twice, until it counts as one that does not answer
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration, requires = "hosts")]
    pub host_timeout: Duration,
    /// Of a golife that another one has started on this host, over ssh: set when the second look is to be taken at once. No
    /// option says so.
    #[arg(skip)]
    pub asked: Option<Arc<AtomicBool>>,
}
