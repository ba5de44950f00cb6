//! `cargo xtask bench`: what the gate costs, measured on this machine.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::build;
use crate::progress::Progress;
use crate::{run, runner, setup};

/// Options of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Packets a second of the flood (`flood`)
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// One JSON object instead of a table (`flood`, `load`, `reload`, `idle`)
    #[arg(long)]
    json: bool,
}

/// The benches.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// ns per packet of the XDP gate, beside an empty program and xdp-filter
    Xdp,
    /// ns per packet of the XDP gate by the number of packet rules
    Rules,
    /// From a worker's decision to the verdict in the kernel map
    Verdicts,
    /// Nanoseconds a request through the request rules, by the number of rules, beside nginx and `HAProxy`
    Policy,
    /// Verdicts and lists of a million hosts loaded, and what packets notice of it
    Load,
    /// Good clients' goodput under a mixed flood, beside a control and nginx behind nftables
    Flood,
    /// A hundred reloads under load over HTTP/1.1, 2 and 3 and a WebSocket: what failed
    Reload,
    /// Memory of ten thousand idle TLS connections, beside nginx
    Idle,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    if matches!(args.what, What::Policy) {
        return policy();
    }
    let progress = Progress { quiet: false };
    let toolchain = setup::for_build(progress)?;
    let built = build::workspace(&toolchain, build::TEST_PROFILE, &["proxy-user", "tidegate-tests"], progress)?;
    // These have the origins of the end-to-end tests, and they take what those take.
    let with_origins = matches!(args.what, What::Flood | What::Reload | What::Idle);
    let python = if with_origins { Some(setup::for_tests(progress)?) } else { None };
    let mut command = runner::command(&built, python.as_deref(), &[]);
    command.arg("bench").arg(match args.what {
        What::Xdp => "xdp",
        What::Rules => "rules",
        What::Verdicts => "verdicts",
        What::Load => "load",
        What::Flood => "flood",
        What::Reload => "reload",
        What::Idle => "idle",
        What::Policy => "policy",
    });
    if let Some(rate) = args.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    if args.json {
        command.arg("--json");
    }
    Ok(runner::exit_code(runner::supervise(command, None)?))
}

/// The bench of `proxy-core`, which needs no kernel half. Peers that cannot be had are left out.
fn policy() -> Result<ExitCode> {
    setup::for_policy_bench(Progress { quiet: false });
    let mut command = run::cargo();
    command.args(["bench", "--package", "proxy-core", "--bench", "policy", "--profile", build::TEST_PROFILE]);
    let status = command.status().with_context(|| format!("could not start `{}`", run::line(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
