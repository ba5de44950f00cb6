//! `bench reload`: a hundred reloads, each of which changes something, while clients ask over HTTP/1.1, 2 and 3 and a WebSocket
//! stays open. No request may fail, and no message be lost.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::clients::Load;
use crate::edge::SITE;
use crate::loopback::{ADDRESS, Loopback};
use crate::process::run;
use crate::tools;

/// How often.
const RELOADS: u32 = 100;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(100);
/// The certificate is another one after so many.
const CERTIFICATE_EVERY: u32 = 10;
/// One run of a client, which the next one follows: new connections each time.
const ROUND: [&str; 8] = ["-n", "600", "-c", "6", "-t", "1", "--rps", "40"];
/// The same over HTTP/3.
const H3_ROUND: [&str; 4] = ["--connections", "3", "--count", "100"];
/// How long one run may take.
const ROUND_TIME: Duration = Duration::from_secs(120);
/// Host of the WebSocket.
const SOCKET_SITE: &str = "first.test";

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Reloads that were taken.
    pub reloads: u32,
    /// Seconds that they took in all.
    pub seconds: f64,
    /// Longest, in milliseconds.
    pub longest_ms: f64,
    /// Requests over HTTP/1.1, 2 and 3: answered, and failed.
    pub requests: [Counted; 3],
    /// Messages that came back over one WebSocket.
    pub messages: u64,
    /// Whether nothing failed.
    pub ok: bool,
}

/// Requests.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counted {
    /// Answered as they should be.
    pub answered: u64,
    /// Not.
    pub failed: u64,
}

impl Counted {
    fn add(&mut self, answered: u64, failed: u64) {
        self.answered += answered;
        self.failed += failed;
    }
}

/// Runs it; `say` is told of progress.
pub fn run_all(mut say: impl FnMut(&str)) -> Result<Report> {
    let sockets = Sockets::start()?;
    let mut edge = Loopback::start(|config, dir| {
        config["routes"] = json!([
            { "hosts": [SITE], "upstream": "nginx" },
            { "hosts": [SOCKET_SITE], "upstream": "sockets" },
        ]);
        config["upstreams"]["sockets"] = json!({ "servers": [format!("http://{ADDRESS}:{}", sockets.port)] });
        config["policies"] = json!(["policy.json"]);
        Ok(std::fs::write(dir.join("policy.json"), policy(0).to_string())?)
    })?;
    let mut socket = Socket::open(edge.http)?;
    let client = edge.client();
    let url = format!("https://{SITE}:{}/", edge.https);
    let done = AtomicBool::new(false);
    let until_done = |round: &dyn Fn(&mut Counted) -> Result<()>| -> Result<Counted> {
        let mut counted = Counted::default();
        while !done.load(Ordering::Relaxed) {
            round(&mut counted)?;
        }
        Ok(counted)
    };
    let by_h2load = |more: &'static [&'static str]| {
        let all: Vec<&str> = ROUND.iter().chain(more).copied().collect();
        until_done(&|counted| {
            let load = Load::parse(&run(&mut client.h2load(&url, &all)?, ROUND_TIME)?.stdout)?;
            counted.add(load.succeeded, load.failed);
            Ok(())
        })
    };
    let by_h3 = || {
        until_done(&|counted| {
            let answers = client.h3(&url, &H3_ROUND)?;
            let answered = answers.iter().filter(|answer| answer.status == Some(200) && answer.error.is_none()).count();
            counted.add(answered as u64, (answers.len() - answered) as u64);
            Ok(())
        })
    };
    std::thread::scope(|scope| {
        let loads = [scope.spawn(|| by_h2load(&["--h1"])), scope.spawn(|| by_h2load(&[])), scope.spawn(by_h3)];
        let talk = scope.spawn(|| -> Result<u64> {
            let mut messages = 0;
            while !done.load(Ordering::Relaxed) {
                socket.echo(messages).with_context(|| format!("the WebSocket ended after {messages} messages"))?;
                messages += 1;
                std::thread::sleep(PAUSE / 4);
            }
            Ok(messages)
        });
        let taken = reloads(&mut edge, &mut say);
        done.store(true, Ordering::Relaxed);
        let mut requests = [Counted::default(); 3];
        for (place, load) in requests.iter_mut().zip(loads) {
            *place = load.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        let messages = talk.join().map_err(|_| anyhow::anyhow!("the WebSocket's client panicked"))??;
        let (seconds, longest_ms) = taken?;
        let ok = messages > 0 && requests.iter().all(|counted| counted.failed == 0 && counted.answered > 0);
        Ok(Report { reloads: RELOADS, seconds, longest_ms, requests, messages, ok })
    })
}

/// Reloads so often; seconds in all, and milliseconds of the longest.
fn reloads(edge: &mut Loopback, say: &mut impl FnMut(&str)) -> Result<(f64, f64)> {
    let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
    for number in 1..=RELOADS {
        std::fs::write(edge.dir().join("policy.json"), policy(number).to_string())?;
        if number.is_multiple_of(CERTIFICATE_EVERY) {
            edge.authority().leaf("edge", &[SITE], (number / CERTIFICATE_EVERY + 1) as u8)?;
            say(&format!("reload {number} of {RELOADS}"));
        }
        let begun = Instant::now();
        edge.reload(|config| {
            // A header field, another way to choose servers with its pools, and a route more or less.
            config["routes"][0]["response_headers"] = json!({ "set": { "x-round": number.to_string() } });
            let prefer = ["round_robin", "least_requests", "peak_ewma"][number as usize % 3];
            config["upstreams"]["nginx"]["balance"] = json!({ "prefer": prefer });
            if let Some(routes) = config["routes"].as_array_mut() {
                routes.truncate(2);
                if number % 2 == 0 {
                    routes.push(json!({ "path": "=/health", "respond": { "body": "fine" } }));
                }
            }
        })
        .with_context(|| format!("reload {number}"))?;
        all += begun.elapsed();
        longest = longest.max(begun.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok((all.as_secs_f64(), longest.as_secs_f64() * 1e3))
}

/// A policy that answers nobody here.
fn policy(revision: u32) -> Value {
    json!({
        "schema": "tidegate.policy/v1", "id": "bench", "revision": revision + 1,
        "rules": [{ "id": "none", "when": format!("http.request.uri.path eq \"/{revision}\""), "action": { "type": "block" } }],
    })
}

/// The origin of the WebSocket.
struct Sockets {
    child: Child,
    port: u16,
}

impl Sockets {
    fn start() -> Result<Self> {
        let mut command = Command::new(tools::python()?);
        command.arg(tools::client("ws.py")).arg("origin").stdin(Stdio::null()).stdout(Stdio::piped());
        // It complains of the client that is killed in the end.
        command.stderr(Stdio::null());
        let mut child = guarded(command)?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        Ok(Self { child, port: line.trim().parse().context("the origin of the WebSocket told no port")? })
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// One WebSocket that stays open.
struct Socket {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Socket {
    fn open(port: u16) -> Result<Self> {
        let mut command = Command::new(tools::python()?);
        command.arg(tools::client("ws.py")).args(["hold", &format!("{ADDRESS}:{port}")]);
        let mut child = guarded(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut this = Self { child, output };
        ensure!(this.line()? == "open", "the WebSocket did not open");
        Ok(this)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "it said no more");
        Ok(line.trim_end().to_owned())
    }

    fn echo(&mut self, number: u64) -> Result<()> {
        writeln!(self.child.stdin.as_mut().context("no input")?, "{number}")?;
        let answer = self.line()?;
        ensure!(answer == number.to_string(), "{number} came back as {answer}");
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Starts a program that does not outlive this one: its input ends with it, or the ward ends it.
fn guarded(mut command: impl std::borrow::BorrowMut<Command>) -> Result<Child> {
    let child = command.borrow_mut().process_group(0).spawn().context("could not start a client")?;
    if let Some(item) = crate::ward::Item::group(child.id()) {
        crate::ward::guard(item);
    }
    Ok(child)
}

fn end(child: &mut Child) {
    if let Some(item) = crate::ward::Item::group(child.id()) {
        let _ = crate::ward::release(item);
    }
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// The report for people.
pub fn table(report: &Report) -> String {
    let mut text = format!(
        "{} reloads took {:.1} ms on average, {:.0} ms at most\n\n{:<10} {:>9} {:>7}\n",
        report.reloads,
        report.seconds * 1e3 / f64::from(report.reloads),
        report.longest_ms,
        "",
        "answered",
        "failed"
    );
    // Writing to a string does not fail.
    for (name, Counted { answered, failed }) in ["HTTP/1.1", "HTTP/2", "HTTP/3"].iter().zip(report.requests) {
        let _ = writeln!(text, "{name:<10} {answered:>9} {failed:>7}");
    }
    let _ = writeln!(text, "{:<10} {:>9}         messages over one connection", "WebSocket", report.messages);
    text
}
