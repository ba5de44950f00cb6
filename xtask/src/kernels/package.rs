//! A kernel of a series as Debian packs it: found in the package lists, fetched by `apt-get download`, unpacked into the
//! cache.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::progress::Progress;
use crate::{apt, run, tree};

/// Flavour that boots on a virtual machine and is small.
const FLAVOUR: &str = "-cloud-amd64";

/// An unpacked kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// Directory that the package was unpacked in.
    root: PathBuf,
}

impl Kernel {
    /// The bootable image.
    pub fn image(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// Directory of its modules.
    pub fn modules(&self) -> PathBuf {
        ["lib", "usr/lib"]
            .map(|dir| self.root.join(dir).join("modules").join(&self.release))
            .into_iter()
            .find(|dir| dir.is_dir())
            .unwrap_or_else(|| self.root.join("lib/modules").join(&self.release))
    }
}

/// The newest kernel of a series, e.g. `6.1`, from the cache where it is there.
///
/// # Errors
/// This system has no such package, or it cannot be fetched.
pub fn obtain(series: &str, progress: Progress) -> Result<Kernel> {
    if !apt::is_here() {
        bail!("kernels come from Debian's packages, and this system has no apt-get");
    }
    let release = newest(series)?;
    let root = tree::cache()?.join("kernels").join(&release);
    let kernel = Kernel { release, root };
    if !kernel.image().is_file() {
        progress.step(&format!("Fetching Linux {}", kernel.release), || fetch(&kernel))?;
    }
    Ok(kernel)
}

/// Release of the newest package of a series that the lists offer.
fn newest(series: &str) -> Result<String> {
    let pattern = format!("^linux-image-{}\\.[0-9].*{FLAVOUR}$", series.replace('.', "\\."));
    let found = run::quietly(run::command("apt-cache").args(["search", "--names-only", &pattern]))?;
    found
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.strip_prefix("linux-image-"))
        .max_by_key(|release| numbers(release))
        .map(str::to_owned)
        .with_context(|| format!("no package source offers linux-image-{series}…{FLAVOUR}"))
}

/// The numbers in a release, in order: how releases of one series compare.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Fetches the package and unpacks it; the directory appears when all of it is there.
fn fetch(kernel: &Kernel) -> Result<()> {
    let name = format!("linux-image-{}", kernel.release);
    let work = kernel.root.with_extension(format!("part-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let unpacked = unpack(&name, &work);
    let placed = unpacked.and_then(|tree| {
        if kernel.root.exists() {
            std::fs::remove_dir_all(&kernel.root)?;
        }
        std::fs::rename(tree, &kernel.root).context("placing the unpacked kernel")
    });
    std::fs::remove_dir_all(&work)?;
    placed
}

fn unpack(name: &str, work: &Path) -> Result<PathBuf> {
    run::quietly(run::command("apt-get").args(["-q", "download", name]).current_dir(work))?;
    let deb = std::fs::read_dir(work)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .with_context(|| format!("`apt-get download {name}` left no package"))?;
    let tree = work.join("tree");
    run::quietly(run::command("dpkg").arg("-x").args([&deb, &tree]))?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_their_numbers() {
        let newest = ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.1.0-47-cloud-amd64"]
            .into_iter()
            .max_by_key(|release| numbers(release));
        assert_eq!(newest, Some("6.1.0-56-cloud-amd64"));
        assert!(numbers("6.12.117+deb12-cloud-amd64") > numbers("6.12.107+deb12-cloud-amd64"));
    }
}
