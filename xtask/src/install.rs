//! `cargo xtask install`: what a host needs to run Tidegate, and nothing of the toolchain. `--uninstall` takes it away.
//!
//! Every file is listed in a manifest, so that uninstalling removes those and no others. The config is the
//! administrator's: once edited it is neither overwritten nor removed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};

use crate::progress::Progress;
use crate::{build, run, setup, tree};

/// Where the config lies on every host; `tidegate` looks there unless told otherwise.
const CONFIG_DIR: &str = "/etc/tidegate";

/// Options of `install`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask install                            into /usr/local and /etc/tidegate
  cargo xtask install --prefix /usr --destdir D  the same tree under D, for a package
  cargo xtask install --uninstall                removes it, and the pinned maps; an edited config stays")]
pub struct Args {
    /// Where binary, manual pages and the rest go
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
    /// Put before every path, for packages and for trying out
    #[arg(long)]
    destdir: Option<PathBuf>,
    /// Remove what an installation with the same --prefix and --destdir put there
    #[arg(long)]
    uninstall: bool,
    /// Install this `tidegate` instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress { quiet: false };
    let place = Place::new(args)?;
    if args.uninstall {
        return place.uninstall(progress).map(|()| ExitCode::SUCCESS);
    }
    let binary = if let Some(file) = &args.binary {
        file.canonicalize().with_context(|| format!("{}", file.display()))?
    } else {
        let toolchain = setup::for_build(progress)?;
        build::workspace(&toolchain, "release", &["proxy-user"], progress)?.binary
    };
    place.install(&binary, progress).map(|()| ExitCode::SUCCESS)
}

/// Paths as they will be on the host, and where they are written now.
struct Place {
    prefix: PathBuf,
    destdir: PathBuf,
}

impl Place {
    fn new(args: &Args) -> Result<Self> {
        ensure!(args.prefix.is_absolute(), "--prefix must be an absolute path, not {}", args.prefix.display());
        let destdir = match &args.destdir {
            Some(dir) => std::path::absolute(dir)?,
            None => PathBuf::from("/"),
        };
        Ok(Self { prefix: args.prefix.clone(), destdir })
    }

    /// Where a path of the host is written.
    fn here(&self, path: &Path) -> PathBuf {
        self.destdir.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn share(&self) -> PathBuf {
        self.prefix.join("share/tidegate")
    }

    fn manifest(&self) -> PathBuf {
        self.share().join("manifest")
    }

    /// The config as it was installed: what tells an edited one from ours.
    fn pristine(&self) -> PathBuf {
        self.share().join("tidegate.json")
    }

    fn config() -> PathBuf {
        Path::new(CONFIG_DIR).join("tidegate.json")
    }

    /// Fills in the places that the installed files name.
    fn filled(&self, template: &str) -> String {
        template
            .replace("@BINDIR@", &self.prefix.join("bin").display().to_string())
            .replace("@SHARE@", &self.share().display().to_string())
            .replace("@CONFIG@", &Self::config().display().to_string())
    }

    fn install(&self, binary: &Path, progress: Progress) -> Result<()> {
        let mut files = self.generated(binary)?;
        files.push((self.prefix.join("bin/tidegate"), std::fs::read(binary)?));
        let unit = self.filled(include_str!("../files/tidegate.service"));
        files.push((self.prefix.join("lib/systemd/system/tidegate.service"), unit.into_bytes()));
        // Under share: what lies in the config's own policies directory is in force.
        let examples = tree::root().join("policies/examples");
        for entry in std::fs::read_dir(&examples).into_iter().flatten() {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "json") {
                let name = file.file_name().unwrap_or_default();
                files.push((self.share().join("examples").join(name), std::fs::read(&file)?));
            }
        }
        let config = self.filled(include_str!("../files/tidegate.json"));
        let before = std::fs::read_to_string(self.here(&self.pristine())).ok();
        files.push((self.pristine(), config.clone().into_bytes()));
        let mut manifest: Vec<String> = files.iter().map(|(path, _)| path.display().to_string()).collect();
        manifest.push(self.manifest().display().to_string());
        manifest.sort();
        files.push((self.manifest(), (manifest.join("\n") + "\n").into_bytes()));
        for (path, bytes) in &files {
            let mode = if path.ends_with("bin/tidegate") { 0o755 } else { 0o644 };
            write(&self.here(path), bytes, mode)?;
            progress.note(&self.here(path).display().to_string());
        }
        std::fs::create_dir_all(self.here(&Path::new(CONFIG_DIR).join("policies")))?;
        self.place_config(&config, before.as_deref(), progress)?;
        progress.announce("Installed. Next: edit the config, `tidegate check`, `systemctl enable --now tidegate`");
        Ok(())
    }

    /// Puts the default config in place, beside an edited one under another name.
    fn place_config(&self, config: &str, pristine: Option<&str>, progress: Progress) -> Result<()> {
        let file = self.here(&Self::config());
        match std::fs::read_to_string(&file).ok() {
            Some(now) if now == config => {}
            Some(now) if Some(now.as_str()) != pristine => {
                let beside = file.with_extension("json.new");
                write(&beside, config.as_bytes(), 0o644)?;
                progress.warn(&format!(
                    "{} was edited and stays; the new default is {}",
                    file.display(),
                    beside.display()
                ));
            }
            _ => {
                write(&file, config.as_bytes(), 0o644)?;
                progress.note(&file.display().to_string());
            }
        }
        Ok(())
    }

    /// What the binary itself writes: schemas, completions, manual pages.
    fn generated(&self, binary: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let output = |words: &[&str]| run::quietly(run::command(binary).args(words)).map(String::into_bytes);
        let mut files = Vec::new();
        for what in ["config", "policy"] {
            files.push((self.share().join(format!("schemas/{what}.schema.json")), output(&["schema", what])?));
        }
        for (shell, path) in [
            ("bash", "share/bash-completion/completions/tidegate"),
            ("zsh", "share/zsh/site-functions/_tidegate"),
            ("fish", "share/fish/vendor_completions.d/tidegate.fish"),
        ] {
            files.push((self.prefix.join(path), output(&["completions", shell])?));
        }
        let pages = tree::target().join("man");
        run::quietly(run::command(binary).args(["man", "--dir"]).arg(&pages))?;
        for entry in std::fs::read_dir(&pages)? {
            let file = entry?.path();
            let name = file.file_name().unwrap_or_default();
            files.push((self.prefix.join("share/man/man1").join(name), std::fs::read(&file)?));
        }
        std::fs::remove_dir_all(&pages)?;
        Ok(files)
    }

    fn uninstall(&self, progress: Progress) -> Result<()> {
        let manifest = self.here(&self.manifest());
        let Ok(list) = std::fs::read_to_string(&manifest) else {
            bail!("nothing to remove: there is no {}", manifest.display());
        };
        let (config, pristine) = (self.here(&Self::config()), self.here(&self.pristine()));
        // The pins are this host's only when the tree is this host's own.
        if self.destdir == Path::new("/") && config.exists() {
            let mut unload = run::command(self.prefix.join("bin/tidegate"));
            unload.args(["unload", "--config"]).arg(&config);
            run::quietly(&mut unload).context(
                "the gate could not be taken away. Stop the daemon (`systemctl disable --now tidegate`) and try again",
            )?;
            progress.note("the gate is detached, its pinned maps are removed");
        }
        let edited = config.exists() && std::fs::read(&config).ok() != std::fs::read(&pristine).ok();
        if edited {
            progress.warn(&format!("{} was edited and stays", config.display()));
        } else if config.exists() {
            std::fs::remove_file(&config)?;
        }
        for line in list.lines() {
            let file = self.here(Path::new(line));
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("{}", file.display()));
                }
                _ => self.remove_empty_parents(&file),
            }
        }
        let policies = self.here(&Path::new(CONFIG_DIR).join("policies"));
        if std::fs::remove_dir(&policies).is_err() && policies.exists() {
            progress.warn(&format!("{} holds policies and stays", policies.display()));
        }
        if !edited {
            self.remove_empty_parents(&config);
        }
        progress.announce("Uninstalled");
        Ok(())
    }

    /// Removes the directories of Tidegate's own that nothing is in any more; those of the host stay.
    fn remove_empty_parents(&self, file: &Path) {
        for dir in file.ancestors().skip(1) {
            let on_host = dir.strip_prefix(&self.destdir).unwrap_or(dir);
            let ours = on_host.components().any(|part| part.as_os_str() == "tidegate");
            if !ours || std::fs::remove_dir(dir).is_err() {
                return;
            }
        }
    }
}

/// Writes a whole file at once, with its directories.
fn write(file: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let dir = file.parent().context("a file without a directory")?;
    std::fs::create_dir_all(dir).with_context(|| format!("could not make {}: root?", dir.display()))?;
    let next = dir.join(format!(".{}.next", file.file_name().unwrap_or_default().display()));
    std::fs::write(&next, bytes).with_context(|| format!("could not write {}: root?", next.display()))?;
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&next, file)?;
    Ok(())
}
