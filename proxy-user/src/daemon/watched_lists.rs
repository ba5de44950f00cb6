//! List files that are taken up by themselves when they change. A file is read when it has been left alone for a moment: who
//! does not replace it by a rename writes it bit by bit. One with faults leaves its list as it was, and so do tests of a
//! policy that fail with it. No revision is made of it: the kept ones know the list as it was when its policy came in.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proxy_core::store::Who;
use proxy_core::store::audit::Act;
use tokio::sync::mpsc;

use super::Daemon;
use super::policies::Sources;
use super::supervision::until;
use crate::watch::{Stamps, Watch};

/// How long a file must have been left alone.
const SETTLE: Duration = Duration::from_secs(1);
/// A file that is never left alone is read after so many looks all the same.
const MAX_LOOKS: u32 = 10;

/// The files, and what is known of them.
#[derive(Debug)]
pub(super) struct WatchedLists {
    files: Vec<PathBuf>,
    watch: Option<Watch>,
    changed: (mpsc::Sender<()>, mpsc::Receiver<()>),
    /// Of the files as they were read last.
    known: Stamps,
    /// Of the files at the last look, while they are changing.
    seen: Stamps,
    looks: u32,
    /// When they are looked at.
    due: Option<Instant>,
    /// Numbers of the files whose newest content was refused.
    stale: BTreeSet<usize>,
}

impl WatchedLists {
    /// Follows the lists of policies.
    pub(super) fn new(sources: &Sources) -> Self {
        let (files, known) = sources.watched();
        let changed = mpsc::channel(1);
        let watch = (!files.is_empty()).then(|| start(&files, changed.0.clone()));
        // What changed between the reading and the watching, nobody tells.
        let due = (!files.is_empty()).then(|| Instant::now() + SETTLE);
        let (seen, stale) = (known.clone(), BTreeSet::new());
        Self { files, watch, changed, known, seen, looks: 0, due, stale }
    }

    /// Completes when something changed a while ago, never where nothing is watched.
    pub(super) async fn settled(&mut self) {
        loop {
            tokio::select! {
                Some(()) = self.changed.1.recv() => {
                    self.due.get_or_insert_with(|| Instant::now() + SETTLE);
                }
                () = until(self.due) => {
                    self.due = None;
                    return;
                }
            }
        }
    }

    /// Stops watching.
    pub(super) fn end(&mut self) {
        self.watch = None;
    }

    /// The files to read now: those that are not as they were read last, and were left alone since the look before.
    fn look(&mut self) -> Vec<usize> {
        let now = Stamps::take(&self.files);
        let changed = self.known.changed(&now);
        if changed.is_empty() {
            self.looks = 0;
            return changed;
        }
        self.looks += 1;
        let moving = self.seen != now;
        self.seen = now.clone();
        if moving && self.looks <= MAX_LOOKS {
            self.due = Some(Instant::now() + SETTLE);
            return Vec::new();
        }
        self.looks = 0;
        self.known = now;
        if self.watch.as_ref().is_some_and(|watch| !watch.covers(&self.files)) {
            // They lie behind other links now.
            self.watch = Some(start(&self.files, self.changed.0.clone()));
            self.due = Some(Instant::now() + SETTLE);
        }
        changed
    }
}

fn start(files: &[PathBuf], changed: mpsc::Sender<()>) -> Watch {
    Watch::start(files, "list files", changed)
}

impl Daemon {
    /// Other policies are in force.
    pub(super) fn follow(&mut self, sources: Sources) {
        self.lists = WatchedLists::new(&sources);
        self.sources = sources;
        self.shared.list_files.stale.store(0, Ordering::Relaxed);
    }

    /// Takes up the list files that have changed.
    pub(super) fn look_at_lists(&mut self) {
        let changed = self.lists.look();
        if changed.is_empty() {
            return;
        }
        let mut sources = self.sources.clone();
        let mut taken = Vec::new();
        for number in changed {
            match sources.read_again(number) {
                Ok(items) => taken.push((number, items)),
                Err(faults) => self.not_taken(number, &faults),
            }
        }
        if !taken.is_empty() {
            match self.compiled(&sources).and_then(|policies| self.swap(policies)) {
                Ok((generation, kernel)) => {
                    self.sources = sources;
                    for (number, items) in taken {
                        self.taken(number, items, generation, kernel.written);
                    }
                }
                Err(faults) => taken.into_iter().for_each(|(number, _)| self.not_taken(number, &faults)),
            }
        }
        self.shared.list_files.stale.store(self.lists.stale.len() as u64, Ordering::Relaxed);
    }

    fn taken(&mut self, number: usize, items: usize, generation: u64, written: u32) {
        let file = self.list_file(number);
        tracing::info!(file, items, generation, written, "the list file has changed and was taken up");
        self.lists.stale.remove(&number);
        self.shared.list_files.taken.fetch_add(1, Ordering::Relaxed);
        self.tell_of(Act::List, Who::default(), Ok(()), Some(&format!("{file}: {items} items")));
    }

    fn not_taken(&mut self, number: usize, faults: &str) {
        let file = self.list_file(number);
        tracing::error!(file, "the list file has changed and was not taken up, the list stays as it was:\n{faults}");
        self.lists.stale.insert(number);
        self.shared.list_files.refused.fetch_add(1, Ordering::Relaxed);
        self.tell_of(Act::List, Who::default(), Err(faults), Some(&file));
    }

    fn list_file(&self, number: usize) -> String {
        self.lists.files.get(number).map(|file| file.display().to_string()).unwrap_or_default()
    }
}
