//! Connections over workers, and the loss of one.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Case;
use crate::clients::{Load, Version};
use crate::edge::{Edge, WORKERS};
use crate::origin::BODY;
use crate::process::run;

pub const CASES: &[Case] = &[
    Case { name: "connections_are_spread", run: connections_are_spread },
    Case { name: "a_worker_is_lost_and_comes_back", run: a_worker_is_lost_and_comes_back },
];

const LOAD_TIME: Duration = Duration::from_secs(60);

/// Connections that each worker accepted since `before`.
fn since(edge: &Edge, before: &[(u64, u64)]) -> Result<Vec<u64>> {
    Ok(edge.workers()?.iter().zip(before).map(|(now, before)| now.0 - before.0).collect())
}

/// `connections` over HTTP/2, some requests each; all must be answered.
fn h2_connections(edge: &Edge, connections: &str) -> Result<()> {
    let load = ["-n", "800", "-c", connections, "-t", "1"];
    let load = Load::parse(&run(&mut edge.good().h2load("https://edge.test/", &load)?, LOAD_TIME)?.ok()?)?;
    ensure!(load == Load { succeeded: 800, failed: 0 }, "{load:?}");
    Ok(())
}

/// Forty connections over HTTP/3; all must be answered.
fn h3_connections(edge: &Edge) -> Result<()> {
    let answers = edge.good().h3("https://edge.test/", &["--connections", "40", "--count", "2"])?;
    ensure!(answers.len() == 80, "{} answers", answers.len());
    for answer in answers {
        ensure!(answer.status == Some(200) && answer.text == BODY, "{answer:?}");
    }
    Ok(())
}

fn connections_are_spread() -> Result<()> {
    let edge = Edge::start()?;
    let before = edge.workers()?;
    ensure!(before.len() as u64 == WORKERS, "{} workers", before.len());
    h2_connections(&edge, "80")?;
    // 80 connections that stay open over 4 workers: the less busy of two gives each close to 20.
    let spread = since(&edge, &before)?;
    ensure!(spread.iter().sum::<u64>() == 80, "{spread:?}");
    ensure!(spread.iter().all(|&count| (12..=28).contains(&count)), "80 TCP connections were spread as {spread:?}");
    let before = edge.workers()?;
    h3_connections(&edge)?;
    let spread = since(&edge, &before)?;
    ensure!(spread.iter().sum::<u64>() == 40, "{spread:?}");
    ensure!(spread.iter().all(|&count| count > 0), "40 QUIC connections were spread as {spread:?}");
    // The gate counted what it steered.
    ensure!(edge.packets("steered")? >= 80, "{} connections were steered", edge.packets("steered")?);
    ensure!(edge.packets("quic_cid")? > 0, "no packet was placed by its connection id");
    Ok(())
}

fn a_worker_is_lost_and_comes_back() -> Result<()> {
    let edge = Edge::start()?;
    edge.ctl(&["worker", "stop", "1"])?;
    let before = edge.workers()?;
    h2_connections(&edge, "60")?;
    h3_connections(&edge)?;
    for _ in 0..10 {
        edge.good().expect_origin(Version::H1, "http://edge.test/")?;
        edge.good_v6().expect_origin(Version::H1, "https://edge.test/")?;
    }
    let spread = since(&edge, &before)?;
    ensure!(spread[1] == 0, "a worker that is out accepted connections: {spread:?}");
    ensure!(spread.iter().sum::<u64>() == 120, "{spread:?}");
    let again = edge.ctl(&["worker", "stop", "99"]);
    ensure!(again.is_err(), "there is no worker 99: {again:?}");

    edge.ctl(&["worker", "start", "1"])?;
    let before = edge.workers()?;
    h2_connections(&edge, "60")?;
    h3_connections(&edge)?;
    let spread = since(&edge, &before)?;
    ensure!(spread[1] > 5, "the worker that came back gets too little: {spread:?}");
    Ok(())
}
