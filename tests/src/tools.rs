//! The programs that the tests run: found on PATH, or named by `xtask` through the environment.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The `tidegate` under test.
pub const BINARY: &str = "TIDEGATE_TEST_BINARY";
/// A Python that has aioquic.
pub const PYTHON: &str = "TIDEGATE_TEST_PYTHON";

/// The object of the benches' own kernel programs.
pub const OBJECT: &str = "TIDEGATE_TEST_OBJECT";

/// The `xtask` that started this.
pub const XTASK: &str = "TIDEGATE_TEST_XTASK";

/// A program on PATH, the administrator's directories included.
pub fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("{program} is not installed: run `cargo xtask setup --test`"))
}

/// The Python that has aioquic.
pub fn python() -> Result<PathBuf> {
    named(PYTHON)
}

/// The `tidegate` binary under test.
pub fn tidegate() -> Result<PathBuf> {
    named(BINARY)
}

/// The object of the benches' own kernel programs.
pub fn object() -> Result<PathBuf> {
    named(OBJECT)
}

/// The `xtask` that started this.
pub fn xtask() -> Result<PathBuf> {
    named(XTASK)
}

/// A file of `tests/clients`.
pub fn client(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(file)
}

/// A file or directory of the workspace.
pub fn in_workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn named(variable: &str) -> Result<PathBuf> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty());
    Ok(PathBuf::from(value.with_context(|| format!("{variable} is not set: start this by `cargo xtask`"))?))
}
