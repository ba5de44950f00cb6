//! The demo in namespaces: good clients, a scanner, the gate between them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Figures, Tale, loopback};
use crate::clients::{Client, Load, Version};
use crate::edge::{Edge, probe_policy, verdict_look_up};
use crate::origin::BODY;
use crate::process::{self, run};
use crate::street::{EDGE_V4, SCANNER_V4, WAN};
use crate::tools;

/// How long the scanner is kept out.
const BAN: Duration = Duration::from_secs(5);
/// How long good clients go on while the scanner is banned and let in again.
const BACKGROUND: &str = "9";
/// Most that any one step may take.
const STEP_TIME: Duration = Duration::from_secs(40);
/// SYNs that the scanner sends while it is banned.
const PROBES: &str = "1000";

/// What `--hold` keeps up.
pub(super) enum Scene {
    /// The namespaces.
    Street(Box<Edge>),
    /// The daemon on loopback.
    Loopback(Box<crate::loopback::Loopback>),
}

impl Scene {
    /// Says how to look around.
    pub(super) fn invite(&self, tale: Tale) {
        match self {
            Self::Street(edge) => {
                let (street, pins, ca) = (&edge.street, edge.pins().display(), edge.authority.pem());
                let socket = edge.dir().join("admin.sock");
                tale.heading("Held up for looking around; Ctrl-C removes everything.");
                for line in [
                    format!(
                        "a good client:  ip netns exec {} curl --cacert {} --connect-to ::{EDGE_V4}: https://edge.test/",
                        street.good.name(),
                        ca.display()
                    ),
                    format!(
                        "the scanner:    ip netns exec {} curl -i --connect-to ::{EDGE_V4}: http://edge.test/.env",
                        street.scanner.name()
                    ),
                    format!("the daemon:     tidegate status --socket {}", socket.display()),
                    format!("the maps:       bpftool map dump pinned {pins}/COUNTERS"),
                    format!("the gate:       ip -n {} link show {WAN}", street.edge.name()),
                    format!("config and logs: {}", edge.dir().display()),
                ] {
                    tale.line(&line);
                }
            }
            Self::Loopback(local) => loopback::invite(local, tale),
        }
    }
}

/// Tells the story; what did not hold is in `figures`.
pub(super) fn tell(tale: Tale, figures: &mut Figures) -> Result<Edge> {
    tale.heading("An edge between clients and an origin, each in a network namespace of its own");
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy(&format!("{}s", BAN.as_secs())))?;
    edge.launch()?;
    let status = edge.ctl(&["status", "--json"])?;
    let mode = status["kernel"]["interfaces"][0]["mode"].as_str().unwrap_or("none");
    mode.clone_into(&mut figures.xdp_mode);
    tale.line(&format!(
        "tidegate {} serves {EDGE_V4}, XDP in {mode} mode on {WAN}",
        status["version"].as_str().unwrap_or("")
    ));
    figures.expect(mode == "driver", || format!("XDP runs in {mode} mode, not driver mode"));

    tale.heading("Good clients over HTTP/1.1, HTTP/2 and HTTP/3");
    crowd(tale, &edge.good(), "https://edge.test/", figures)?;
    figures.connections_per_worker = edge.workers()?.into_iter().map(|(accepted, _)| accepted).collect();
    let spread = figures.connections_per_worker.clone();
    tale.line(&format!("connections accepted by each worker: {spread:?}"));
    figures.expect(!spread.is_empty() && spread.iter().all(|&count| count > 0), || {
        format!("a worker got none: {spread:?}")
    });

    scan(tale, &edge, figures)?;
    Ok(edge)
}

/// Good clients' requests over each version, counted.
pub(super) fn crowd(tale: Tale, good: &Client<'_>, url: &str, figures: &mut Figures) -> Result<()> {
    let loads: [(&str, &[&str]); 2] = [
        ("HTTP/1.1", &["--h1", "-n", "2000", "-c", "40", "-t", "1"]),
        ("HTTP/2", &["-n", "2000", "-c", "40", "-m", "10", "-t", "1"]),
    ];
    let mut counts = [0; 2];
    for ((name, options), count) in loads.into_iter().zip(&mut counts) {
        // A look at one answer first: h2load only counts.
        let version = if name == "HTTP/2" { Version::H2 } else { Version::H1 };
        good.expect_origin(version, url)?;
        let report = run(&mut good.h2load(url, options)?, STEP_TIME)?.ok().context("h2load")?;
        let load = Load::parse(&report)?;
        *count = load.succeeded;
        figures.good_failures += load.failed;
        tale.line(&format!(
            "{name}: {} requests on 40 connections answered, {} failed (curl, h2load)",
            load.succeeded, load.failed
        ));
    }
    let answers = good.h3(url, &["--connections", "20", "--count", "10", "--parallel", "5"])?;
    let good_answers = answers.iter().filter(|answer| answer.status == Some(200) && answer.text == BODY).count() as u64;
    let failed = answers.len() as u64 - good_answers;
    figures.good_failures += failed;
    tale.line(&format!("HTTP/3: {good_answers} requests on 20 connections answered, {failed} failed (aioquic)"));
    figures.requests.h1 += counts[0];
    figures.requests.h2 += counts[1];
    figures.requests.h3 += good_answers;
    let all = figures.requests;
    figures.expect(all.h1 > 0 && all.h2 > 0 && all.h3 > 0, || format!("a protocol was not served: {all:?}"));
    Ok(())
}

/// The scanner's part, with good clients going on beside it.
fn scan(tale: Tale, edge: &Edge, figures: &mut Figures) -> Result<()> {
    tale.heading("A scanner asks for /.env, while good clients go on");
    let mut background =
        edge.good().h2load("https://edge.test/", &["-D", BACKGROUND, "-c", "4", "-t", "1", "--rps", "50"])?;
    let background = background.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // It gets its connections before anyone is banned.
    std::thread::sleep(Duration::from_millis(300));

    let dropped_before = edge.packets("verdict")?;
    edge.scanner().expect_origin(Version::H1, "http://edge.test/")?;
    let decided = Instant::now();
    let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
    figures.scanner_status = answer.status;
    let status = answer.status;
    tale.line(&format!(
        "answered {status} by policy probes, rule env; a verdict for {} s went into the kernel",
        BAN.as_secs()
    ));
    figures.expect(status == 403, || format!("the probe was answered {status}, not 403"));

    let mut hping = edge.scanner().command(tools::find("hping3")?)?;
    // It counts what comes back: nothing, so that it ends with a failure.
    run(hping.args(["-q", "-S", "-p", "443", "-i", "u500", "-c", PROBES, EDGE_V4]), STEP_TIME)?;
    let verdict = edge.verdict(SCANNER_V4)?;
    let standing = verdict.clone().unwrap_or(Value::Null);
    figures.expect(verdict.is_some(), || "no verdict stood after the 403".to_owned());
    figures.decision_to_drop_us = standing["first_drop_us"].as_u64();
    if let Some(us) = figures.decision_to_drop_us {
        tale.line(&format!("first packet dropped in XDP {us} µs after the worker's decision"));
    }
    let seen = figures.decision_to_drop_us;
    figures.expect(seen.is_some(), || format!("no packet was dropped: {standing}"));

    tale.heading("The same, seen by bpftool");
    let slot = standing["slot"].as_u64().unwrap_or_default();
    let net = ["net", "show", "dev", WAN].map(str::to_owned).to_vec();
    for (words, lines) in [(verdict_look_up(edge.pins(), slot)?, 22), (net, 2)] {
        let output = edge.bpftool(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        tale.command(&format!("bpftool {}", words.join(" ")), &output, lines);
        if words[0] == "map" {
            figures.expect(output.contains("\"expires_ns\""), || "bpftool prints no named fields".to_owned());
        }
    }

    tale.heading("The verdict expires");
    let again = process::eventually("readmission", BAN * 2, || {
        edge.scanner().get(Version::H1, "http://edge.test/", &["--connect-timeout", "0.5"])
    });
    let kept_out = decided.elapsed();
    figures.readmitted = Some(again.as_ref().is_ok_and(|answer| answer.status == 200) && kept_out >= BAN);
    figures.dropped_packets = edge.packets("verdict")? - dropped_before;
    tale.line(&format!("{} packets were dropped", figures.dropped_packets));
    match &again {
        Ok(answer) => {
            tale.line(&format!(
                "after {:.1} s the scanner is answered {} again",
                kept_out.as_secs_f64(),
                answer.status
            ));
        }
        Err(error) => figures.failures.push(format!("{error:#}")),
    }
    let (dropped, readmitted) = (figures.dropped_packets, figures.readmitted);
    figures.expect(dropped > 0, || "no packet was counted as dropped".to_owned());
    figures.expect(readmitted == Some(true), || format!("let in again after {kept_out:?}, the ban was {BAN:?}"));

    let report = background.wait_with_output()?;
    let load = Load::parse(&String::from_utf8_lossy(&report.stdout))?;
    figures.requests.h2 += load.succeeded;
    figures.good_failures += load.failed;
    tale.line(&format!("good clients meanwhile: {} requests answered, {} failed", load.succeeded, load.failed));
    let failures = figures.good_failures;
    figures.expect(failures == 0 && load.succeeded > 0, || format!("{failures} requests of good clients failed"));
    Ok(())
}
