//! Where things lie: the source tree, its target directory and the cache that outlives it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// The workspace's root directory.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// Cargo's target directory of the workspace.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Target directory of the kernel programs: apart, because they are built by another compiler.
pub fn bpf_target() -> PathBuf {
    target().join("bpf")
}

/// What is built once a machine and may be deleted at any time: the linker, the Python environment.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(base.join("tidegate"))
}
