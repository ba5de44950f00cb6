//! The tables of listed hosts (`HOSTS`, one a side, and `HOST_HINT` before them): made in the size that a list needs, mapped
//! into the daemon, and written with plain stores while no packet reads the side. What stands in them is `proxy-core`'s.
//!
//! A side whose size fits goes on with what differs written; otherwise a new table takes its place in `HOSTS`, and the old
//! one is freed by the kernel once no program run can hold it. Each table is pinned beside the other maps, because a map
//! that only `HOSTS` names can be opened with `CAP_SYS_ADMIN` alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use anyhow::{Context, Result, anyhow};
use arc_swap::ArcSwapOption;
use aya::maps::{Array, MapData};
use proxy_common::abi::{HOST_HINT_WORDS, HOST_LINE_WORDS as WORDS, HostKey, HostLine, SIDES};
use proxy_common::addr::Addr;
use proxy_common::hosts::{HostFound, Shape, entry, find};
use proxy_core::hosts::HostTable;

use super::mapped::Mapped;
use super::syscall::Map;

/// Names of the tables' pins, by side.
const PINS: [&str; SIDES as usize] = ["HOSTS_A", "HOSTS_B"];
/// Pin of a table until it stands in `HOSTS`.
const FRESH_PIN: &str = "HOSTS_FRESH";
/// `BPF_F_MMAPABLE` of `include/uapi/linux/bpf.h`.
const BPF_F_MMAPABLE: u32 = 1 << 10;
/// `BPF_F_INNER_MAP`: tables of any size may stand in `HOSTS`.
const BPF_F_INNER_MAP: u32 = 1 << 12;

/// Both sides.
#[derive(Debug)]
pub struct Hosts {
    outer: Map<u32, u32>,
    hint: Mapped<AtomicU64>,
    sides: [ArcSwapOption<Table>; SIDES as usize],
    pins: PathBuf,
}

/// One side's table.
#[derive(Debug)]
struct Table {
    words: Mapped<AtomicU64>,
    lines: u32,
}

/// What a list has that a table has not, and the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Hosts to write.
    pub written: u32,
    /// Hosts to remove.
    pub removed: u32,
}

impl Table {
    fn map(array: &MapData) -> Result<Self> {
        let lines = array.info()?.max_entries();
        let words = lines.checked_mul(WORDS as u32).ok_or_else(|| anyhow!("a table of hosts of {lines} lines"))?;
        Ok(Self { words: Mapped::new(array.fd(), words)?, lines })
    }

    fn line(&self, at: u32) -> Option<HostLine> {
        let from = at as usize * WORDS;
        let mut line = HostLine::default();
        for (word, shared) in line.words.iter_mut().zip(self.words.entries().get(from..from + WORDS)?) {
            *word = shared.load(Ordering::Relaxed);
        }
        Some(line)
    }

    fn shape(&self) -> Shape {
        self.line(0).map_or_else(Shape::default, |first| Shape::of(&first))
    }

    /// Stores the words that differ.
    fn write(&self, table: &HostTable) {
        store(self.words.entries(), table.lines.iter().flat_map(|line| line.words));
    }
}

/// Stores what differs; what is left out counts as zero.
fn store(shared: &[AtomicU64], words: impl Iterator<Item = u64>) {
    for (shared, word) in shared.iter().zip(words.chain(std::iter::repeat(0))) {
        if shared.load(Ordering::Relaxed) != word {
            shared.store(word, Ordering::Relaxed);
        }
    }
}

impl Hosts {
    /// Takes over what is pinned.
    pub fn adopt(outer: Map<u32, u32>, hint: &Map<u32, u64>, pins: &Path) -> Result<Self> {
        let hint = Mapped::new(hint, SIDES * HOST_HINT_WORDS).context("HOST_HINT")?;
        let hosts = Self { outer, hint, sides: Default::default(), pins: pins.to_path_buf() };
        for (side, place) in (0..).zip(&hosts.sides) {
            place.store(hosts.pinned(side)?.map(Arc::new));
        }
        Ok(hosts)
    }

    /// The pinned table of a side, if it is the one that packets are sent to.
    fn pinned(&self, side: u32) -> Result<Option<Table>> {
        let path = self.pin(side);
        let Some(id) = self.outer.get(&side).context("reading HOSTS")? else { return Ok(None) };
        if !path.exists() {
            return Ok(None);
        }
        let array = MapData::from_pin(&path).with_context(|| format!("reading the pin {}", path.display()))?;
        if array.info()?.id() == id { Table::map(&array).map(Some) } else { Ok(None) }
    }

    fn pin(&self, side: u32) -> PathBuf {
        let [a, b] = PINS;
        self.pins.join(if side == 0 { a } else { b })
    }

    fn side(&self, side: u32) -> Option<Arc<Table>> {
        let [a, b] = &self.sides;
        if side == 0 { a } else { b }.load_full()
    }

    fn hint_of(&self, side: u32) -> &[AtomicU64] {
        let (a, b) = self.hint.entries().split_at(HOST_HINT_WORDS as usize);
        if side == 0 { a } else { b }
    }

    /// What a side says of an address.
    pub fn find(&self, side: u32, addr: Addr) -> HostFound {
        self.side(side).map_or_else(HostFound::default, |table| find(addr, |line| table.line(line)))
    }

    /// Word of a side's filter.
    pub fn hint(&self, side: u32, word: u32) -> u64 {
        self.hint_of(side).get(word as usize).map_or(u64::MAX, |word| word.load(Ordering::Relaxed))
    }

    /// What `hosts` have otherwise than a side.
    pub fn difference(&self, side: u32, hosts: &[(HostKey, u32)]) -> Difference {
        let Some(table) = self.side(side) else {
            return Difference { written: hosts.len() as u32, removed: 0 };
        };
        let (mut same, mut known) = (0, 0);
        for (key, terms) in hosts {
            let found = entry(key, |line| table.line(line)).terms;
            same += u32::from(found == *terms);
            known += u32::from(found != 0);
        }
        let standing = table.shape().hosts;
        Difference { written: hosts.len() as u32 - same, removed: standing.saturating_sub(known) }
    }

    /// Has a side that no packet reads hold `hosts`, sorted by key; returns the binary logarithm of its filter's bits.
    pub fn write(&self, side: u32, hosts: &[(HostKey, u32)]) -> Result<u32> {
        let standing = self.side(side);
        let seed = match &standing {
            Some(table) => table.shape().seed,
            None => super::random_key()?.k0,
        };
        let table = HostTable::build(hosts, seed).context(
            "the hosts of the lists do not fit into their table, which is not your doing: please report it, with the lists",
        )?;
        if hosts.is_empty() {
            self.replace(side, None)?;
        } else if let Some(standing) = standing.filter(|standing| standing.lines as usize == table.lines.len()) {
            standing.write(&table);
        } else {
            self.replace(side, Some(&table))?;
        }
        store(self.hint_of(side), table.hint.iter().copied());
        // Everything stands before the word in `GATE` that sends packets here.
        fence(Ordering::SeqCst);
        Ok(table.bits)
    }

    /// Puts a new table into `HOSTS`, or none.
    fn replace(&self, side: u32, table: Option<&HostTable>) -> Result<()> {
        let [a, b] = &self.sides;
        let place = if side == 0 { a } else { b };
        let path = self.pin(side);
        let Some(table) = table else {
            if self.outer.get(&side).context("reading HOSTS")?.is_some() {
                self.outer.remove(&side).context("writing HOSTS")?;
            }
            place.store(None);
            return remove_pin(&path);
        };
        // Not with a dot: bpffs takes none in names.
        let fresh = self.pins.join(FRESH_PIN);
        remove_pin(&fresh)?;
        let array = Array::<MapData, HostLine>::create(table.lines.len() as u32, BPF_F_MMAPABLE | BPF_F_INNER_MAP)
            .with_context(|| format!("making a table of {} bytes for the listed hosts", size_of_val(&*table.lines)))?;
        array.pin(&fresh).context("pinning a table of hosts")?;
        let array = MapData::from_pin(&fresh).context("opening a table of hosts")?;
        let mapped = Table::map(&array)?;
        mapped.write(table);
        self.outer.set_map(side, array.fd()).context("writing HOSTS")?;
        place.store(Some(Arc::new(mapped)));
        fs::rename(&fresh, &path).with_context(|| format!("pinning {}", path.display()))
    }
}

fn remove_pin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
