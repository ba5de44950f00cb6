//! Session tickets: sealed with keys that are exchanged, kept in `state_dir` over restarts or shared by several machines.
//! When keys are exchanged is decided in `proxy_core::tls::tickets`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use proxy_core::digest::Digest;
use proxy_core::tls::tickets::{KEY_BYTES, Key, advance, parse, text};
use rustls::server::{ProducesTickets, StoresServerSessions};

use crate::store::files::{make_directory, read_bounded, write_private};

/// Name of the file below `state_dir`.
const FILE: &str = "ticket-keys";
/// Most bytes of a file of keys.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// Bytes of a key's name in front of each ticket.
const NAME_BYTES: usize = 8;
/// A ticket is no longer than a ClientHello may be.
const MAX_TICKET_BYTES: usize = 64 << 10;

/// The keys in force, for all workers and configurations.
pub(super) struct Tickets {
    sealers: ArcSwap<Vec<Sealer>>,
    lifetime: AtomicU32,
    state_dir: PathBuf,
    own: Mutex<Own>,
}

/// Keys that this daemon exchanges by itself.
#[derive(Default)]
struct Own {
    /// None where keys are shared, or nobody wants tickets.
    keys: Option<Vec<Key>>,
    /// What could not be written was told.
    told: bool,
}

/// One key, ready.
struct Sealer {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("keys", &self.sealers.load().len()).finish_non_exhaustive()
    }
}

/// Reads a file of keys that machines share.
///
/// # Errors
/// It cannot be read, or holds something else.
pub(super) fn read(file: &Path) -> Result<Vec<Key>, String> {
    let text = read_bounded(file, MAX_FILE_BYTES).map_err(|error| format!("{}: {error}", file.display()))?;
    let text = String::from_utf8(text).map_err(|_| format!("{}: not a text file", file.display()))?;
    parse(&text).map_err(|fault| format!("{}: {fault}", file.display()))
}

impl Tickets {
    /// Without keys.
    pub fn new(state_dir: PathBuf) -> Self {
        Self { sealers: ArcSwap::default(), lifetime: AtomicU32::new(0), state_dir, own: Mutex::default() }
    }

    /// Takes shared keys, or makes own ones and keeps them.
    pub fn configure(&self, lifetime: u32, shared: Option<Vec<Key>>) {
        self.lifetime.store(lifetime, Ordering::Relaxed);
        if let Some(keys) = shared {
            self.own().keys = None;
            self.put(&keys);
            return;
        }
        {
            let mut own = self.own();
            if own.keys.is_none() {
                let file = self.state_dir.join(FILE);
                // A first start has none; one that is broken is written anew.
                own.keys =
                    Some(if file.exists() { read(&file).unwrap_or_else(|fault| warned(&fault)) } else { Vec::new() });
                self.put(own.keys.as_deref().unwrap_or_default());
            }
        }
        self.advance();
    }

    /// Exchanges own keys where it is time.
    pub fn advance(&self) {
        let mut own = self.own();
        let Some(keys) = &own.keys else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut fresh = [0; KEY_BYTES];
        if rand::fill(&mut fresh).is_err() {
            return;
        }
        let lifetime = Duration::from_secs(self.lifetime.load(Ordering::Relaxed).into());
        let Some(keys) = advance(keys, now, lifetime, fresh) else { return };
        self.put(&keys);
        let written = make_directory(&self.state_dir)
            .and_then(|()| write_private(&self.state_dir.join(FILE), text(&keys).as_bytes()));
        if let Err(error) = written
            && !own.told
        {
            own.told = true;
            tracing::warn!(error = format!("{error:#}"), "session tickets will not be taken after a restart");
        }
        own.keys = Some(keys);
    }

    fn put(&self, keys: &[Key]) {
        self.sealers.store(Arc::new(keys.iter().filter_map(Sealer::new).collect()));
    }

    fn own(&self) -> std::sync::MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warned(fault: &str) -> Vec<Key> {
    tracing::warn!(fault, "the kept keys of session tickets are not used, new ones take their place");
    Vec::new()
}

impl Sealer {
    /// None where the library does not take the key, which has the right length.
    fn new(key: &Key) -> Option<Self> {
        let digest = Digest::of_parts([&b"name of a ticket key"[..], &key.secret]);
        let name = digest.bytes().first_chunk().copied()?;
        Some(Self { name, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key.secret).ok()?) })
    }

    /// Name, nonce, sealed text with its tag. AES-GCM-SIV (RFC 8452): two equal nonces, which random ones may be, give
    /// away only that two texts are equal.
    fn seal(&self, plain: &[u8], binding: &Digest) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let nonce_given = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce_given, Aad::from(binding.bytes()), &mut sealed).ok()?;
        Some([&self.name[..], &nonce, &sealed].concat())
    }

    fn open(&self, rest: &[u8], binding: &Digest) -> Option<Vec<u8>> {
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(binding.bytes()), &mut sealed).ok()?.len();
        sealed.truncate(plain);
        Some(sealed)
    }
}

/// Sessions are good only where their client is checked as it was when they began.
pub(super) struct Bound(Digest);

impl Bound {
    /// To a check of clients.
    pub fn new(binding: Digest) -> Self {
        Self(binding)
    }

    /// Tickets that are.
    pub fn tickets(&self, tickets: &Arc<Tickets>) -> BoundTickets {
        BoundTickets { tickets: Arc::clone(tickets), binding: self.0 }
    }

    /// Kept sessions that are.
    pub fn sessions(&self, sessions: Arc<dyn StoresServerSessions>) -> BoundSessions {
        BoundSessions { sessions, binding: self.0 }
    }
}

/// Tickets of one check of clients.
#[derive(Debug)]
pub(super) struct BoundTickets {
    tickets: Arc<Tickets>,
    binding: Digest,
}

impl ProducesTickets for BoundTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime.load(Ordering::Relaxed)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.sealers.load().first()?.seal(plain, &self.binding)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET_BYTES {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let sealers = self.tickets.sealers.load();
        sealers.iter().find(|sealer| sealer.name == *name)?.open(rest, &self.binding)
    }
}

/// Sessions are kept, and tickets only say which.
#[derive(Debug)]
pub(super) struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Kept sessions of one check of clients.
#[derive(Debug)]
pub(super) struct BoundSessions {
    sessions: Arc<dyn StoresServerSessions>,
    binding: Digest,
}

impl BoundSessions {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.binding.bytes()[..], key].concat()
    }
}

impl StoresServerSessions for BoundSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.sessions.put(self.key(&key), value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.sessions.get(&self.key(key))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.sessions.take(&self.key(key))
    }

    fn can_cache(&self) -> bool {
        self.sessions.can_cache()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_open_with_their_key_and_check_only() {
        let directory = std::env::temp_dir().join(format!("tidegate-tickets-{}", std::process::id()));
        let tickets = Arc::new(Tickets::new(directory.clone()));
        let with = |bytes: &[u8]| {
            let keys = bytes.iter().map(|byte| Key { secret: [*byte; KEY_BYTES], made: None }).collect();
            tickets.configure(60, Some(keys));
        };
        with(&[1]);
        let bound = Bound::new(Digest::of(b"a")).tickets(&tickets);
        let ticket = bound.encrypt(b"session").unwrap();
        assert_eq!(bound.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_ne!(bound.encrypt(b"session").unwrap(), ticket);
        assert_eq!(Bound::new(Digest::of(b"b")).tickets(&tickets).decrypt(&ticket), None, "another check");
        with(&[2, 1]);
        assert!(bound.decrypt(&ticket).is_some() && bound.encrypt(b"x").unwrap()[..8] != ticket[..8]);
        with(&[2]);
        assert_eq!(bound.decrypt(&ticket), None, "its key is gone");
        with(&[1]);
        let mut broken = ticket.clone();
        *broken.last_mut().unwrap() ^= 1;
        for bad in [&broken[..], b"", &ticket[..8], &ticket[..30]] {
            assert_eq!(bound.decrypt(bad), None);
        }
        assert!(!directory.exists(), "shared keys are not kept");
    }

    #[test]
    fn own_keys_are_kept_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = std::env::temp_dir().join(format!("tidegate-own-tickets-{}", std::process::id()));
        let begin = || {
            let tickets = Arc::new(Tickets::new(directory.clone()));
            tickets.configure(3_600, None);
            Bound::new(Digest::of(b"a")).tickets(&tickets)
        };
        let ticket = begin().encrypt(b"session").unwrap();
        let mode = std::fs::metadata(directory.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(begin().decrypt(&ticket).as_deref(), Some(&b"session"[..]), "after a restart");
        std::fs::write(directory.join(FILE), "broken").unwrap();
        assert!(begin().encrypt(b"x").is_some());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
