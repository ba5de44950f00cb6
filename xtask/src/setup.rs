//! `cargo xtask setup`: finds or installs what building the kernel programs (and running the tests) needs.
//!
//! Idempotent: what is there and works is left alone, so that every other task runs it first. Decides nothing about
//! which compiler is good: that is `toolchain`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::progress::Progress;
use crate::toolchain::{self, Compiler, LINKER_LLVMS, LINKER_VERSION, Origin, Toolchain};
use crate::{apt, run, tree};

/// The foreign clients of the tests, as pip and as Python name them: none shares code with Tidegate.
const CLIENTS: [(&str, &str); 4] = [
    ("aioquic>=1.2,<2", "aioquic"),
    ("grpcio>=1.60,<2", "grpc"),
    ("h2>=4.1,<5", "h2"),
    ("websockets>=14,<16", "websockets"),
];

/// Programs that the end-to-end tests and the demo run, and the package of each.
const TEST_PROGRAMS: [(&str, &str); 11] = [
    ("ip", "iproute2"),
    ("bpftool", "bpftool"),
    ("nginx", "nginx-light"),
    ("curl", "curl"),
    ("node", "nodejs"),
    ("openssl", "openssl"),
    ("h2load", "nghttp2-client"),
    ("hping3", "hping3"),
    ("ping", "iputils-ping"),
    ("tcpdump", "tcpdump"),
    ("nft", "nftables"),
];

/// Programs that a bench compares with, and a browser for challenges (64 MB), where the distribution has them.
const OPTIONAL_PROGRAMS: [(&str, &str); 2] =
    [("xdp-filter", "xdp-tools"), ("chromium-headless-shell", "chromium-headless-shell")];

/// Programs of the conformance suites.
const SUITES: [(&str, &str); 2] = [("slowhttptest", "slowhttptest"), ("testssl", "testssl.sh")];

/// Likewise, of the bench of request rules.
const POLICY_PEERS: [(&str, &str); 2] = [("nginx", "nginx-light"), ("haproxy", "haproxy")];

/// Options of `setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Also what the end-to-end tests and the demo need: clients, an origin, a Python environment
    #[arg(long)]
    test: bool,
    /// Say nothing unless something fails
    #[arg(long)]
    quiet: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress { quiet: args.quiet };
    let toolchain = for_build(progress)?;
    if args.test {
        let python = for_tests(progress)?;
        progress.note(&format!("foreign clients of the tests: {}", python.display()));
    }
    progress.note(&format!("kernel programs: {}, {}", toolchain.compiler.describe(), toolchain.linker.display()));
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that the workspace and the kernel programs can be built.
///
/// # Errors
/// Says exactly what to install where this process may not.
pub fn for_build(progress: Progress) -> Result<Toolchain> {
    if run::find("cc").is_none() || run::find("c++").is_none() {
        apt::install(&["build-essential"], progress).context("a C and C++ compiler is needed")?;
    }
    let Err(found) = toolchain::find() else { return toolchain::find() };
    let origins = toolchain::origins()?;
    let mut reasons = vec![format!("{found:#}")];
    // First with a compiler that is here, then with one that can be fetched.
    for origin in &origins {
        let Ok(compiler) = Compiler::find(*origin) else { continue };
        match install_linker(&compiler, progress) {
            Ok(linker) => return Ok(Toolchain { compiler, linker }),
            Err(error) => reasons.push(format!("linker for {}: {error:#}", compiler.describe())),
        }
    }
    for origin in &origins {
        if Compiler::find(*origin).is_ok() {
            continue;
        }
        let attempt = install_compiler(*origin, progress).and_then(|compiler| {
            let linker = install_linker(&compiler, progress)?;
            Ok(Toolchain { compiler, linker })
        });
        match attempt {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => {
                progress.warn(&format!("{}: {error:#}", origin.name()));
                reasons.push(format!("{}: {error:#}", origin.name()));
            }
        }
    }
    bail!("{}\n\n{}", reasons.join("\n"), by_hand())
}

/// What to install where no route could be taken.
fn by_hand() -> String {
    let [low, .., high] = LINKER_LLVMS;
    format!(
        "Install one of these and run `cargo xtask setup` again:\n\
         - rustup: `rustup toolchain install nightly --profile minimal --component rust-src`\n\
         - Debian 12: `apt-get install rustc-web rust-web-src`\n\
         - other distributions: rustc and its library source (rust-src), {} or newer\n\
         and LLVM with headers, of the major that `rustc -vV` names ({low} to {high}), e.g. for 22:\n\
         `apt-get install llvm-22-dev libpolly-22-dev libzstd-dev zlib1g-dev build-essential`",
        toolchain::OLDEST_RUSTC
    )
}

/// Fetches a compiler of this origin, or its source of `core`.
fn install_compiler(origin: Origin, progress: Progress) -> Result<Compiler> {
    match origin {
        Origin::System => {
            if !apt::is_here() {
                bail!("this system has no apt-get");
            }
            // Debian's stable releases carry a newer compiler for building browsers under this name.
            let pairs = [["rustc-web", "rust-web-src"], ["rustc", "rust-src"]];
            let pair = pairs
                .iter()
                .find(|pair| apt::obtainable(&pair[..], progress) && toolchain::new_enough(&apt::candidate(pair[0])))
                .with_context(|| format!("no package of rustc {} or newer", toolchain::OLDEST_RUSTC))?;
            apt::install(pair, progress)?;
        }
        Origin::Nightly => {
            if run::find("rustup").is_none() {
                bail!("rustup is not installed");
            }
            progress.step("Fetching rust-src for rustup's nightly", || {
                let mut add = run::command("rustup");
                add.args(["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"]);
                let mut source_only = run::command("rustup");
                source_only.args(["component", "add", "rust-src", "--toolchain", "nightly"]);
                run::quietly(&mut source_only).or_else(|_| run::quietly(&mut add))
            })?;
        }
        Origin::Active => bail!("the active toolchain comes without the source of core"),
    }
    Compiler::find(origin)
}

/// Builds bpf-linker against the compiler's LLVM, into the cache.
fn install_linker(compiler: &Compiler, progress: Progress) -> Result<PathBuf> {
    let llvm = compiler.llvm;
    if !LINKER_LLVMS.contains(&llvm) {
        bail!("bpf-linker {LINKER_VERSION} knows LLVM {LINKER_LLVMS:?}, not {llvm}");
    }
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    if !prefix.join("include/llvm-c/Core.h").exists() || !prefix.join("bin/llvm-config").exists() {
        let (dev, polly) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
        apt::install(&[&dev, &polly, "libzstd-dev", "zlib1g-dev"], progress)?;
    } else if apt::is_here() {
        // The headers may be there without what LLVM itself links to.
        apt::install(&[&format!("libpolly-{llvm}-dev"), "libzstd-dev", "zlib1g-dev"], progress)?;
    }
    let root = toolchain::linker_root(llvm)?;
    progress.step(&format!("Building bpf-linker {LINKER_VERSION} against LLVM {llvm} (about two minutes)"), || {
        let mut install = run::cargo();
        install.env("LLVM_PREFIX", &prefix).env("CARGO_TARGET_DIR", root.join("build"));
        // Not in the workspace: its settings must not reach another project's build.
        install.current_dir("/").args(["install", "bpf-linker", "--force", "--locked", "--no-default-features"]);
        install.args(["--version", LINKER_VERSION, "--features", &format!("llvm-{llvm}"), "--root"]).arg(&root);
        run::quietly(&mut install)
    })?;
    std::fs::remove_dir_all(root.join("build")).context("the linker's build directory")?;
    toolchain::find_linker(compiler)
}

/// Makes sure that the end-to-end tests and the demo find their programs; returns the Python that has aioquic.
///
/// # Errors
/// Says exactly what to install where this process may not.
pub fn for_tests(progress: Progress) -> Result<PathBuf> {
    needed(&TEST_PROGRAMS, progress)?;
    optional(&OPTIONAL_PROGRAMS, progress);
    python(progress)
}

/// Makes sure that the conformance suites are there.
///
/// # Errors
/// Says exactly what to install where this process may not.
pub fn for_conformance(progress: Progress) -> Result<()> {
    needed(&SUITES, progress)
}

fn needed(programs: &[(&str, &str)], progress: Progress) -> Result<()> {
    let missing = programs.iter().filter(|(program, _)| run::find(program).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { apt::install(&missing, progress) }
}

/// Installs what the bench of request rules compares with, where it can be had.
pub fn for_policy_bench(progress: Progress) {
    optional(&POLICY_PEERS, progress);
}

/// Installs what is missing, and says what cannot be had.
fn optional(programs: &[(&str, &str)], progress: Progress) {
    for (program, package) in programs {
        if run::find(program).is_none()
            && run::is_root()
            && apt::is_here()
            && let Err(error) = apt::install(&[package], progress)
        {
            progress.warn(&format!("left out {program}: {error:#}"));
        }
    }
}

/// A Python with the foreign clients, in an environment of its own.
fn python(progress: Progress) -> Result<PathBuf> {
    let venv = tree::cache()?.join("venv");
    let python = venv.join("bin/python");
    let modules = CLIENTS.map(|(_, module)| module).join(", ");
    if has_modules(&python, &modules) {
        return Ok(python);
    }
    if base_python().is_none() {
        apt::install(&["python3", "python3-venv"], progress)?;
    }
    let base = base_python().context("python3 has no venv module: install your distribution's python3-venv")?;
    progress.step("Making a Python environment with clients for the tests", || {
        // One that lacks something is added to: others may be using it.
        if !has_modules(&python, "pip") {
            run::quietly(run::command(base).args(["-m", "venv", "--clear"]).arg(&venv))?;
        }
        let packages = CLIENTS.map(|(package, _)| package);
        run::quietly(run::command(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))
    })?;
    if !has_modules(&python, &modules) {
        bail!("{} cannot import {modules} although pip installed it", python.display());
    }
    Ok(python)
}

/// A Python that can make environments.
fn base_python() -> Option<PathBuf> {
    [run::find("python3"), Some(PathBuf::from("/usr/bin/python3"))]
        .into_iter()
        .flatten()
        .find(|python| has_modules(python, "venv, ensurepip"))
}

fn has_modules(python: &Path, modules: &str) -> bool {
    python.exists() && run::quietly(run::command(python).args(["-c", &format!("import {modules}")])).is_ok()
}
