//! A directory of files for one case, removed when dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};

use crate::ward::{self, DIR_MARK, Item};

/// The directory.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    name: String,
}

impl Scratch {
    /// Makes an empty one.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{DIR_MARK}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(&name);
        ward::guard(Item::Dir(path.clone()));
        std::fs::create_dir(&path).with_context(|| format!("could not make {}", path.display()))?;
        Ok(Self { path, name })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name that no other scratch directory has.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = ward::release(Item::Dir(self.path.clone())) {
            eprintln!("{error:#}");
        }
    }
}
