//! Changes under load: config, policies and certificates. No request of a good client may fail.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::Case;
use crate::clients::{Load, Version};
use crate::edge::{Edge, SITE, TLS_SITE, probe_policy};
use crate::process::run;
use crate::street::{EDGE_V4, SCANNER_V4};
use crate::tools;

pub const CASES: &[Case] = &[
    Case { name: "reload_under_load_loses_nothing", run: reload_under_load_loses_nothing },
    Case { name: "certificate_swap_under_load", run: certificate_swap_under_load },
    Case { name: "a_bad_reload_changes_nothing", run: a_bad_reload_changes_nothing },
    Case { name: "broken_policies_under_load_change_nothing", run: broken_policies_under_load_change_nothing },
    Case { name: "what_needs_a_restart_is_said", run: what_needs_a_restart_is_said },
];

const TIME: Duration = Duration::from_secs(40);

/// Runs `change` while clients of all three versions keep asking, some over new connections each time.
fn under_load(edge: &Edge, seconds: u64, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let good = edge.good();
    let duration = seconds.to_string();
    let mut loads = Vec::new();
    for options in [&["--h1"][..], &[][..]] {
        let mut all = vec!["-D", duration.as_str(), "-c", "8", "-t", "1", "--rps", "40"];
        all.extend(options);
        let mut load = good.h2load("https://edge.test/", &all)?;
        loads.push(load.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
    }
    let mut h3 = good.h3_command("https://edge.test/", &["--connections", "4", "--count", "300", "--linger", "0.1"])?;
    let h3 = h3.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let (done, fresh) = std::thread::scope(|scope| {
        let fresh = scope.spawn(|| -> Result<u64> {
            let until = std::time::Instant::now() + Duration::from_secs(seconds);
            let mut asked = 0;
            while std::time::Instant::now() < until {
                good.expect_origin(if asked % 2 == 0 { Version::H1 } else { Version::H2 }, "https://edge.test/")?;
                asked += 1;
            }
            Ok(asked)
        });
        std::thread::sleep(Duration::from_millis(500));
        let done = change();
        (done, fresh.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the client panicked"))))
    });
    done?;
    let asked = fresh.context("a new connection failed")?;
    ensure!(asked > 20, "only {asked} new connections were made");
    for load in loads {
        let report = load.wait_with_output()?;
        let load = Load::parse(&String::from_utf8_lossy(&report.stdout))?;
        ensure!(load.failed == 0 && load.succeeded > 500, "under load: {load:?}");
    }
    let report: serde_json::Value = serde_json::from_slice(&h3.wait_with_output()?.stdout).context("h3.py")?;
    let answers = report["answers"].as_array().context("h3.py")?;
    let failed: Vec<_> = answers.iter().filter(|answer| answer["status"] != 200).take(3).collect();
    ensure!(failed.is_empty() && answers.len() == 1200, "over HTTP/3, of {}: {failed:?}", answers.len());
    Ok(())
}

fn reload_under_load_loses_nothing() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("5s"))?;
    edge.launch()?;
    let before = edge.ctl(&["status", "--json"])?["generation"].as_u64().context("generation")?;
    under_load(&edge, 6, || {
        for round in 0..12 {
            let mut policy = probe_policy(&format!("{}s", 5 + round));
            policy["revision"] = (2 + round).into();
            std::fs::write(edge.dir().join("policies/probes.json"), serde_json::to_vec(&policy)?)?;
            edge.reload()?;
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    })?;
    let after = edge.ctl(&["status", "--json"])?["generation"].as_u64().context("generation")?;
    ensure!(after == before + 12, "generation {before} became {after}");
    // SIGHUP does the same.
    edge.daemon()?.signal(nix::sys::signal::Signal::SIGHUP)?;
    edge.until("the reload by SIGHUP", TIME, || {
        Ok(edge.ctl(&["status", "--json"])?["generation"].as_u64() == Some(after + 1))
    })
}

/// The serial number of the certificate that a new connection is given.
fn serial(edge: &Edge, name: &str) -> Result<String> {
    let mut openssl = edge.good().command(tools::find("openssl")?)?;
    openssl.args(["s_client", "-connect", &format!("{EDGE_V4}:443"), "-servername", name, "-showcerts"]);
    let output = run(&mut openssl, TIME)?.ok().context("openssl s_client")?;
    let pem = edge.dir().join("seen.pem");
    std::fs::write(&pem, output)?;
    let mut openssl = edge.good().command(tools::find("openssl")?)?;
    let output =
        run(openssl.args(["x509", "-noout", "-serial", "-in"]).arg(&pem), TIME)?.ok().context("openssl x509")?;
    Ok(output.trim().trim_start_matches("serial=").to_owned())
}

fn certificate_swap_under_load() -> Result<()> {
    let edge = Edge::start()?;
    ensure!(serial(&edge, SITE)? == edge.leaf.serial, "another certificate than configured");
    under_load(&edge, 6, || {
        for number in 2..6 {
            let next = edge.authority.leaf("edge", &[SITE, TLS_SITE], number)?;
            edge.until("the new certificate", Duration::from_secs(5), || Ok(serial(&edge, SITE)? == next.serial))?;
        }
        Ok(())
    })?;
    // Half a certificate is not taken up, and what serves goes on.
    let good = serial(&edge, SITE)?;
    std::fs::write(&edge.leaf.cert, "-----BEGIN CERTIFICATE-----\nMIIB")?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(serial(&edge, SITE)? == good, "the good certificate was lost");
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    Ok(())
}

fn a_bad_reload_changes_nothing() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("5s"))?;
    edge.launch()?;
    let before = edge.ctl(&["status", "--json"])?["generation"].clone();
    let refused = |edge: &Edge, pointer: &str| -> Result<()> {
        let Err(error) = edge.reload() else { anyhow::bail!("a bad file was taken up (fault at {pointer})") };
        let text = format!("{error:#}");
        ensure!(text.contains(pointer), "the message does not name {pointer}: {text}");
        ensure!(edge.ctl(&["status", "--json"])?["generation"] == before, "the generation moved on");
        edge.good().expect_origin(Version::H1, "https://edge.test/").map(drop)
    };
    edge.config["routes"][0]["upstream"] = "nowhere".into();
    refused(&edge, "/routes/0/upstream")?;
    edge.config["routes"][0]["upstream"] = "app".into();
    let mut policy = probe_policy("5s");
    policy["rules"][0]["when"] = "http.request.uri.pth eq \"/.env\"".into();
    edge.policy(&policy)?;
    refused(&edge, "/rules/0/when")?;
    // A policy whose own test fails is not taken up either.
    let mut policy = probe_policy("5s");
    policy["tests"] = json!([{ "given": { "http.request.uri.path": "/.env" }, "expect": "allow" }]);
    edge.policy(&policy)?;
    refused(&edge, "/tests/0")?;
    // The last good revision still decides.
    let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
    ensure!(answer.status == 403, "{answer:?}");
    edge.policy(&probe_policy("5s"))?;
    edge.reload().context("the mended files were refused").map(drop)
}

fn broken_policies_under_load_change_nothing() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("10m"))?;
    edge.launch()?;
    let before = edge.ctl(&["status", "--json"])?["generation"].clone();
    let file = edge.dir().join("policies/probes.json");
    let good = std::fs::read_to_string(&file)?;
    let broken = [
        good.replace("http.request.uri.path", "http.request.uri.pth"),
        good.get(..good.len() / 2).context("half a file")?.to_owned(),
        good.replace("\"block\"", "\"drop\""),
        String::new(),
    ];
    under_load(&edge, 4, || {
        for text in broken.iter().cycle().take(8) {
            std::fs::write(&file, text)?;
            ensure!(edge.reload().is_err(), "a broken file was taken up: {text}");
        }
        Ok(())
    })?;
    ensure!(edge.ctl(&["status", "--json"])?["generation"] == before, "the generation moved on");
    let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
    ensure!(answer.status == 403 && edge.verdict(SCANNER_V4)?.is_some(), "the last good revision decides no more");
    Ok(())
}

fn what_needs_a_restart_is_said() -> Result<()> {
    let mut edge = Edge::start()?;
    edge.config["workers"] = 2.into();
    let done = edge.reload()?;
    ensure!(done["needs_restart"].to_string().contains("/workers"), "{done}");
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    Ok(())
}
