//! HTTP/1.1, 2 and 3 by foreign clients, over both address families, to both kinds of origin.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Case;
use crate::clients::{Client, Version};
use crate::edge::{Edge, SITE, TLS_SITE};
use crate::origin::{BODY, TLS_NAME};
use crate::street::{EDGE_V4, GOOD_V4, GOOD_V6};

pub const CASES: &[Case] = &[
    Case { name: "http1_and_2_over_tls", run: http1_and_2_over_tls },
    Case { name: "http1_and_2_in_clear", run: http1_and_2_in_clear },
    Case { name: "http3", run: http3 },
    Case { name: "https_origin", run: https_origin },
    Case { name: "forwarding_headers", run: forwarding_headers },
    Case { name: "unknown_host_and_path", run: unknown_host_and_path },
];

fn http1_and_2_over_tls() -> Result<()> {
    let edge = Edge::start()?;
    for client in [edge.good(), edge.good_v6()] {
        for (version, number) in [(Version::H1, "1.1"), (Version::H2, "2")] {
            let answer = client.expect_origin(version, "https://edge.test/")?;
            ensure!(answer.version == number, "asked for {number}, spoke {}", answer.version);
            let alt_svc = answer.field("alt-svc").context("no Alt-Svc although HTTP/3 is served")?;
            ensure!(alt_svc.contains("h3=\":443\""), "Alt-Svc says {alt_svc}");
        }
    }
    Ok(())
}

fn http1_and_2_in_clear() -> Result<()> {
    let edge = Edge::start()?;
    for client in [edge.good(), edge.good_v6()] {
        for (version, number) in [(Version::H1, "1.1"), (Version::H2, "2")] {
            let answer = client.expect_origin(version, "http://edge.test/")?;
            ensure!(answer.version == number, "asked for {number}, spoke {}", answer.version);
        }
    }
    Ok(())
}

fn http3() -> Result<()> {
    let edge = Edge::start()?;
    for client in [edge.good(), edge.good_v6()] {
        for answer in client.h3("https://edge.test/", &["--count", "20", "--parallel", "5", "--connections", "4"])? {
            ensure!(answer.error.is_none() && answer.status == Some(200) && answer.text == BODY, "{answer:?}");
        }
    }
    Ok(())
}

fn https_origin() -> Result<()> {
    let mut edge = Edge::start()?;
    let expected = format!("https {TLS_NAME} {TLS_SITE}\n");
    let good = edge.good();
    for version in [Version::H1, Version::H2] {
        let answer = good.get(version, "https://tls.edge.test/scheme", &[])?;
        ensure!(answer.status == 200 && answer.body == expected, "{answer:?}");
    }
    let answers = good.h3("https://tls.edge.test/scheme", &[])?;
    ensure!(answers.iter().all(|answer| answer.text == expected), "{answers:?}");
    // An origin whose certificate is for another name is not spoken to.
    edge.config["upstreams"]["nginx-tls"]["server_name"] = "other.test".into();
    edge.reload()?;
    let answer = edge.good().get(Version::H1, "https://tls.edge.test/scheme", &[])?;
    ensure!([502, 503].contains(&answer.status), "an origin with a wrong certificate was taken: {answer:?}");
    Ok(())
}

/// What the origin received for a request.
fn seen(client: &Client<'_>, version: Version, more: &[&str]) -> Result<Value> {
    let answer = client.get(version, "https://edge.test/app/headers", more)?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(serde_json::from_str(&answer.body)?)
}

fn values(seen: &Value, name: &str) -> Vec<String> {
    let fields = seen["fields"].as_array().into_iter().flatten();
    let named = fields.filter(|field| field[0].as_str().is_some_and(|field| field.eq_ignore_ascii_case(name)));
    named.filter_map(|field| field[1].as_str().map(str::to_owned)).collect()
}

fn forwarding_headers() -> Result<()> {
    let edge = Edge::start()?;
    let hop_by_hop = ["-H", "Connection: keep-alive, x-private", "-H", "X-Private: 1", "-H", "X-Public: 1"];
    for (client, source) in [(edge.good(), GOOD_V4), (edge.good_v6(), GOOD_V6)] {
        for version in [Version::H1, Version::H2] {
            let more: &[&str] = if version == Version::H1 { &hop_by_hop } else { &["-H", "X-Public: 1"] };
            let seen = seen(&client, version, more)?;
            ensure!(values(&seen, "x-forwarded-for") == [source], "{seen}");
            ensure!(values(&seen, "x-forwarded-proto") == ["https"], "{seen}");
            ensure!(values(&seen, "host") == [SITE], "{seen}");
            ensure!(values(&seen, "x-public") == ["1"], "{seen}");
            ensure!(values(&seen, "x-private").is_empty(), "a field named by Connection reached the origin: {seen}");
            let via = values(&seen, "via");
            ensure!(via.len() == 1, "{seen}");
        }
    }
    let answers = edge.good().h3("https://edge.test/app/headers", &["--header", "x-public: 1"])?;
    let seen: Value = serde_json::from_str(&answers.first().context("no answer")?.text)?;
    ensure!(values(&seen, "x-forwarded-for") == [GOOD_V4] && values(&seen, "host") == [SITE], "{seen}");
    ensure!(values(&seen, "via").len() == 1 && values(&seen, "x-public") == ["1"], "{seen}");
    Ok(())
}

fn unknown_host_and_path() -> Result<()> {
    let edge = Edge::start()?;
    let good = edge.good();
    let answer = good.get(Version::H1, "http://nobody.test/", &[])?;
    ensure!(answer.status == 404 || answer.status == 421, "a host without a route was answered {answer:?}");
    let answer = good.get(Version::H2, "https://edge.test/missing", &[])?;
    ensure!(
        answer.status == 404 && answer.body == "not here\n",
        "the origin's own 404 did not come through: {answer:?}"
    );
    // `/app` is matched on segment borders: this one is nginx's.
    let answer = good.get(Version::H1, "https://edge.test/application", &[])?;
    ensure!(answer.body == "not here\n", "{answer:?}");
    let answer = good.get(Version::H1, &format!("http://{EDGE_V4}/"), &[])?;
    ensure!(answer.status == 404 || answer.status == 421, "{answer:?}");
    Ok(())
}
