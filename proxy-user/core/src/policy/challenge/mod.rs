//! `challenge`: a page with work to do, and a cookie that shows that it was done. Nothing is kept: the page holds a token
//! with the time at which it was made, signed for a policy and a source, and the cookie is that token with the answer: each
//! rule says itself how long it takes one. Time and key are arguments.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use http::HeaderValue;

use super::RequestView;
use super::lang::encode_base64;
use crate::digest::{Digest, bytes_of_hex};
use crate::explain::to_hex;
use crate::ranges::number;

/// Least work: leading zero bits of a hash.
pub const MIN_DIFFICULTY: u8 = 1;
/// Most work: some minutes of a telephone.
pub const MAX_DIFFICULTY: u8 = 24;

/// Work unless a rule says otherwise: 65,536 hashes on average.
pub(super) const DEFAULT_DIFFICULTY: u8 = 16;
/// How long a pass is good unless a rule says otherwise.
pub(super) const DEFAULT_PASS: Duration = Duration::from_secs(3_600);

/// The page; `{{…}}` is filled in.
const PAGE: &str = include_str!("page.html");
/// The script within, apart so that the page's policy can name its hash.
const SCRIPT: &str = include_str!("work.js");
/// Hex digits of a signature that are kept: 128 bits.
const MAC_DIGITS: usize = 32;
/// Longest answer that is hashed; the page's are shorter.
const MAX_ANSWER: usize = 16;
/// Longest cookie that is hashed: a time of 20 digits, a difficulty of 3, signature and answer, and dots between.
const MAX_VALUE: usize = 20 + 3 + MAC_DIGITS + MAX_ANSWER + 3;
/// Cookies of a policy's name that are looked at: the page's own, and one that stands before it.
const MAX_COOKIES: usize = 2;
/// What is signed is of this form.
const CONTEXT: &[u8] = b"tidegate challenge 1";

/// What a rule's challenge asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub status: u16,
    pub difficulty: u8,
    pub pass_for: Duration,
}

/// Bytes of a [`ChallengeKey`].
const KEY_BYTES: usize = 32;

/// What tokens are signed with; 64 hex digits in a file. Not shown to anybody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChallengeKey([u8; KEY_BYTES]);

impl ChallengeKey {
    /// From two random words.
    pub(super) fn of_seed(seed: [u64; 2]) -> Self {
        Self(*Digest::of_parts([CONTEXT, &seed[0].to_be_bytes(), &seed[1].to_be_bytes()]).bytes())
    }

    /// As its file has it.
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }
}

impl std::str::FromStr for ChallengeKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = 2 * KEY_BYTES;
        bytes_of_hex(text).map(Self).ok_or_else(|| {
            format!("a key of challenges is {digits} hex digits, such as `openssl rand -hex {KEY_BYTES}` prints")
        })
    }
}

impl std::fmt::Debug for ChallengeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChallengeKey(…)")
    }
}

/// The key that tokens are signed with, and what counts as one source.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    mac: hmac::Key,
    pub key: ChallengeKey,
    ipv6_prefix: u8,
}

/// An answer that sets work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengePage {
    /// HTML.
    pub html: String,
    /// `content-security-policy`: the page's own script and nothing else.
    pub security_policy: HeaderValue,
}

impl Default for Signer {
    fn default() -> Self {
        Self::new(ChallengeKey::of_seed([0; 2]), 64)
    }
}

impl Signer {
    /// `key` is secret and random.
    pub fn new(key: ChallengeKey, ipv6_prefix: u8) -> Self {
        Self { mac: hmac::Key::new(hmac::HMAC_SHA256, &key.0), key, ipv6_prefix }
    }

    /// `issued.difficulty.signature`: `issued` in seconds since 1970.
    fn token(&self, policy: &str, source: IpAddr, difficulty: u8, issued: u64) -> String {
        let mut mac = hmac::Context::with_key(&self.mac);
        let source = match source {
            IpAddr::V4(_) => number(source),
            IpAddr::V6(v6) => v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(self.ipv6_prefix)).unwrap_or(0),
        };
        let parts = [CONTEXT, &source.to_be_bytes(), &issued.to_be_bytes(), &[difficulty], policy.as_bytes()];
        for part in parts {
            mac.update(part);
        }
        let mut signature = to_hex(mac.sign().as_ref());
        signature.truncate(MAC_DIGITS);
        format!("{issued}.{difficulty}.{signature}")
    }

    /// Whether a request brings an answer to the challenge of a policy that still stands.
    pub fn passes(&self, policy: &str, terms: Terms, request: &RequestView<'_>) -> bool {
        let name = cookie(policy);
        let mut own = request.cookies().filter(|(found, _)| *found == name.as_bytes()).take(MAX_COOKIES);
        own.any(|(_, value)| self.answers(policy, terms, request, value))
    }

    fn answers(&self, policy: &str, terms: Terms, request: &RequestView<'_>, value: &[u8]) -> bool {
        if value.len() > MAX_VALUE {
            return false;
        }
        let Ok(value) = std::str::from_utf8(value) else { return false };
        let Some((token, answer)) = value.rsplit_once('.') else { return false };
        let mut parts = token.split('.');
        let (Some(issued), Some(difficulty)) = (parts.next(), parts.next()) else { return false };
        let (Ok(issued), Ok(difficulty)) = (issued.parse::<u64>(), difficulty.parse::<u8>()) else { return false };
        let now = request.wall_ms / 1_000;
        let lasts = issued <= now && now < issued.saturating_add(terms.pass_for.as_secs());
        if !lasts || difficulty < terms.difficulty || answer.len() > MAX_ANSWER {
            return false;
        }
        // Made-up answers mostly end here, before the dearer signature.
        if zero_bits(value) < u32::from(difficulty) {
            return false;
        }
        // The token is not secret to the client that it was made for: comparing it tells nobody anything.
        let wanted = self.token(policy, request.src, difficulty, issued);
        aws_lc_rs::constant_time::verify_slices_are_equal(wanted.as_bytes(), token.as_bytes()).is_ok()
    }

    /// The page for a request. Its cookie goes over TLS only if it came so, and is kept as long as a rule of the policy may
    /// take it.
    pub fn page(
        &self,
        policy: &str,
        terms: Terms,
        keep: Duration,
        source: IpAddr,
        tls: bool,
        wall_ms: u64,
    ) -> ChallengePage {
        let secure = if tls { "; secure" } else { "" };
        let html = PAGE
            .replace("{{token}}", &self.token(policy, source, terms.difficulty, wall_ms / 1_000))
            .replace("{{difficulty}}", &terms.difficulty.to_string())
            .replace("{{cookie}}", &cookie(policy))
            .replace("{{attributes}}", &format!("; path=/; samesite=lax; max-age={}{secure}", keep.as_secs()))
            .replace("{{script}}", SCRIPT);
        ChallengePage { html, security_policy: security_policy() }
    }
}

/// Name of a policy's cookie; ids of policies fit.
fn cookie(policy: &str) -> String {
    format!("tidegate_pass_{policy}")
}

/// Leading zero bits of the hash of a whole answer.
fn zero_bits(value: &str) -> u32 {
    let digest = Digest::of(value.as_bytes());
    digest.bytes().iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)).leading_zeros()
}

/// The script stands between its tags as it is, so that its hash is known (CSP level 2, section 7.15).
fn security_policy() -> HeaderValue {
    let hash = encode_base64(Digest::of(SCRIPT.as_bytes()).bytes());
    let hash = String::from_utf8_lossy(&hash);
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}
