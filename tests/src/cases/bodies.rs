//! Bodies as they come: large ones both ways, pieces at once, trailers, and the bound.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::clients::{Client, Version};
use crate::edge::Edge;
use crate::process::run;
use crate::street::EDGE_V4;
use crate::tools;

pub const CASES: &[Case] = &[
    Case { name: "large_uploads_arrive_whole", run: large_uploads_arrive_whole },
    Case { name: "large_downloads_arrive_whole", run: large_downloads_arrive_whole },
    Case { name: "pieces_are_passed_on_at_once", run: pieces_are_passed_on_at_once },
    Case { name: "trailers_are_kept", run: trailers_are_kept },
    Case { name: "body_limit", run: body_limit },
];

/// Bytes of a large body over HTTP/1.1 and 2.
const LARGE: usize = 64 << 20;
/// Bytes of a large body over HTTP/3: the Python client is slow.
const LARGE_H3: usize = 8 << 20;

/// SHA-256 of a file, by coreutils.
fn sha256(file: &std::path::Path) -> Result<String> {
    let output = run(Command::new("sha256sum").arg(file), Duration::from_secs(30))?.ok()?;
    output.split(' ').next().map(str::to_owned).context("sha256sum")
}

/// The bytes that `tests/clients` send and expect.
pub(super) fn pattern(bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(bytes).collect()
}

fn large_uploads_arrive_whole() -> Result<()> {
    let edge = Edge::start()?;
    let file = edge.dir().join("upload");
    std::fs::write(&file, pattern(LARGE))?;
    let expected = json!({ "bytes": LARGE, "sha256": sha256(&file)?, "trailers": {} });
    let path = file.to_string_lossy();
    for version in [Version::H1, Version::H2] {
        for more in [&["-T", &path, "-X", "POST"][..], &["-T", &path, "-X", "POST", "-H", "Transfer-Encoding: chunked"]]
        {
            if version == Version::H2 && more.len() > 4 {
                continue;
            }
            let answer = edge.good().get(version, "https://edge.test/app/digest", more)?;
            let seen: Value = serde_json::from_str(&answer.body).with_context(|| format!("{answer:?}"))?;
            ensure!(answer.status == 200 && seen == expected, "{version:?}: {seen}, not {expected}");
        }
    }
    std::fs::write(&file, pattern(LARGE_H3))?;
    let answers = edge.good().h3(
        "https://edge.test/app/digest",
        &["--method", "POST", "--body-bytes", &LARGE_H3.to_string(), "--timeout", "40"],
    )?;
    let answer = answers.first().context("no answer")?;
    let seen: Value = serde_json::from_str(&answer.text).with_context(|| format!("{answer:?}"))?;
    ensure!(seen["bytes"] == LARGE_H3 && seen["sha256"] == sha256(&file)?, "{seen}");
    Ok(())
}

fn large_downloads_arrive_whole() -> Result<()> {
    let edge = Edge::start()?;
    let (file, expected) = (edge.dir().join("download"), edge.dir().join("expected"));
    std::fs::write(&expected, pattern(LARGE))?;
    let path = file.to_string_lossy();
    for client in [edge.good(), edge.good_v6()] {
        for version in [Version::H1, Version::H2] {
            let answer = client.get(version, &format!("https://edge.test/app/bytes?n={LARGE}"), &["-o", &path])?;
            ensure!(answer.status == 200 && answer.field("content-length") == Some(&LARGE.to_string()), "{answer:?}");
            ensure!(sha256(&file)? == sha256(&expected)?, "{version:?}: the body differs");
        }
    }
    std::fs::write(&expected, pattern(LARGE_H3))?;
    let url = format!("https://edge.test/app/bytes?n={LARGE_H3}");
    for answer in edge.good().h3(&url, &["--timeout", "40"])? {
        ensure!(answer.error.is_none() && answer.bytes == LARGE_H3 as u64, "{answer:?}");
        ensure!(answer.sha256 == sha256(&expected)?, "the body differs over HTTP/3");
    }
    // HEAD has the length and no body.
    let answer = edge.good().get(Version::H2, "https://edge.test/app/bytes?n=1000", &["-I"])?;
    ensure!(answer.field("content-length") == Some("1000"), "{answer:?}");
    Ok(())
}

/// Seconds until the first byte and until the end, as curl saw them.
fn first_and_last(client: &Client<'_>, version: Version, url: &str) -> Result<(f64, f64)> {
    let mut curl = client.curl(version, url)?;
    curl.args(["-N", "-o", "/dev/null", "-w", "%{time_starttransfer} %{time_total}"]).arg(url);
    let times = run(&mut curl, Duration::from_secs(30))?.ok()?;
    let (first, last) = times.split_once(' ').context("curl's times")?;
    Ok((first.parse()?, last.parse()?))
}

fn pieces_are_passed_on_at_once() -> Result<()> {
    let edge = Edge::start()?;
    // Five pieces, 300 ms apart: the first must come long before the last.
    let url = "https://edge.test/app/drip?n=5&ms=300";
    for version in [Version::H1, Version::H2] {
        let (first, last) = first_and_last(&edge.good(), version, url)?;
        ensure!(first < 0.6 && last > 1.2, "{version:?}: first byte after {first} s, last after {last} s");
    }
    let answers = edge.good().h3(url, &[])?;
    let arrivals = &answers.first().context("no answer")?.arrivals_ms;
    ensure!(arrivals.len() >= 5 && arrivals[0] < 600, "pieces came at {arrivals:?} ms");
    Ok(())
}

fn trailers_are_kept() -> Result<()> {
    let edge = Edge::start()?;
    let url = "https://edge.test/app/trailers";
    for version in [Version::H1, Version::H2] {
        let answer = edge.good().get(version, url, &["-H", "TE: trailers"])?;
        ensure!(answer.body == "body\n" && answer.field("x-sum") == Some("42"), "{version:?}: {answer:?}");
    }
    for answer in edge.good().h3(url, &["--header", "te: trailers"])? {
        let sum = answer.trailers.get("x-sum").map(String::as_str);
        ensure!(answer.text == "body\n" && sum == Some("42"), "{answer:?}");
    }
    // Announced: an HTTP/1.1 sender must know the names before the body.
    let body = ["--method", "POST", "--body-bytes", "1000"];
    let trailer = ["--header", "trailer: x-check", "--trailer", "x-check: abc"];
    let answers = edge.good().h3("https://edge.test/app/digest", &[body, trailer].concat())?;
    let seen: Value = serde_json::from_str(&answers.first().context("no answer")?.text)?;
    ensure!(seen["bytes"] == 1000 && seen["trailers"] == json!({ "x-check": "abc" }), "{seen}");
    Ok(())
}

/// What nghttp says of a POST of this file.
fn nghttp_post(edge: &Edge, file: &str) -> Result<String> {
    let mut nghttp = edge.good().command(tools::find("nghttp")?)?;
    nghttp.args(["-nv", "--no-verify-peer", "--no-dep", "-H", ":authority: edge.test", "-d", file]);
    run(nghttp.arg(format!("https://{EDGE_V4}/app/digest")), Duration::from_secs(30))?.ok().context("nghttp")
}

fn body_limit() -> Result<()> {
    let edge = Edge::start_with(|config| config["limits"] = json!({ "body": "64KiB" }))?;
    let file = edge.dir().join("upload");
    let path = file.to_string_lossy();
    for (bytes, status) in [(64 << 10, 200), ((64 << 10) + 1, 413)] {
        std::fs::write(&file, pattern(bytes))?;
        for version in [Version::H1, Version::H2] {
            let chunked: &[&str] = &["-T", &path, "-X", "POST", "-H", "Transfer-Encoding: chunked"];
            let known: &[&str] = &["-T", &path, "-X", "POST"];
            let forms = match (version, status) {
                (Version::H1, _) => vec![known, chunked],
                (Version::H2, 200) => vec![known],
                // Debian's curl 7.88 takes the answer's RST_STREAM(NO_ERROR) for a failure: nghttp asks below.
                (Version::H2, _) => vec![],
            };
            for more in forms {
                let answer = edge.good().get(version, "https://edge.test/app/digest", more);
                let answer = answer.with_context(|| format!("{bytes} bytes over {version:?} with {more:?}"))?;
                ensure!(answer.status == status, "{bytes} bytes over {version:?} with {more:?}: {answer:?}");
            }
        }
        let seen = nghttp_post(&edge, &path)?;
        ensure!(seen.contains(&format!(":status: {status}")), "{bytes} bytes over HTTP/2: {seen}");
        let bytes = bytes.to_string();
        let answers = edge.good().h3("https://edge.test/app/digest", &["--method", "POST", "--body-bytes", &bytes])?;
        ensure!(answers.iter().all(|answer| answer.status == Some(status)), "{bytes} bytes over HTTP/3: {answers:?}");
    }
    // RFC 9113, 8.1: a whole answer before the end of the request asks the client to stop, without an error. More than a window has:
    // the client cannot have sent all of it by then.
    std::fs::write(&file, pattern(4 << 20))?;
    let seen = nghttp_post(&edge, &path)?;
    let stopped = seen.contains("error_code=NO_ERROR(0x00))") && seen.contains("recv RST_STREAM");
    ensure!(seen.contains(":status: 413") && stopped, "the stream was not stopped: {seen}");
    Ok(())
}
