//! Keys of session tickets: how a file holds them, and when one takes the place of another. The first key seals, all of them
//! open.

use std::time::Duration;

use crate::digest::{bytes_of_hex, hex};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Most keys of a file.
pub const MAX_KEYS: usize = 16;

/// A key, and when it was made, in seconds since 1970; a key that machines share has no time.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// The secret.
    pub secret: [u8; KEY_BYTES],
    /// When it was made.
    pub made: Option<u64>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("made", &self.made).finish_non_exhaustive()
    }
}

/// Keys from a file's text: a line for each, 64 hex digits, and behind a space the time where there is one. Empty lines and
/// those that begin with `#` are none.
///
/// # Errors
/// What is wrong, by the number of its line; nothing of a key is said.
pub fn parse(text: &str) -> Result<Vec<Key>, String> {
    let mut keys: Vec<Key> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (digits, time) = line.split_once(' ').map_or((line, None), |(digits, time)| (digits, Some(time)));
        let secret = bytes_of_hex(digits).ok_or_else(|| {
            format!("line {number} is not a key of {} hex digits; `openssl rand -hex 32` makes one", KEY_BYTES * 2)
        })?;
        let made = time.map(|time| time.trim().parse().map_err(|_| format!("line {number}: what follows is no time")));
        if keys.iter().any(|key| key.secret == secret) {
            return Err(format!("line {number}: this key stands above already"));
        }
        keys.push(Key { secret, made: made.transpose()? });
    }
    match keys.len() {
        0 => Err("there is no key in it; `openssl rand -hex 32` makes one".to_owned()),
        count if count > MAX_KEYS => Err(format!("{count} keys, at most {MAX_KEYS}")),
        _ => Ok(keys),
    }
}

/// The text that [`parse`] reads.
pub fn text(keys: &[Key]) -> String {
    let mut text = String::new();
    for key in keys {
        text.push_str(&hex(&key.secret));
        if let Some(made) = key.made {
            text.extend([" ", &made.to_string()]);
        }
        text.push('\n');
    }
    text
}

/// The keys as of `now`, in seconds since 1970: a `fresh` one in front once the first has sealed for a ticket's `lifetime`, and
/// none whose last ticket is over. `None` where nothing changes.
pub fn advance(keys: &[Key], now: u64, lifetime: Duration, fresh: [u8; KEY_BYTES]) -> Option<Vec<Key>> {
    let lifetime = lifetime.as_secs();
    // One from the future comes of a clock that was wrong: it is exchanged, or it would seal until then.
    let age = |key: &Key| now.checked_sub(key.made.unwrap_or(now));
    let seals = keys.first().and_then(age).is_some_and(|age| age < lifetime);
    let mut kept: Vec<Key> = keys.iter().filter(|key| age(key).is_none_or(|age| age < lifetime * 2)).cloned().collect();
    if seals && kept.len() == keys.len() {
        return None;
    }
    if !seals {
        // What stays of the future opens for as long as one of today.
        kept.iter_mut().filter(|key| age(key).is_none()).for_each(|key| key.made = Some(now.saturating_sub(lifetime)));
        kept.insert(0, Key { secret: fresh, made: Some(now) });
    }
    kept.truncate(MAX_KEYS);
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(100);

    fn key(byte: u8, made: u64) -> Key {
        Key { secret: [byte; KEY_BYTES], made: Some(made) }
    }

    fn ids(keys: &[Key]) -> Vec<u8> {
        keys.iter().map(|key| key.secret[0]).collect()
    }

    #[test]
    fn keys_seal_for_a_lifetime_and_open_for_one_more() {
        let first = advance(&[], 1_000, LIFE, [1; KEY_BYTES]).unwrap();
        assert_eq!(ids(&first), [1]);
        assert_eq!(advance(&first, 1_099, LIFE, [2; KEY_BYTES]), None);
        let second = advance(&first, 1_100, LIFE, [2; KEY_BYTES]).unwrap();
        assert_eq!(ids(&second), [2, 1]);
        assert_eq!(advance(&second, 1_199, LIFE, [3; KEY_BYTES]), None);
        let third = advance(&second, 1_200, LIFE, [3; KEY_BYTES]).unwrap();
        assert_eq!(ids(&third), [3, 2], "tickets of the first are over");
        assert_eq!(ids(&advance(&third, 9_000, LIFE, [4; KEY_BYTES]).unwrap()), [4]);
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_keep_a_key_forever() {
        let ahead = [key(1, 50_000)];
        let now = advance(&ahead, 1_000, LIFE, [2; KEY_BYTES]).unwrap();
        assert_eq!(ids(&now), [2, 1]);
        assert_eq!(ids(&advance(&now, 1_100, LIFE, [3; KEY_BYTES]).unwrap()), [3, 2]);
    }

    #[test]
    fn files_are_read_as_they_are_written() {
        let keys = vec![key(1, 5), Key { secret: [0xab; KEY_BYTES], made: None }];
        let text = text(&keys);
        assert_eq!(parse(&format!("# shared\n\n{text}")), Ok(keys));
        assert!(parse("").unwrap_err().contains("no key"));
        assert!(parse(&format!("{text}xyz")).unwrap_err().contains("line 3 is not a key"));
        assert!(parse(&format!("{} soon", "0".repeat(64))).unwrap_err().contains("no time"));
        assert!(parse(&format!("{text}{text}")).unwrap_err().contains("stands above"));
        let many: Vec<Key> = (0..17).map(|byte| key(byte, 1)).collect();
        assert!(parse(&super::text(&many)).unwrap_err().contains("at most 16"));
        assert!(!format!("{many:?}").contains("secret"));
    }
}
