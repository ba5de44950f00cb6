//! `tidegate unload`: takes the kernel half away. Works without a daemon, and not under one.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use proxy_core::config::{self, Config};
use proxy_user::kernel::Kernel;

use super::output;
use super::remote::Form;
use super::{DEFAULT_CONFIG, faults};

/// Detach the kernel programs and remove their pinned maps; verdicts are lost
///
/// A daemon that ends leaves the gate in place, so that it goes on dropping. This takes it away.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  systemctl stop tidegate && tidegate unload")]
pub(super) struct Args {
    /// Config that names the pins' directory (`gate.pins`)
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Go on even though a daemon runs with this config; it then serves without its gate
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    form: Form,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let config = read(&args.config)?;
    let socket = &config.admin.socket;
    if !args.force && UnixStream::connect(socket).is_ok() {
        bail!("tidegate is running (it answers at {}): stop it first, or add --force", socket.display());
    }
    let removed = Kernel::unload(&config)?;
    if args.form.json {
        return output::json(&serde_json::json!({ "removed": removed }));
    }
    let mut out = output::stdout();
    if removed.is_empty() {
        writeln!(out, "nothing was loaded under {}", config.gate.pins.display())?;
    }
    for what in &removed {
        writeln!(out, "removed {what}")?;
    }
    Ok(())
}

/// The config without its policies: they may be broken or gone when the gate is to be taken away.
fn read(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the config {}", path.display()))?;
    config::parse(&text).map_err(|found| {
        let lines = found.iter().map(|fault| format!("{}:{fault}", path.display())).collect::<Vec<_>>();
        anyhow!("{}\n{}", faults::count(lines.len()), lines.join("\n"))
    })
}
