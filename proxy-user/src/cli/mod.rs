//! The command line: what can be asked, and which module does it. One module a command.
//!
//! Exit status: 0 done, 1 failed, 2 the command line was not understood.

mod capture;
mod check;
mod completions;
mod counters;
mod doctor;
mod events;
mod explain;
mod faults;
mod list;
mod log;
mod man;
mod output;
mod policy;
mod reload;
mod remote;
mod request;
mod run;
mod schema;
mod status;
mod top;
mod unload;
mod verdict;
mod worker;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;
use clap::{Parser, Subcommand};

/// Where the config lies unless said otherwise.
const DEFAULT_CONFIG: &str = "/etc/tidegate/tidegate.json";
/// Where the admin socket lies unless said otherwise.
const DEFAULT_SOCKET: &str = "/run/tidegate/admin.sock";

const HEADING: Style = AnsiColor::Green.on_default().bold();
const NAME: Style = AnsiColor::Cyan.on_default().bold();
const STYLES: Styles = Styles::styled().header(HEADING).usage(HEADING).literal(NAME);

const EXAMPLES: &str = "\
Examples:
  tidegate doctor                            look for what on this host would hinder
  tidegate check                             look for faults in config and policies
  tidegate run --config edge.json            serve
  tidegate status                            what the running daemon does
  tidegate policy apply new/*.json           load policies; `policy rollback` goes back
  tidegate verdict add 192.0.2.7 --ttl 1h    drop a source at the gate for an hour
  tidegate top                               live rates by reason, rule, source and service
  tidegate events --follow                   packets that are dropped, as they come

TIDEGATE_LOG sets how much the daemon logs: `debug`, or `info,proxy_user::tls=debug`.";

/// An edge server whose front gate is XDP.
///
/// Packets are dropped and connections steered by eBPF programs; workers terminate TLS and HTTP, filter by policy
/// and forward. What a policy learns from requests is written back to the gate as verdicts.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES, styles = STYLES)]
#[command(arg_required_else_help = true, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Status(status::Args),
    Policy(policy::Args),
    List(list::Args),
    Verdict(verdict::Args),
    Worker(worker::Args),
    Reload(reload::Args),
    Log(log::Args),
    Counters(counters::Args),
    Events(events::Args),
    Capture(capture::Args),
    Top(top::Args),
    Explain(explain::Args),
    Doctor(doctor::Args),
    Unload(unload::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => return conclude(check::run(&args)),
        Command::Status(args) => status::run(&args),
        Command::Policy(args) => return conclude(policy::run(&args)),
        Command::List(args) => list::run(&args),
        Command::Verdict(args) => verdict::run(&args),
        Command::Worker(args) => worker::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Counters(args) => counters::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Doctor(args) => return conclude(doctor::run(&args)),
        Command::Unload(args) => unload::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    conclude(outcome.map(|()| ExitCode::SUCCESS))
}

/// Turns the outcome into the exit status and tells of a failure. A reader that went away (`| head`) is none.
fn conclude(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let style = AnsiColor::Red.on_default().bold();
            // When stderr is gone too, the exit status is all that is left to say it with.
            let _ = writeln!(anstream::stderr().lock(), "{style}error{style:#}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let gone = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&gone));
        assert!(!is_broken_pipe(&anyhow::anyhow!("x")));
    }
}
