//! `cargo xtask`: one door for every task, one module a command.

mod apt;
mod bench;
mod build;
mod ci;
mod conformance;
mod demo;
mod fuzz;
mod install;
mod kernels;
mod progress;
mod run;
mod runner;
mod setup;
mod test;
mod toolchain;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every task of the Tidegate project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or install what building the kernel programs needs
    Setup(setup::Args),
    /// Build the kernel programs and the `tidegate` binary that embeds them
    Build(build::Args),
    /// Run unit tests, the verdict table and the end-to-end tests
    Test(test::Args),
    /// Show the whole data path and the verdict loop on real traffic
    Demo(demo::Args),
    /// Measure what the gate costs
    Bench(bench::Args),
    /// Hold the daemon to suites of others: HTTP/2 frame by frame
    Conformance(conformance::Args),
    /// Search for defects for longer than the tests do
    Fuzz(fuzz::Args),
    /// Install the release build with its unit, manual pages and the rest, or take it away
    Install(install::Args),
    /// Everything that must hold before a change lands
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(args) => setup::run(&args),
        Task::Build(args) => build::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Conformance(args) => conformance::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Install(args) => install::run(&args),
        Task::Ci(args) => ci::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{} {error:#}", progress::paint(progress::RED, "error:"));
            ExitCode::FAILURE
        }
    }
}
