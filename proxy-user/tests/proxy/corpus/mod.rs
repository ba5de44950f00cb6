//! Requests that smuggle, or that HTTP forbids, over HTTP/1, 2 and 3 before an HTTP/1 origin that keeps every byte it was sent.
//! `requests.json` holds them, one an entry: nothing of what is refused reaches the origin, and what passes reaches it in one
//! reading only. In texts `{70000}` stands for so many letters, and each character for the byte of its number.

pub mod frames;
mod recorder;

use std::io::Write as _;
use std::time::Duration;

use serde::Deserialize;

use crate::edge::{Client, Edge, wait_for};
use recorder::Recorder;

/// The corpus.
const REQUESTS: &str = include_str!("requests.json");
/// Entries that it has at least.
const LEAST: usize = 80;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    protocol: Protocol,
    /// Number and section, for whoever reads the corpus.
    #[allow(dead_code, reason = "told by the derived Debug, where a case fails")]
    rfc: String,
    /// HTTP/1: the bytes.
    #[serde(default)]
    send: String,
    /// HTTP/2 and 3: the fields, pseudo-header fields first unless that is the case.
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// HTTP/2 and 3: pieces of the body.
    #[serde(default)]
    data: Vec<String>,
    /// HTTP/2 and 3: behind the body.
    #[serde(default)]
    trailers: Vec<(String, String)>,
    expect: Expect,
    /// What stands in what the origin is sent, whatever the case of its letters.
    #[serde(default)]
    sees: Vec<String>,
    /// What does not.
    #[serde(default)]
    hides: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    H1,
    H2,
    H3,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    /// This status, and nothing reaches the origin.
    #[serde(rename = "400")]
    S400,
    #[serde(rename = "431")]
    S431,
    #[serde(rename = "501")]
    S501,
    /// The connection ends without a status, and nothing reaches the origin.
    End,
    /// An error of the stream or of the connection, and nothing reaches the origin.
    Reset,
    /// A status from 400 on, or an error, and nothing reaches the origin.
    Refused,
    /// What is wrong comes behind the header: the origin is never sent a whole request, or nothing at all.
    Cut,
    /// It is answered 200.
    Pass,
    /// Whatever becomes of it, the origin does not see what is hidden.
    Unseen,
}

/// What the client was told: a status, or 0 for an error.
type Told = u16;

impl Entry {
    /// The text with what stands for many letters.
    fn expanded(text: &str) -> Vec<u8> {
        text.replace("{70000}", &"x".repeat(70_000)).chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
    }

    fn fields(fields: &[(String, String)], scheme: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let value = |value: &str| if value == "$scheme" { scheme.into() } else { Self::expanded(value) };
        fields.iter().map(|(name, text)| (Self::expanded(name), value(text))).collect()
    }

    fn data(&self) -> Vec<Vec<u8>> {
        self.data.iter().map(|piece| Self::expanded(piece)).collect()
    }

    /// Whether this is what should be told.
    fn right(&self, told: Told) -> bool {
        match self.expect {
            Expect::S400 => told == 400,
            Expect::S431 => told == 431,
            Expect::S501 => told == 501,
            Expect::End | Expect::Reset => told == 0,
            Expect::Refused => told == 0 || told >= 400,
            // The origin answers whole requests only: a 200 would say that it was sent one.
            Expect::Cut => told != 200,
            Expect::Pass => told == 200,
            Expect::Unseen => true,
        }
    }

    /// What is wrong with what the origin was sent.
    fn wrong(&self, sent: &[Vec<u8>]) -> Option<String> {
        let text = sent.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect::<Vec<_>>().join("\n---\n");
        let lower = text.to_lowercase();
        if let Some(hidden) = self.hides.iter().find(|hidden| lower.contains(&hidden.to_lowercase())) {
            return Some(format!("the origin saw {hidden:?}"));
        }
        match self.expect {
            Expect::Pass => {
                let missing = self.sees.iter().find(|seen| !lower.contains(&seen.to_lowercase()));
                if let Some(missing) = missing {
                    return Some(format!("the origin did not see {missing:?}"));
                }
                if sent.len() != 1 {
                    return Some("the origin was not sent exactly one request".to_owned());
                }
                sent.iter().find_map(|bytes| recorder::ambiguous(bytes))
            }
            Expect::Unseen => sent.iter().find_map(|bytes| recorder::ambiguous(bytes)),
            Expect::Cut => sent
                .iter()
                .any(|bytes| recorder::is_whole(bytes))
                .then(|| "the origin was sent a whole request".to_owned()),
            _ => (!sent.is_empty()).then(|| "something reached the origin".to_owned()),
        }
    }
}

/// Sends an HTTP/1 request; what was told.
fn over_h1(edge: &Edge, entry: &Entry) -> Told {
    let mut client = Client::connect(edge.http);
    // Long ones may be refused before their end is sent.
    let _ = client.stream.write_all(&Entry::expanded(&entry.send));
    let head = client.head();
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn what_is_refused_reaches_no_origin() {
    let entries: Vec<Entry> = serde_json::from_str(REQUESTS).unwrap();
    assert!(entries.len() >= LEAST);
    let recorder = Recorder::start();
    let edge = Edge::start(recorder.address, |config| {
        // Some never bring what they announce.
        config["timeouts"] = serde_json::json!({ "header": "3s", "body": "3s" });
    });
    let mut faults = Vec::new();
    let mut mark = 0;
    for (number, entry) in entries.iter().enumerate() {
        let told = match entry.protocol {
            Protocol::H1 => over_h1(&edge, entry),
            Protocol::H2 => frames::over_h2(
                edge.http,
                &Entry::fields(&entry.headers, "http"),
                &entry.data(),
                &Entry::fields(&entry.trailers, ""),
            ),
            Protocol::H3 => {
                let (headers, trailers) = (Entry::fields(&entry.headers, "https"), Entry::fields(&entry.trailers, ""));
                frames::over_h3(&edge, &headers, &entry.data(), &trailers).await
            }
        };
        // A good request behind it: what was sent for the one before has come by then.
        let good = format!("/good-{number}");
        assert_eq!(edge.get(&good).status, 200, "after {entry:?}");
        let sent = wait_for("the good request at the origin", || {
            let sent = recorder.since(mark);
            let there = sent.iter().any(|bytes| bytes.starts_with(format!("GET {good} ").as_bytes()));
            if there { Ok(sent) } else { Err(format!("{sent:?}")) }
        });
        mark += sent.len();
        let sent: Vec<Vec<u8>> = sent.into_iter().filter(|bytes| !bytes.starts_with(b"GET /good-")).collect();
        let wrong = entry.wrong(&sent);
        if !entry.right(told) || wrong.is_some() {
            let mut shown = format!("{entry:?}");
            shown.truncate(400);
            let sent: String = sent.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
            faults.push(format!(
                "{:?} {}: told {told}, {}\n    {shown}\n    origin: {:?}",
                entry.protocol,
                entry.name,
                wrong.unwrap_or_default(),
                sent.get(..300).unwrap_or(&sent)
            ));
        }
    }
    assert!(faults.is_empty(), "{} of {} are wrong:\n{}", faults.len(), entries.len(), faults.join("\n"));
}
