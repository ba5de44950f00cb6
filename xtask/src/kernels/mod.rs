//! `cargo xtask test --kernels`: the programs on other kernels. Debian's kernel packages are fetched and unpacked into the
//! cache, never installed; each boots in qemu with an initramfs that holds the tests, and says how they went on its
//! serial console.
//!
//! What cannot be had is skipped with its reason, as tests are that lack something.

mod archive;
mod guest;
mod machine;
mod package;

use anyhow::{Result, bail};

use crate::build::Built;
use crate::progress::Progress;
use crate::{apt, run, tree};

/// Series that are booted: the oldest that Debian keeps, and the newest long-term one beside it.
const SERIES: [&str; 2] = ["6.1", "6.12"];
/// Programs that this needs, and the package of each.
const PROGRAMS: [(&str, &str); 3] =
    [(machine::QEMU, "qemu-system-x86"), ("busybox", "busybox-static"), ("ip", "iproute2")];

/// Boots each kernel; every line of the tests' output goes to `line`. Returns how many kernels could not be had.
///
/// # Errors
/// A kernel did not boot, or its guest did not come to its end.
pub fn run(built: &Built, filter: Option<&str>, progress: Progress, mut line: impl FnMut(&str)) -> Result<u64> {
    if let Err(error) = prepare(progress) {
        progress.warn(&format!("no kernel is booted: {error:#}"));
        return Ok(SERIES.len() as u64);
    }
    let mut left_out = 0;
    let mut faults = Vec::new();
    for series in SERIES {
        let kernel = match package::obtain(series, progress) {
            Ok(kernel) => kernel,
            Err(error) => {
                progress.warn(&format!("Linux {series} is not booted: {error:#}"));
                left_out += 1;
                continue;
            }
        };
        let initramfs = guest::initramfs(&kernel, built, filter)?;
        progress.announce(&format!("Booting {} in qemu (its console: {})", kernel.release, initramfs.log.display()));
        match machine::boot(&kernel, &initramfs, &mut line) {
            Ok(took) => progress.note(&format!("{}: {:.0} s", kernel.release, took.as_secs_f64())),
            Err(error) => faults.push(format!("Linux {}: {error:#}", kernel.release)),
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(left_out)
}

/// Makes sure that the programs are there.
fn prepare(progress: Progress) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        bail!("only x86-64 kernels are known here");
    }
    std::fs::create_dir_all(tree::target().join("kernels"))?;
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| run::find(program).is_none()).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { apt::install(&missing, progress) }
}
