//! `slowhttptest` in its modes: hundreds of clients that send or read as slowly as they can, while a good client goes on and is
//! answered each time. What they do is named in the daemon's log, where it is an abuse.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::{Line, Outcome};
use crate::clients::Version;
use crate::edge::SITE;
use crate::loopback::{ADDRESS, Loopback};
use crate::process::{Finished, eventually, run};
use crate::tools;

/// Slow clients, how many come a second, seconds of a mode, and seconds that the suite's own probe waits.
const CLIENTS: [&str; 8] = ["-c", "400", "-r", "200", "-l", "12", "-p", "10"];
/// How long a mode may take.
const MODE_TIME: Duration = Duration::from_secs(90);
/// Longest answer of the good client.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Pause between two of its requests.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of what is read slowly: more than sockets hold.
const LARGE: usize = 16 << 20;

/// A mode: its name, its options, what is asked for, and what the log calls it.
const MODES: [(&str, &[&str], &str, Option<&str>); 4] = [
    ("slow headers", &["-H", "-i", "1", "-x", "24"], "/", Some("slow_header")),
    ("slow bodies", &["-B", "-i", "3", "-s", "8192", "-x", "10"], "/app", Some("slow_body")),
    ("ranges", &["-R", "-a", "1", "-b", "3000"], "/large", None),
    ("slow reading", &["-X", "-w", "512", "-y", "1024", "-n", "4", "-z", "32", "-k", "1"], "/large", Some("slow_read")),
];

/// Runs all modes.
pub fn run_all() -> Result<Vec<Line>> {
    let edge = Loopback::start(|config, dir| {
        std::fs::create_dir(dir.join("www"))?;
        std::fs::write(dir.join("www/large"), vec![b'x'; LARGE])?;
        config["routes"] = json!([
            { "path": "=/large", "files": { "root": "www" } },
            // It waits for the whole body; nginx answers before.
            { "path": "/app", "upstream": "app" },
            { "path": "/", "upstream": "nginx" },
        ]);
        config["timeouts"] = json!({ "header": "3s", "body": "2s", "send": "2s" });
        Ok(())
    })?;
    Ok(MODES
        .iter()
        .map(|(name, options, path, kind)| Line {
            case: (*name).to_owned(),
            outcome: match mode(&edge, options, path, *kind) {
                Ok(()) => Outcome::Passed,
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
        })
        .collect())
}

fn mode(edge: &Loopback, options: &[&str], path: &str, kind: Option<&str>) -> Result<()> {
    let before = edge.daemon().log().len();
    let mut command = Command::new(tools::find("slowhttptest")?);
    command.args(options).args(CLIENTS).args(["-u", &format!("http://{ADDRESS}:{}{path}", edge.http)]);
    let done = AtomicBool::new(false);
    let (suite, good) = std::thread::scope(|scope| {
        let good = scope.spawn(|| good(edge, &done));
        let suite = run(&mut command, MODE_TIME);
        done.store(true, Ordering::Relaxed);
        (suite, good.join())
    });
    let answers = good.map_err(|_| anyhow::anyhow!("the good client panicked"))?.context("the good client")?;
    ensure!(answers > 0, "the good client asked nothing");
    let Finished { status, stdout, stderr } = suite?;
    let words = plain(&(stdout + &stderr));
    ensure!(status.success(), "slowhttptest ended with {status}: {words}");
    if words.contains("available:NO") {
        bail!("slowhttptest found the server gone");
    }
    let Some(kind) = kind else { return Ok(()) };
    eventually("a line of the log", ANSWER_TIME, || {
        let log = edge.daemon().log();
        let found = log.get(before..).is_some_and(|log| log.contains(&format!("\"kind\":\"{kind}\"")));
        ensure!(found, "the log names no {kind}");
        Ok(())
    })
}

/// Asks until it is over; how often.
fn good(edge: &Loopback, done: &AtomicBool) -> Result<u64> {
    let client = edge.client();
    let mut answers = 0;
    while !done.load(Ordering::Relaxed) {
        let version = if answers % 2 == 0 { Version::H1 } else { Version::H2 };
        let begun = Instant::now();
        client.expect_origin(version, &format!("https://{SITE}:{}/", edge.https))?;
        ensure!(begun.elapsed() < ANSWER_TIME, "an answer took {:?}", begun.elapsed());
        answers += 1;
        std::thread::sleep(PAUSE);
    }
    Ok(answers)
}

/// Without the escape sequences of a terminal and without spaces.
fn plain(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    let whole = parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest));
    whole.replace(' ', "")
}
