//! What is kept of policies that were in force: numbered revisions, which of them stay, what differs between two, and
//! the audit log's chain. Decides and reads no files: `proxy-user`'s `store` writes what stands here.

pub mod audit;
pub mod bundle;
pub mod diff;
pub mod keep;
mod revision;

pub use revision::{FileEntry, ListEntry, ListText, Origin, Revision, Texts, Who};

/// Most revisions that are kept.
pub const MAX_REVISIONS: usize = 64;
/// Most bytes that the texts of all kept revisions take; a text that several share counts once.
pub const MAX_STORE_BYTES: u64 = 512 << 20;
