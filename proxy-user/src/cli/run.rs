//! `tidegate run`: the daemon in the foreground, until it is told to end.

use std::path::PathBuf;

use clap::ValueEnum;
use proxy_user::daemon::{self, Options};
use proxy_user::logging::{self, FILTER_VARIABLE, Format};

use super::DEFAULT_CONFIG;

/// Serve, in the foreground
///
/// SIGTERM and SIGINT drain and end, SIGHUP reads config and policies again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate run --config edge.json
  TIDEGATE_LOG=debug tidegate run --config edge.json --log-format text")]
pub(super) struct Args {
    /// Config
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Form of the daemon's log on stderr; text on a terminal and JSON elsewhere, unless set
    #[arg(long, value_name = "FORM", value_enum)]
    log_format: Option<LogFormat>,
    /// Write the secrets of all TLS sessions here, for Wireshark: who has the file can read the traffic
    #[arg(long, value_name = "FILE")]
    key_log: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let format = match args.log_format {
        Some(LogFormat::Text) => Format::Text,
        Some(LogFormat::Json) => Format::Json,
        None => Format::for_stderr(),
    };
    let filter = std::env::var(FILTER_VARIABLE).ok();
    logging::init(format, filter.as_deref())?;
    daemon::run(&Options { config: args.config.clone(), key_log: args.key_log.clone() })
}
