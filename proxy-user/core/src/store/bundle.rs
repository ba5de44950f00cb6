//! Policies with a signature: texts and a revision that only grows, signed with Ed25519 (RFC 8032) as one string of bytes,
//! so that no byte of it can be another. Makes and checks; keys are arguments, and so is their randomness.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::Texts;
use crate::digest::{Digest, bytes_of_hex};
use crate::explain::to_hex;

/// Format of a bundle.
pub const BUNDLE_SCHEMA: &str = "tidegate.bundle/v1";
/// Bytes of a secret key's seed and of a public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;

/// An Ed25519 public key; text is 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = bytes_of_hex(text).map(Self);
        bytes.ok_or_else(|| {
            format!("`{text:.80}` is not a public key of 64 hex digits, as `tidegate policy keygen` prints it")
        })
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for PublicKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PublicKey".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" })
    }
}

/// A key that signs. Its text, for a file that only its owner reads, is the seed in hex.
pub struct SecretKey {
    seed: [u8; KEY_BYTES],
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret key of {}", self.public())
    }
}

impl SecretKey {
    /// From 32 random bytes.
    ///
    /// # Errors
    /// The library refuses the seed.
    pub fn new(seed: [u8; KEY_BYTES]) -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| "this seed gives no key".to_owned())?;
        Ok(Self { seed, pair })
    }

    /// From its text.
    ///
    /// # Errors
    /// It is no key; the text is not repeated.
    pub fn read(text: &str) -> Result<Self, String> {
        let seed = bytes_of_hex(text.trim());
        Self::new(seed.ok_or("this is no secret key, as `tidegate policy keygen` writes one: 64 hex digits")?)
    }

    /// Its text.
    pub fn text(&self) -> String {
        to_hex(&self.seed)
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; KEY_BYTES];
        key.iter_mut().zip(self.pair.public_key().as_ref()).for_each(|(to, from)| *to = *from);
        PublicKey(key)
    }
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// Grows with each bundle: an older one is refused where a newer one was in force.
    pub revision: u64,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// The policies.
    pub policies: Texts,
}

/// A bundle as a file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    schema: String,
    /// The key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PublicKey>,
    /// Of the format's name, a line end and the payload, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    /// A [`Payload`], as JSON in a string.
    payload: String,
}

/// What identifies a bundle among those of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// [`Payload::revision`].
    pub revision: u64,
    /// Of the payload.
    pub digest: Digest,
}

impl Bundle {
    /// A bundle that nobody has signed yet.
    pub fn new(payload: &Payload) -> Self {
        let payload = serde_json::to_string(payload).unwrap_or_default();
        Self { schema: BUNDLE_SCHEMA.to_owned(), key: None, signature: None, payload }
    }

    /// Reads a file's text; None where it is no bundle at all.
    pub fn read(text: &str) -> Option<Result<Self, String>> {
        /// What tells a bundle from other JSON.
        #[derive(Deserialize)]
        struct Named {
            schema: String,
        }
        // The word is searched for first: policies need not be read twice.
        let named = text.contains("tidegate.bundle/").then(|| serde_json::from_str::<Named>(text).ok()).flatten()?;
        if !named.schema.starts_with("tidegate.bundle/") {
            return None;
        }
        if named.schema != BUNDLE_SCHEMA {
            return Some(Err(format!("a bundle of format `{}`; this version reads `{BUNDLE_SCHEMA}`", named.schema)));
        }
        Some(serde_json::from_str(text).map_err(|error| format!("not a bundle as it was written: {error}")))
    }

    /// The file's text.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// What it holds, whoever signed it.
    ///
    /// # Errors
    /// It holds something else.
    pub fn payload(&self) -> Result<Payload, String> {
        serde_json::from_str(&self.payload)
            .map_err(|error| format!("the bundle's payload is not what is expected: {error}"))
    }

    /// What identifies it.
    ///
    /// # Errors
    /// As [`Self::payload`].
    pub fn mark(&self) -> Result<Mark, String> {
        Ok(Mark { revision: self.payload()?.revision, digest: Digest::of(self.payload.as_bytes()) })
    }

    /// Signs it, in place of a signature that it has.
    pub fn sign(&mut self, key: &SecretKey) {
        self.key = Some(key.public());
        self.signature = Some(to_hex(key.pair.sign(&self.signed()).as_ref()));
    }

    /// Checks the signature against keys that are trusted; tells whose it is, none where nobody signed.
    ///
    /// # Errors
    /// There is a signature, and it is not by a trusted key, or of something else.
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<Option<PublicKey>, String> {
        let (key, signature) = match (self.key, &self.signature) {
            (None, None) => return Ok(None),
            (Some(key), Some(signature)) => (key, signature),
            _ => return Err("the bundle has a key or a signature, and not both".to_owned()),
        };
        if !trusted.contains(&key) {
            return Err(format!(
                "signed by {key}, which is not among the trusted keys; `trusted_keys` in the config names them"
            ));
        }
        let signature: [u8; SIGNATURE_BYTES] =
            bytes_of_hex(signature).ok_or("the signature is not 128 hex digits: the bundle was altered")?;
        let good = UnparsedPublicKey::new(&ED25519, key.0).verify(&self.signed(), &signature);
        good.map_err(|_| format!("the signature of {key} does not fit: the bundle was altered after it was signed"))?;
        Ok(Some(key))
    }

    fn signed(&self) -> Vec<u8> {
        [BUNDLE_SCHEMA.as_bytes(), b"\n", self.payload.as_bytes()].concat()
    }
}

/// Whether a bundle may come into force where `before` was the newest that ever was.
///
/// # Errors
/// It is older, or another one of the same number.
pub fn follows(before: Option<Mark>, bundle: Mark) -> Result<(), String> {
    match before {
        Some(before) if bundle.revision < before.revision => Err(format!(
            "the bundle has revision {}, and {} was in force already: an older bundle is not taken again; \
             `tidegate policy rollback` goes back to what is kept",
            bundle.revision, before.revision
        )),
        Some(before) if bundle.revision == before.revision && bundle.digest != before.digest => Err(format!(
            "another bundle with revision {} was in force already: give the new one a higher number",
            bundle.revision
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(revision: u64) -> Payload {
        let policies = Texts { files: vec![("p.json".to_owned(), "{\"id\": \"p\"}".to_owned())], lists: Vec::new() };
        Payload { revision, created: jiff::Timestamp::UNIX_EPOCH, policies }
    }

    fn key(seed: u8) -> SecretKey {
        SecretKey::new([seed; KEY_BYTES]).expect("a key")
    }

    fn signed(revision: u64, by: &SecretKey) -> Bundle {
        let mut bundle = Bundle::new(&payload(revision));
        bundle.sign(by);
        bundle
    }

    /// RFC 8032 section 7.1, test 1.
    #[test]
    fn the_published_key_pair() {
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let key = SecretKey::read(&format!("{secret}\n")).expect("a key");
        assert_eq!(key.public().to_string(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(key.text(), secret);
        assert!(!format!("{key:?}").contains(secret));
        assert!(SecretKey::read("secret").is_err_and(|error| !error.contains("`secret`")));
    }

    #[test]
    fn what_was_signed_is_taken_and_nothing_else() {
        let (mine, other) = (key(1), key(2));
        let bundle = signed(7, &mine);
        let again = Bundle::read(&bundle.text()).expect("a bundle").expect("sound");
        assert_eq!(again.verify(&[other.public(), mine.public()]), Ok(Some(mine.public())));
        assert_eq!(again.payload(), Ok(payload(7)));
        let refused = |bundle: &Bundle| bundle.verify(&[mine.public()]).expect_err("refused");
        assert!(again.verify(&[]).is_err_and(|e| e.contains("not among the trusted keys")));
        assert!(refused(&signed(7, &other)).contains("not among the trusted keys"));
        let mut altered = bundle.clone();
        altered.payload = altered.payload.replace("\"revision\":7", "\"revision\":8");
        assert!(refused(&altered).contains("was altered"));
        let mut claimed = signed(7, &other);
        claimed.key = Some(mine.public());
        assert!(refused(&claimed).contains("was altered"));
        let mut cut = bundle.clone();
        cut.signature = cut.signature.map(|s| s[2..].to_owned());
        assert!(refused(&cut).contains("128 hex digits"));
        let mut half = bundle;
        half.signature = None;
        assert!(refused(&half).contains("not both"));
        assert_eq!(Bundle::new(&payload(7)).verify(&[mine.public()]), Ok(None));
    }

    #[test]
    fn other_files_are_told_apart() {
        assert!(Bundle::read("{\"schema\":\"tidegate.policy/v1\"}").is_none());
        assert!(Bundle::read("{\"schema\":\"tidegate.policy/v1\",\"x\":\"tidegate.bundle/v1\"}").is_none());
        assert!(Bundle::read("tidegate.bundle/v1").is_none());
        let wrong = |text: &str| Bundle::read(text).expect("a bundle").expect_err("unsound");
        assert!(wrong("{\"schema\":\"tidegate.bundle/v2\"}").contains("tidegate.bundle/v1"));
        assert!(wrong("{\"schema\":\"tidegate.bundle/v1\"}").contains("payload"));
        let no_payload = Bundle { payload: "{}".to_owned(), ..Bundle::new(&payload(1)) };
        assert!(no_payload.payload().is_err() && no_payload.mark().is_err());
    }

    #[test]
    fn revisions_only_grow() {
        let mark = |revision: u64, text: &[u8]| Mark { revision, digest: Digest::of(text) };
        assert_eq!(follows(None, mark(1, b"a")), Ok(()));
        assert_eq!(follows(Some(mark(3, b"a")), mark(3, b"a")), Ok(()));
        assert_eq!(follows(Some(mark(3, b"a")), mark(4, b"b")), Ok(()));
        assert!(follows(Some(mark(3, b"a")), mark(2, b"b")).is_err_and(|e| e.contains("older bundle")));
        assert!(follows(Some(mark(3, b"a")), mark(3, b"b")).is_err_and(|e| e.contains("higher number")));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            let _ = Bundle::read(&text);
            let _ = Bundle::read(&format!("{{\"schema\":\"tidegate.bundle/v1\",\"payload\":{text:?}}}")).map(|b| b.map(|b| b.mark()));
        }

        #[test]
        fn no_byte_can_be_changed(at in 0_usize..2000, by in 1_u8..128) {
            let signer = key(1);
            let mut bytes = signed(7, &signer).text().into_bytes();
            let at = at % bytes.len();
            bytes[at] = (bytes[at] ^ by) & 0x7f;
            if let Ok(text) = String::from_utf8(bytes)
                && let Some(Ok(bundle)) = Bundle::read(&text)
                && let Ok(Some(_)) = bundle.verify(&[signer.public()])
            {
                // Blanks between the keys, and the case of hex digits, say nothing.
                proptest::prop_assert_eq!(bundle.payload(), Ok(payload(7)));
            }
        }
    }
}
