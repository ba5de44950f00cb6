//! Servers on the edge's own host: responses that the kernel hands over without TCP, what goes through TCP all the same, and
//! what takes no part in it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use proxy_common::same_host::CREDIT_BYTES;
use serde_json::{Value, json};

use super::Case;
use super::attach::head;
use super::bodies::pattern;
use crate::clients::Version;
use crate::edge::SITE;
use crate::loopback::{ADDRESS, Loopback};
use crate::origin::BODY;
use crate::process::eventually;
use crate::ward::{self, DIR_MARK, Item};

pub const CASES: &[Case] = &[
    Case { name: "responses_are_handed_over", run: responses_are_handed_over },
    Case { name: "beyond_its_credit_a_response_goes_through_tcp", run: beyond_its_credit_a_response_goes_through_tcp },
    Case {
        name: "a_stopped_client_holds_no_more_than_the_credit",
        run: a_stopped_client_holds_no_more_than_the_credit,
    },
    Case { name: "what_came_both_ways_is_read_without_another_event", run: what_came_both_ways_is_read },
    Case { name: "an_upgraded_connection_stays_in_order", run: an_upgraded_connection_stays_in_order },
    Case { name: "a_server_that_breaks_off_is_noticed", run: a_server_that_breaks_off_is_noticed },
    Case { name: "processes_of_other_cgroups_take_no_part", run: processes_of_other_cgroups_take_no_part },
    Case { name: "what_cannot_be_had_is_told_and_served", run: what_cannot_be_had_is_told_and_served },
    Case { name: "a_reload_turns_it_on_and_off", run: a_reload_turns_it_on_and_off },
];

/// Bytes of a body far beyond the credit.
const LARGE: usize = 24 * CREDIT_BYTES as usize;
const TIME: Duration = Duration::from_secs(20);

/// An edge whose upstreams are on its host, with `change` to its config.
fn start(change: impl FnOnce(&mut Value)) -> Result<Loopback> {
    Loopback::start(|config, _| {
        config["routes"] =
            json!([{ "hosts": [SITE], "path": "/app", "upstream": "app" }, { "hosts": [SITE], "upstream": "nginx" }]);
        for upstream in ["nginx", "app"] {
            config["upstreams"][upstream]["same_host"] = true.into();
        }
        // One pool, so that the second request takes the connection of the first.
        config["workers"] = 1.into();
        change(config);
        Ok(())
    })
}

/// Messages and bytes that were handed over, and that went through TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    handed: (u64, u64),
    tcp: (u64, u64),
}

fn sent(edge: &Loopback) -> Result<Sent> {
    let status = edge.ctl(&["status"])?;
    let way = |name: &str| -> Result<(u64, u64)> {
        let sent = &status["same_host"]["sent"][name];
        let number = |key: &str| sent[key].as_u64().with_context(|| format!("{status}"));
        Ok((number("messages")?, number("bytes")?))
    };
    Ok(Sent { handed: way("handed_over")?, tcp: way("tcp")? })
}

fn url(edge: &Loopback, path: &str) -> String {
    format!("http://{SITE}:{}{path}", edge.http)
}

fn expect_body(edge: &Loopback) -> Result<()> {
    let answer = edge.client().get(Version::H1, &url(edge, "/"), &[])?;
    ensure!(answer.status == 200 && answer.body == BODY, "{answer:?}");
    Ok(())
}

fn responses_are_handed_over() -> Result<()> {
    let edge = start(|_| ())?;
    for _ in 0..4 {
        expect_body(&edge)?;
    }
    let secure = format!("https://{SITE}:{}/", edge.https);
    edge.client().expect_origin(Version::H2, &secure)?;
    let answers = edge.client().h3(&secure, &[])?;
    ensure!(answers.first().is_some_and(|answer| answer.text == BODY), "{answers:?}");
    let after = sent(&edge)?;
    ensure!(after.handed.0 >= 6 && after.tcp == (0, 0), "{after:?}");
    // Whoever else speaks to the server does so as ever.
    let port = edge.origin_port("nginx")?;
    let mut direct = TcpStream::connect((ADDRESS, port))?;
    direct.write_all(b"GET / HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    direct.read_to_string(&mut answer)?;
    ensure!(answer.ends_with(BODY), "{answer}");
    let now = sent(&edge)?;
    ensure!(now == after, "{now:?}, before {after:?}");
    Ok(())
}

fn beyond_its_credit_a_response_goes_through_tcp() -> Result<()> {
    let edge = start(|_| ())?;
    let (sent_file, got) = (edge.dir().join("sent"), edge.dir().join("got"));
    let body = pattern(LARGE);
    std::fs::write(&sent_file, &body)?;
    let (sent_path, got_path) = (sent_file.to_string_lossy(), got.to_string_lossy());
    // The server answers piece by piece, while it is being sent to.
    for round in 1..=3 {
        let before = sent(&edge)?;
        let more = ["-T", &sent_path, "-X", "POST", "-H", "Expect:", "-o", &got_path, "--limit-rate", "16M"];
        let answer = edge.client().get(Version::H1, &url(&edge, "/app/echo"), &more)?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(std::fs::read(&got)? == body, "round {round}: the body differs");
        let after = sent(&edge)?;
        let (handed, tcp) = (after.handed.1 - before.handed.1, after.tcp.1 - before.tcp.1);
        ensure!(handed > 0 && handed < CREDIT_BYTES, "round {round}: {handed} bytes handed over");
        ensure!(tcp + CREDIT_BYTES > LARGE as u64, "round {round}: {tcp} bytes through TCP");
    }
    // What is written at once and larger than the credit.
    let answer = edge.client().get(Version::H1, &url(&edge, &format!("/app/bytes?n={LARGE}")), &["-o", &got_path])?;
    ensure!(answer.status == 200 && std::fs::read(&got)? == body, "{answer:?}");
    Ok(())
}

fn a_stopped_client_holds_no_more_than_the_credit() -> Result<()> {
    let edge = start(|_| ())?;
    let mut stopped = TcpStream::connect((ADDRESS, edge.http))?;
    let ask = format!("GET /app/bytes?n={} HTTP/1.1\r\nHost: {SITE}\r\n\r\n", 64 << 20);
    stopped.write_all(ask.as_bytes())?;
    stopped.set_read_timeout(Some(TIME))?;
    let mut first = [0; 12];
    stopped.read_exact(&mut first)?;
    ensure!(first.starts_with(b"HTTP/1.1 200"), "{first:?}");
    // Nothing more is read: the server is held up by TCP's window and not drained into the kernel.
    let mut before = sent(&edge)?;
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = sent(&edge)?;
        if now == before {
            break;
        }
        before = now;
    }
    ensure!(before.handed.1 < CREDIT_BYTES && before.tcp.1 < 48 << 20, "{before:?}");
    drop(stopped);
    expect_body(&edge)
}

/// That all threads of a process are stopped (`proc_pid_stat(5)`: the state behind the name in brackets).
fn stands_still(pid: u32) -> Result<()> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        ensure!(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')), "{stat}");
    }
    Ok(())
}

/// The last piece comes through TCP behind much that was handed over, while the daemon stands still: it is told of both by one
/// event, and of nothing after that.
fn what_came_both_ways_is_read() -> Result<()> {
    let listener = TcpListener::bind((ADDRESS, 0))?;
    let server = listener.local_addr()?;
    let edge = start(|config| config["upstreams"]["nginx"]["servers"] = json!([format!("http://{server}")]))?;
    let mut client = TcpStream::connect((ADDRESS, edge.http))?;
    client.set_read_timeout(Some(TIME))?;
    client.write_all(format!("GET / HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(TIME))?;
    stream.set_nodelay(true)?;
    ensure!(stream.read(&mut [0; 4_096])? > 0, "no request came");
    let body = pattern(CREDIT_BYTES as usize + 500);
    let (handed, through_tcp) = body.split_at(CREDIT_BYTES as usize - 500);
    edge.daemon().signal(Signal::SIGSTOP)?;
    eventually("the daemon's stop", TIME, || stands_still(edge.daemon().pid()))?;
    let sending = stream
        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())
        .and_then(|()| stream.write_all(handed))
        .and_then(|()| stream.write_all(through_tcp));
    edge.daemon().signal(Signal::SIGCONT)?;
    sending?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).context("the last of a response was not read")?;
    ensure!(answer.ends_with(&body), "{} bytes came", answer.len());
    let after = sent(&edge)?;
    ensure!(after.tcp == (1, through_tcp.len() as u64), "{after:?}");
    Ok(())
}

fn an_upgraded_connection_stays_in_order() -> Result<()> {
    let edge = start(|_| ())?;
    let mut stream = TcpStream::connect((ADDRESS, edge.http))?;
    stream.set_read_timeout(Some(TIME))?;
    let ask = format!(
        "GET /app/upgrade HTTP/1.1\r\nHost: {SITE}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(ask.as_bytes())?;
    let head = head(&mut stream)?;
    ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
    let body = pattern(8 * CREDIT_BYTES as usize + 77);
    let mut writer = stream.try_clone()?;
    let echoed = std::thread::scope(|scope| -> Result<Vec<u8>> {
        let pieces = body.chunks(10_007);
        let write = scope.spawn(move || -> std::io::Result<()> {
            for piece in pieces {
                writer.write_all(piece)?;
            }
            Ok(())
        });
        let mut echoed = vec![0; body.len()];
        stream.read_exact(&mut echoed)?;
        write.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        Ok(echoed)
    })?;
    ensure!(echoed == body, "what came back differs");
    let after = sent(&edge)?;
    ensure!(after.handed.1 > 0 && after.handed.1 < CREDIT_BYTES && after.tcp.1 > CREDIT_BYTES, "{after:?}");
    Ok(())
}

fn a_server_that_breaks_off_is_noticed() -> Result<()> {
    let edge = start(|_| ())?;
    for _ in 0..3 {
        let cut = edge.client().get(Version::H1, &url(&edge, "/app/cut?n=5000"), &[]);
        let Err(error) = cut else { anyhow::bail!("a response that was cut came whole: {cut:?}") };
        ensure!(format!("{error:#}").contains("curl: (18)"), "{error:#}");
        let answer = edge.client().get(Version::H1, &url(&edge, "/app/bytes?n=700"), &[])?;
        ensure!(answer.status == 200 && answer.field("content-length") == Some("700"), "{answer:?}");
    }
    let after = sent(&edge)?;
    ensure!(after.handed.0 >= 6 && after.tcp == (0, 0), "{after:?}");
    Ok(())
}

/// A cgroup without a process.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(below: &Path) -> Result<Self> {
        let path = below.join(format!("{DIR_MARK}{}-empty", std::process::id()));
        ward::guard(Item::Cgroup(path.clone()));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = ward::release(Item::Cgroup(self.0.clone())) {
            eprintln!("{error:#}");
        }
    }
}

fn processes_of_other_cgroups_take_no_part() -> Result<()> {
    let edge = start(|_| ())?;
    let root = edge.ctl(&["status"])?["same_host"]["cgroup"].as_str().context("no cgroup")?.to_owned();
    drop(edge);
    let empty = Cgroup::make(Path::new(&root))?;
    let edge = start(|config| config["cgroup"] = empty.0.to_string_lossy().into())?;
    for _ in 0..3 {
        expect_body(&edge)?;
    }
    let after = sent(&edge)?;
    ensure!(after == Sent { handed: (0, 0), tcp: (0, 0) }, "{after:?}");
    Ok(())
}

fn what_cannot_be_had_is_told_and_served() -> Result<()> {
    let mut edge = start(|config| config["cgroup"] = "/no/such/cgroup".into())?;
    expect_body(&edge)?;
    let status = edge.ctl(&["status"])?;
    let missing = status["same_host"]["missing"].as_str().unwrap_or_default();
    ensure!(missing.contains("/no/such/cgroup"), "{status}");
    // Put right, it is had from the next reload on, for upstreams that stay as they are, too.
    edge.reload(|config| config["cgroup"] = Value::Null)?;
    expect_body(&edge)?;
    let after = sent(&edge)?;
    ensure!(after.handed.0 > 0 && after.tcp == (0, 0), "{after:?}");
    Ok(())
}

fn a_reload_turns_it_on_and_off() -> Result<()> {
    let mut edge = start(|config| {
        for upstream in ["nginx", "app"] {
            config["upstreams"][upstream]["same_host"] = false.into();
        }
    })?;
    expect_body(&edge)?;
    ensure!(edge.ctl(&["status"])?["same_host"].is_null(), "nobody asked for it");
    edge.reload(|config| config["upstreams"]["nginx"]["same_host"] = true.into())?;
    expect_body(&edge)?;
    expect_body(&edge)?;
    let after = sent(&edge)?;
    ensure!(after.handed.0 >= 2 && after.tcp == (0, 0), "{after:?}");
    edge.reload(|config| config["upstreams"]["nginx"]["same_host"] = false.into())?;
    expect_body(&edge)?;
    ensure!(edge.ctl(&["status"])?["same_host"].is_null(), "nobody asks for it any more");
    Ok(())
}
