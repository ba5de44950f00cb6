//! The daemon's own log: where it goes, in which form, and how much. The access log is not this module's concern.
//!
//! Lines of the kernel programs arrive through the `log` crate (aya-log writes there) and are bridged like the
//! lines of every other crate that uses it.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

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
    let (filter, handle) = reload::Layer::new(parse_filter(filter, FILTER_VARIABLE)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let installed = match format {
        Format::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        Format::Json => registry.with(lines.json().flatten_event(true).with_current_span(false)).try_init(),
    };
    installed.map_err(|e| anyhow::anyhow!("cannot set up the log: {e}"))?;
    // Where the log was set up, this is the first time.
    let _ = FILTER.set(handle);
    Ok(())
}

/// The filter in force. None before [`init`].
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// What is logged now, in the words of a filter; nothing where the log is not this module's.
pub fn filter() -> Option<String> {
    FILTER.get()?.with_current(ToString::to_string).ok()
}

/// Logs by another filter from here on.
///
/// # Errors
/// It cannot be read, or the log is not this module's.
pub fn set_filter(text: &str) -> anyhow::Result<()> {
    let filter = parse_filter(Some(text), "this")?;
    let handle = FILTER.get().ok_or_else(|| anyhow::anyhow!("this process writes no log of its own"))?;
    handle.reload(filter).map_err(|e| anyhow::anyhow!("the log's filter cannot be changed: {e}"))
}

/// `info` unless told otherwise; an empty variable counts as not set.
fn parse_filter(filter: Option<&str>, what: &str) -> anyhow::Result<EnvFilter> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    builder.parse(filter.unwrap_or_default()).map_err(|e| {
        anyhow::anyhow!(
            "{what} is not a log filter ({e}): write a level such as `debug`, or `info,proxy_user::tls=debug`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_and_a_bad_one_is_named() {
        assert_eq!(parse_filter(None, FILTER_VARIABLE).unwrap().to_string(), "info");
        assert_eq!(parse_filter(Some(""), FILTER_VARIABLE).unwrap().to_string(), "info");
        assert!(
            parse_filter(Some("warn,proxy_user=debug"), FILTER_VARIABLE)
                .unwrap()
                .to_string()
                .contains("proxy_user=debug")
        );
        let error = parse_filter(Some("proxy_user=loud"), FILTER_VARIABLE).unwrap_err().to_string();
        assert!(error.starts_with(FILTER_VARIABLE), "{error}");
    }
}
