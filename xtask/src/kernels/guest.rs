//! What runs in the guest: an initramfs of busybox, `ip`, the tests, `tidegate`, the libraries that they want, modules of
//! the kernel, and a script that runs the tests and turns the machine off.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::archive::Archive;
use super::package::Kernel;
use crate::build::{self, Built};
use crate::{run, tree};

/// Modules that the tests' interfaces want; what they want themselves is found. Those that a kernel has built in, or not
/// at all, are passed over.
const MODULES: [&str; 4] = ["veth", "bonding", "8021q", "dummy"];
/// Line that the script prints with the exit statuses of the tests.
pub const END_MARK: &str = "tidegate-guest-end";
/// Line that it prints before them.
pub const BEGIN_MARK: &str = "tidegate-guest-begin";

/// A file system for the guest, and where its console is to be kept.
#[derive(Debug)]
pub struct Initramfs {
    /// The archive.
    pub file: PathBuf,
    /// Everything that the guest prints.
    pub log: PathBuf,
}

/// Packs it. `filter` is passed to the tests.
pub fn initramfs(kernel: &Kernel, built: &Built, filter: Option<&str>) -> Result<Initramfs> {
    let dir = tree::target().join("kernels");
    let file = dir.join(format!("{}.cpio", kernel.release));
    let mut archive = Archive::new(BufWriter::new(File::create(&file)?));
    for path in ["dev", "proc", "sys", "tmp", "run", "bin"] {
        archive.directory(path)?;
    }
    let busybox = run::find("busybox").context("no busybox")?;
    archive.program("bin/busybox", &std::fs::read(&busybox)?)?;
    let mut libraries = BTreeSet::new();
    for program in [run::find("ip").context("no ip")?, built.binary.clone(), built.dir.join("tidegate-tests")] {
        let name = program.file_name().context("a program without a name")?.to_string_lossy().into_owned();
        let bare = dir.join(&name);
        // Symbols are most of these files, and the guest has them in memory twice.
        run::quietly(run::command("strip").arg("-o").args([&bare, &program]))?;
        archive.program(&format!("bin/{name}"), &std::fs::read(&bare)?)?;
        libraries.extend(wanted_libraries(&program)?);
    }
    for library in libraries {
        let bytes = std::fs::read(&library).with_context(|| library.clone())?;
        archive.program(library.trim_start_matches('/'), &bytes)?;
    }
    archive.program("bin/bench-bpf", &std::fs::read(built.object.with_file_name(build::BENCH_BINARY))?)?;
    let mut modules = Vec::new();
    for module in MODULES {
        collect_module(kernel, &busybox, module, &mut modules)?;
    }
    let mut order = Vec::new();
    for (name, bytes) in &modules {
        archive.program(&format!("modules/{name}.ko"), bytes)?;
        order.push(name.as_str());
    }
    archive.program("init", script(&order, filter).as_bytes())?;
    archive.finish()?;
    Ok(Initramfs { file, log: dir.join(format!("{}.log", kernel.release)) })
}

/// The guest's first process. Tests print to a pipe, so that nothing is coloured for a terminal.
fn script(modules: &[&str], filter: Option<&str>) -> String {
    let filter = filter.map(|filter| format!("'{}'", filter.replace('\'', ""))).unwrap_or_default();
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin HOME=/tmp TIDEGATE_TEST_BINARY=/bin/tidegate TIDEGATE_TEST_OBJECT=/bin/bench-bpf TIDEGATE_TEST_SLOWNESS=10\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\n\
         mount -t tmpfs tmp /tmp\n\
         mount -t tmpfs run /run\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         mount -t cgroup2 cgroup /sys/fs/cgroup\n\
         for module in {modules}; do insmod /modules/$module.ko; done\n\
         ip link set lo up\n\
         set -o pipefail\n\
         echo {BEGIN_MARK} `uname -r`\n\
         tidegate-tests test {filter} --verdicts --skip 'changed frames' --skip 'made-up' --threads 2 2>&1 | cat\n\
         table=$?\n\
         tidegate-tests test {filter} --e2e --only e2e::attach --threads 1 2>&1 | cat\n\
         echo {END_MARK} $table $?\n\
         poweroff -f\n",
        modules = modules.join(" ")
    )
}

/// The libraries that the dynamic linker loads for a program, by their paths.
fn wanted_libraries(program: &Path) -> Result<Vec<String>> {
    let listed = run::quietly(run::command("ldd").arg(program))?;
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(str::to_owned).collect())
}

/// Adds a module behind those that it wants.
fn collect_module(kernel: &Kernel, busybox: &Path, name: &str, modules: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    if modules.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let Some(file) = module_file(&kernel.modules(), name) else { return Ok(()) };
    let bytes = match file.extension().and_then(|end| end.to_str()) {
        Some("xz") => {
            let output = run::command(busybox).arg("xzcat").arg(&file).output()?;
            anyhow::ensure!(output.status.success(), "busybox could not unpack {}", file.display());
            output.stdout
        }
        _ => std::fs::read(&file)?,
    };
    for wanted in depends(&bytes) {
        collect_module(kernel, busybox, &wanted, modules)?;
    }
    modules.push((name.to_owned(), bytes));
    Ok(())
}

/// What a module wants, by the `depends=` line of its `.modinfo` section.
fn depends(module: &[u8]) -> Vec<String> {
    const MARK: &[u8] = b"\0depends=";
    let Some(at) = module.windows(MARK.len()).position(|bytes| bytes == MARK) else { return Vec::new() };
    let rest = &module[at + MARK.len()..];
    let list = String::from_utf8_lossy(&rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(0)]).into_owned();
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The file of a module; names say `_` where files may say `-`.
fn module_file(dir: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if let Some(found) = module_file(&path, name) {
                return Some(found);
            }
        } else if let Some(file) = path.file_name().and_then(|file| file.to_str())
            && let Some((stem, "ko" | "ko.xz")) = file.split_once('.')
            && stem.replace('-', "_") == name
        {
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        assert_eq!(depends(b"\x7fELF\0license=GPL\0depends=garp,mrp\0name=8021q\0"), ["garp", "mrp"]);
        assert!(depends(b"license=GPL\0depends=\0name=veth\0").is_empty());
        assert!(depends(b"nothing of the kind").is_empty());
    }

    #[test]
    fn the_script_runs_the_tests_and_says_how_they_ended() {
        let script = script(&["stp", "8021q"], Some("a'b"));
        assert!(script.contains("for module in stp 8021q;") && script.contains("test 'ab' --verdicts"), "{script}");
        assert!(script.contains(END_MARK) && script.contains("poweroff -f"), "{script}");
    }
}
