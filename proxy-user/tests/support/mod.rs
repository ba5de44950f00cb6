//! A directory of a test's own.

use std::path::{Path, PathBuf};

/// A directory that goes with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it; `name` is the test's.
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tidegate-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
