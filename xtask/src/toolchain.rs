//! The compiler and linker of the kernel programs: which ones can do it, and whether they really do.
//!
//! A rustc can when the source of `core` lies beside it; the linker, bpf-linker, must be built against an LLVM that
//! reads that rustc's bitcode. Nothing here installs anything; `setup` does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{run, tree};

/// LLVM majors that [`LINKER_VERSION`] can be built against.
pub const LINKER_LLVMS: [u32; 3] = [21, 22, 23];
/// The bpf-linker that `setup` builds.
pub const LINKER_VERSION: &str = "0.13.0";

/// Oldest rustc that compiles the kernel programs, as `rust-version` in the workspace says.
pub const OLDEST_RUSTC: &str = env!("CARGO_PKG_RUST_VERSION");

/// Whether a version such as `1.96.0+dfsg1-1` is [`OLDEST_RUSTC`] or newer.
pub fn new_enough(version: &str) -> bool {
    let numbers =
        |text: &str| -> Vec<u32> { text.split(['.', '+', '-', '~']).map_while(|n| n.parse().ok()).take(2).collect() };
    numbers(version) >= numbers(OLDEST_RUSTC)
}

/// Where a rustc comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The distribution's packages.
    System,
    /// rustup's nightly.
    Nightly,
    /// The toolchain that runs this task.
    Active,
}

impl Origin {
    /// In order of preference: one stable version for everyone on a distribution, then what rustup has.
    pub const ALL: [Origin; 3] = [Origin::System, Origin::Nightly, Origin::Active];

    /// Name in messages and in `TIDEGATE_BPF_TOOLCHAIN`, which narrows the choice to one.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Nightly => "nightly",
            Self::Active => "active",
        }
    }
}

/// A rustc that can compile for the kernel.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// Where it comes from.
    pub origin: Origin,
    /// The executable.
    pub rustc: PathBuf,
    /// e.g. `1.96.0`.
    pub release: String,
    /// LLVM major that writes its bitcode.
    pub llvm: u32,
}

impl Compiler {
    /// The rustc of this origin.
    ///
    /// # Errors
    /// Says what it lacks.
    pub fn find(origin: Origin) -> Result<Self> {
        let rustc = match origin {
            Origin::System => {
                let file = PathBuf::from("/usr/bin/rustc");
                // rustup may be installed there as a proxy: that is `Active`.
                if file.canonicalize().is_ok_and(|real| real.ends_with("rustup")) || !file.exists() {
                    bail!("the distribution's rustc is not installed");
                }
                file
            }
            Origin::Nightly => {
                let mut which = run::command("rustup");
                which.args(["which", "--toolchain", "nightly", "rustc"]);
                PathBuf::from(run::quietly(&mut which).ok().context("rustup has no nightly")?.trim())
            }
            Origin::Active => PathBuf::from("rustc"),
        };
        let sysroot = run::quietly(run::command(&rustc).args(["--print", "sysroot"]))?;
        let sysroot = Path::new(sysroot.trim());
        let source = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        if !source.exists() {
            bail!("{} has no core source at {}", rustc.display(), source.display());
        }
        let verbose = run::quietly(run::command(&rustc).arg("-vV"))?;
        let field = |name: &str| {
            verbose
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
                .map(str::to_owned)
                .context("rustc -vV")
        };
        let release = field("release:")?;
        if !new_enough(&release) {
            bail!("rustc {release} is older than {OLDEST_RUSTC}");
        }
        // Debian's source package may lag behind its compiler; its directory carries the version.
        let real = source.canonicalize()?;
        if origin == Origin::System && !real.to_string_lossy().contains(&release) {
            bail!("the source of core at {} is not of version {release}", real.display());
        }
        let llvm = field("LLVM version:")?.split('.').next().and_then(|n| n.parse().ok()).context("LLVM version")?;
        Ok(Self { origin, rustc, release, llvm })
    }

    /// A cargo that drives this compiler with unstable options allowed.
    pub fn cargo(&self) -> Command {
        let mut command = match self.origin {
            Origin::Nightly => {
                let mut command = run::command("rustup");
                command.args(["run", "nightly", "cargo"]);
                command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
                command
            }
            Origin::System | Origin::Active => {
                let mut command = run::cargo();
                command.env("RUSTC", &self.rustc);
                command
            }
        };
        command.env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
        command
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        format!("rustc {} ({}, LLVM {})", self.release, self.origin.name(), self.llvm)
    }
}

/// Compiler and linker that were seen to work together.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// bpf-linker.
    pub linker: PathBuf,
}

/// The origins to look at, in order.
///
/// # Errors
/// When `TIDEGATE_BPF_TOOLCHAIN` names none.
pub fn origins() -> Result<Vec<Origin>> {
    let Some(only) = std::env::var_os("TIDEGATE_BPF_TOOLCHAIN").filter(|v| !v.is_empty()) else {
        return Ok(Origin::ALL.to_vec());
    };
    match Origin::ALL.into_iter().find(|origin| only == origin.name()) {
        Some(origin) => Ok(vec![origin]),
        None => bail!("TIDEGATE_BPF_TOOLCHAIN is {}: it may be system, nightly or active", only.display()),
    }
}

/// Where `setup` keeps the linker for an LLVM major (an install root of cargo).
pub fn linker_root(llvm: u32) -> Result<PathBuf> {
    Ok(tree::cache()?.join(format!("bpf-linker-llvm{llvm}")))
}

/// A linker for the compiler: the one that `setup` built, or one on PATH.
///
/// # Errors
/// Says what each candidate did not do.
pub fn find_linker(compiler: &Compiler) -> Result<PathBuf> {
    let built = linker_root(compiler.llvm)?.join("bin/bpf-linker");
    let mut reasons = Vec::new();
    for candidate in [Some(built).filter(|file| file.exists()), run::find("bpf-linker")].into_iter().flatten() {
        match probe(compiler, &candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) => reasons.push(format!("{}: {error:#}", candidate.display())),
        }
    }
    if reasons.is_empty() {
        bail!("no bpf-linker for LLVM {}", compiler.llvm);
    }
    bail!("{}", reasons.join("; "))
}

/// Links a function compiled by this very rustc: a linker with an older LLVM cannot read its bitcode.
fn probe(compiler: &Compiler, linker: &Path) -> Result<()> {
    // Passed once, a pair need not be tried again until either file changes.
    let stamp_text = format!("{} {} {}", compiler.describe(), stamp(&compiler.rustc), stamp(linker));
    let stamps = tree::cache()?.join("probed");
    let key = format!("{}-llvm{}", compiler.origin.name(), compiler.llvm);
    let file = stamps.join(key);
    if std::fs::read_to_string(&file).is_ok_and(|text| text == stamp_text) {
        return Ok(());
    }
    let dir = stamps.join(format!("tmp-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = link_one(compiler, linker, &dir);
    std::fs::remove_dir_all(&dir)?;
    result?;
    std::fs::write(file, stamp_text)?;
    Ok(())
}

fn link_one(compiler: &Compiler, linker: &Path, dir: &Path) -> Result<()> {
    const SOURCE: &str = "#![no_std]\n#[unsafe(no_mangle)]\npub extern \"C\" fn probe(a: u64) -> u64 { a ^ 7 }\n";
    /// `e_machine` of an ELF file for BPF.
    const EM_BPF: [u8; 2] = [247, 0];
    let (source, bitcode, object) = (dir.join("probe.rs"), dir.join("probe.bc"), dir.join("probe.o"));
    std::fs::write(&source, SOURCE)?;
    let mut rustc = run::command(&compiler.rustc);
    rustc.args(["--edition=2024", "--crate-type=lib", "--emit=llvm-bc", "-O", "-Cpanic=abort", "-o"]);
    run::quietly(rustc.arg(&bitcode).arg(&source))?;
    run::quietly(run::command(linker).args(["--target", "bpfel", "--output"]).arg(&object).arg(&bitcode))?;
    if std::fs::read(&object)?.get(18..20) != Some(&EM_BPF) {
        bail!("it wrote something that is not a BPF object");
    }
    Ok(())
}

/// A file's path, size and time of change.
fn stamp(file: &Path) -> String {
    let meta = std::fs::metadata(file).ok();
    let time = meta.as_ref().and_then(|m| m.modified().ok()).and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{}:{}:{}", file.display(), meta.map_or(0, |m| m.len()), time.map_or(0, |t| t.as_nanos()))
}

/// Compiler and linker that work as they lie here.
///
/// # Errors
/// Says, for each origin, what is missing.
pub fn find() -> Result<Toolchain> {
    let mut reasons = Vec::new();
    for origin in origins()? {
        let found = Compiler::find(origin)
            .and_then(|compiler| find_linker(&compiler).map(|linker| Toolchain { compiler, linker }));
        match found {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => reasons.push(format!("  {}: {error:#}", origin.name())),
        }
    }
    bail!("no compiler for the kernel programs:\n{}", reasons.join("\n"))
}

/// The first LLVM whose BPF target can be told that the machine reads unaligned words.
const LLVM_WITH_MISALIGNED: u32 = 22;

/// Rust flags for the kernel programs, in the form of `CARGO_ENCODED_RUSTFLAGS`.
///
/// Headers lie at odd borders of a packet. Without the misaligned feature each word of them is read byte by byte, which
/// made a packet that passes cost 56–69 ns instead of 28 (`cargo xtask bench xdp`). The kernel's verifier takes such
/// reads on machines with efficient unaligned access only, so other architectures go without.
pub fn rustflags(toolchain: &Toolchain) -> OsString {
    let arch = std::env::consts::ARCH;
    let mut flags = OsString::from(format!("--cfg=bpf_target_arch=\"{arch}\""));
    for flag in ["-Cdebuginfo=2", "-Clink-arg=--btf"] {
        flags.push("\x1f");
        flags.push(flag);
    }
    if toolchain.compiler.llvm >= LLVM_WITH_MISALIGNED && matches!(arch, "x86_64" | "aarch64") {
        flags.push("\x1f-Ctarget-feature=+allows-misaligned-mem-access");
    }
    flags.push("\x1f-Clinker=");
    flags.push(&toolchain.linker);
    flags
}
