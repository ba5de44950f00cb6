//! `cargo xtask build`: the kernel programs first, then the `tidegate` binary that carries them inside.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::progress::Progress;
use crate::toolchain::{self, Toolchain};
use crate::{run, setup, tree};

/// Target triple of the kernel programs, for hosts of the same byte order.
pub const BPF_TARGET: &str = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
/// What tests and the demo run: quick to build, near to release speed.
pub const TEST_PROFILE: &str = "fast";
/// Name of the kernel programs' binary.
const BPF_BINARY: &str = "tidegate-bpf";
/// Programs that the benches measure with, built beside it.
pub const BENCH_BINARY: &str = "tidegate-bench-bpf";

/// Options of `build`.
#[derive(clap::Args)]
pub struct Args {
    /// The profile that is installed: slow to build
    #[arg(long, conflicts_with = "profile")]
    release: bool,
    /// Cargo profile of the binary; `fast` is what tests and the demo run
    #[arg(long, default_value = TEST_PROFILE)]
    profile: String,
    /// Only the kernel programs
    #[arg(long)]
    bpf: bool,
    /// Say nothing unless something fails
    #[arg(long)]
    quiet: bool,
}

/// What a build made.
#[derive(Debug)]
pub struct Built {
    /// The kernel programs.
    pub object: PathBuf,
    /// `tidegate`.
    pub binary: PathBuf,
    /// The directory it lies in, with the other binaries of the profile.
    pub dir: PathBuf,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress { quiet: args.quiet };
    let toolchain = setup::for_build(progress)?;
    if args.bpf {
        println!("{}", object(&toolchain, progress)?.display());
        return Ok(ExitCode::SUCCESS);
    }
    let profile = if args.release { "release" } else { &args.profile };
    println!("{}", workspace(&toolchain, profile, &["proxy-user"], progress)?.binary.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the kernel programs; returns the object.
pub fn object(toolchain: &Toolchain, progress: Progress) -> Result<PathBuf> {
    progress.announce(&format!("Building the kernel programs with {}", toolchain.compiler.describe()));
    run::shown(bpf_cargo(toolchain, "build", "proxy-ebpf").args(["--profile", "bpf"]), progress.quiet)?;
    let object = tree::bpf_target().join(BPF_TARGET).join("bpf").join(BPF_BINARY);
    if !object.is_file() {
        bail!("the build succeeded but left no {}", object.display());
    }
    Ok(object)
}

/// A cargo command on a package for the BPF target.
pub fn bpf_cargo(toolchain: &Toolchain, task: &str, package: &str) -> std::process::Command {
    let mut cargo = toolchain.compiler.cargo();
    cargo.args([task, "--package", package, "-Zbuild-std=core", "--target", BPF_TARGET, "--target-dir"]);
    cargo.arg(tree::bpf_target());
    cargo.env("CARGO_ENCODED_RUSTFLAGS", toolchain::rustflags(toolchain)).env_remove("RUSTFLAGS");
    cargo
}

/// Builds the kernel programs, then `packages` with them inside.
pub fn workspace(toolchain: &Toolchain, profile: &str, packages: &[&str], progress: Progress) -> Result<Built> {
    let object = object(toolchain, progress)?;
    progress.announce(&format!("Building {} (profile {profile})", packages.join(" and ")));
    let mut cargo = run::cargo();
    cargo.args(["build", "--profile", profile]);
    embed(&mut cargo, &object);
    for package in packages {
        cargo.args(["--package", package]);
    }
    run::shown(&mut cargo, progress.quiet)?;
    let dir = tree::target().join(if profile == "dev" { "debug" } else { profile });
    Ok(Built { object, binary: dir.join("tidegate"), dir })
}

/// Makes a cargo command embed the object. Where the target directory is the usual one, `build.rs` finds it unasked: a
/// variable that comes and goes would compile the daemon again each time.
pub fn embed(cargo: &mut std::process::Command, object: &std::path::Path) {
    if std::env::var_os("CARGO_TARGET_DIR").is_some() {
        cargo.env("TIDEGATE_BPF_OBJECT", object);
    }
}
