//! The daemon's own log: where it goes, in which form, and how much. The access log is not this module's concern.
//!
//! Lines of the kernel programs arrive through the `log` crate (aya-log writes there) and are bridged like the
//! lines of every other crate that uses it.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// The environment variable with the filter, e.g. `debug` or `info,proxy_user::tls=debug`.
pub const FILTER_VARIABLE: &str = "TIDEGATE_LOG";

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Text on a terminal, JSON into a pipe or a journal.
    pub fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Sends the log to stderr from here on. `filter` is the content of [`FILTER_VARIABLE`], if set.
///
/// # Errors
/// A filter that cannot be read, or a second call.
pub fn init(format: Format, filter: Option<&str>) -> anyhow::Result<()> {
    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    installed.map_err(|e| anyhow::anyhow!("cannot set up the log: {e}"))
}

/// `info` unless told otherwise; an empty variable counts as not set.
fn parse_filter(filter: Option<&str>) -> anyhow::Result<EnvFilter> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    builder.parse(filter.unwrap_or_default()).map_err(|e| {
        anyhow::anyhow!(
            "{FILTER_VARIABLE} is not a log filter ({e}): write a level such as `debug`, or `info,proxy_user::tls=debug`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_and_a_bad_one_is_named() {
        assert_eq!(parse_filter(None).unwrap().to_string(), "info");
        assert_eq!(parse_filter(Some("")).unwrap().to_string(), "info");
        assert!(parse_filter(Some("warn,proxy_user=debug")).unwrap().to_string().contains("proxy_user=debug"));
        let error = parse_filter(Some("proxy_user=loud")).unwrap_err().to_string();
        assert!(error.starts_with(FILTER_VARIABLE), "{error}");
    }
}
