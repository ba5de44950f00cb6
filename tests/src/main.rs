//! The runner behind `cargo xtask test`, `demo` and `bench`: started as root, with the binaries built.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use libtest_mimic::{Arguments, Trial};
use tidegate_tests::{
    bench_flood, bench_idle, bench_load, bench_reload, bench_rules, bench_verdicts, bench_xdp, cases, conformance,
    demo, fuzz, parsers, tools, ward,
};

/// Most end-to-end cases that run side by side: each has a daemon, origins and clients of its own.
const MOST_AT_ONCE: usize = 4;

#[derive(Parser)]
#[command(name = "tidegate-tests")]
struct Cli {
    /// End, and clean up, when stdin ends: who started this holds the other side
    #[arg(long, global = true)]
    tied: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the verdict table and the end-to-end cases
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
        /// The verdict table; both parts unless one is named
        #[arg(long)]
        verdicts: bool,
        /// The end-to-end cases
        #[arg(long)]
        e2e: bool,
        /// Only tests whose name begins with this
        #[arg(long, value_name = "GROUP")]
        only: Option<String>,
        /// Not the tests whose name contains this
        #[arg(long, value_name = "TEXT")]
        skip: Vec<String>,
        /// Print the names and run nothing
        #[arg(long)]
        list: bool,
        /// Cases side by side
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Show the whole data path and the verdict loop on real traffic
    Demo(demo::Args),
    /// Measure what the gate costs
    Bench {
        /// What to measure
        #[arg(value_enum)]
        what: Bench,
        /// Packets a second of the flood
        #[arg(long, default_value_t = bench_flood::RATE, value_parser = clap::value_parser!(u32).range(bench_flood::RATES))]
        rate: u32,
        /// One JSON object instead of a table (`flood`, `load`, `reload`, `idle`)
        #[arg(long)]
        json: bool,
    },
    /// Hold the daemon to suites of others
    Conformance(conformance::Args),
    /// Search for defects for longer than the tests do
    Fuzz(fuzz::Args),
    /// Removes what the runner leaves when it ends; started by the runner
    #[command(name = ward::SUBCOMMAND, hide = true)]
    Ward,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Bench {
    /// ns per packet of the XDP gate
    Xdp,
    /// ns per packet by the number of packet rules
    Rules,
    /// From a decision to the verdict in the kernel map
    Verdicts,
    /// Verdicts and lists of a million hosts loaded, and what packets notice of it
    Load,
    /// Good clients' goodput under a mixed flood
    Flood,
    /// A hundred reloads under load: what failed
    Reload,
    /// Memory of ten thousand idle TLS connections, beside nginx
    Idle,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.task {
        Task::Ward => ward::run().map(|()| ExitCode::SUCCESS),
        task => ward::start(cli.tied).and_then(|()| {
            let result = run(task);
            ward::finish();
            result
        }),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Test { filter, verdicts, e2e, only, skip, list, threads } => {
            let test_threads = Some(threads.unwrap_or_else(at_once));
            let arguments = Arguments { filter, skip, list, test_threads, ..Arguments::default() };
            let both = verdicts == e2e;
            Ok(test(&arguments, only.as_deref(), verdicts || both, e2e || both))
        }
        Task::Demo(args) => demo::run(args),
        Task::Bench { what, rate, json } => bench(what, rate, json),
        Task::Conformance(args) => conformance::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Ward => Ok(ExitCode::SUCCESS),
    }
}

fn test(arguments: &Arguments, only: Option<&str>, verdicts: bool, e2e: bool) -> ExitCode {
    let skip = cases::cannot_run();
    if let Some(why) = &skip {
        eprintln!("the verdict table and the end-to-end cases are skipped: {why}");
    }
    let mut trials: Vec<Trial> = Vec::new();
    if verdicts {
        trials.extend(cases::table::trials(skip.is_some()));
        trials.extend(parsers::trials());
    }
    if e2e {
        trials.extend(cases::trials(skip.is_some()));
    }
    trials.retain(|trial| only.is_none_or(|group| trial.name().starts_with(group)));
    libtest_mimic::run(arguments, trials).exit_code()
}

/// Prints what was measured; fails where a target is missed.
fn bench(what: Bench, rate: u32, json: bool) -> Result<ExitCode> {
    let needs_root = !matches!(what, Bench::Reload | Bench::Idle);
    if let Some(why) = cases::cannot_run().filter(|_| needs_root) {
        anyhow::bail!("nothing can be measured here: {why}");
    }
    match what {
        Bench::Reload => {
            let report = bench_reload::run_all(|line| eprintln!("{line}"))?;
            println!("{}", if json { serde_json::to_string_pretty(&report)? } else { bench_reload::table(&report) });
            Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Bench::Idle => {
            let report = bench_idle::run_all(|line| eprintln!("{line}"))?;
            println!("{}", if json { serde_json::to_string_pretty(&report)? } else { bench_idle::table(&report) });
            Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Bench::Xdp => {
            let lines = bench_xdp::run(&tools::object()?, |line| eprintln!("{line}"))?;
            println!("{}", bench_xdp::table(&lines));
            Ok(ExitCode::SUCCESS)
        }
        Bench::Rules => {
            let report = bench_rules::run(|line| eprintln!("{line}"))?;
            println!("{}", bench_rules::table(&report));
            Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Bench::Load => {
            let report = bench_load::run(|line| eprintln!("{line}"))?;
            println!("{}", if json { serde_json::to_string_pretty(&report)? } else { bench_load::table(&report) });
            Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Bench::Flood => {
            let report = bench_flood::run(rate, |line| eprintln!("{line}"))?;
            println!("{}", if json { serde_json::to_string_pretty(&report)? } else { bench_flood::table(&report) });
            Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Bench::Verdicts => {
            let pins = format!("{}/tidegate-bench-verdicts-{}", ward::BPFFS, std::process::id());
            ward::guard(ward::Item::Pins(pins.into()));
            let report = bench_verdicts::run()?;
            println!("{}", serde_json::to_string_pretty(&report)?);
            Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn at_once() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(MOST_AT_ONCE)
}
