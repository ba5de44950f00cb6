//! Clients that want to wear the daemon down: their connections end, what they did is named, and a good client goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::corpus::frames::{frame, opening};
use crate::edge::{Client, Edge, PATIENCE, wait_for};
use crate::origin::Origin;

/// Frames of one flood: more than any of them may have at once.
const FLOOD: u32 = 5_000;
/// A GET of `/name` for `a`, by indexes and literals of HPACK (RFC 7541 section 6).
const GET: &[u8] = b"\x82\x86\x00\x0a:authority\x01a\x00\x05:path\x05/name";

/// Windows of streams as wide as they may be: what is not taken waits in the socket.
const WIDE: [u8; 6] = [0, 4, 0x7f, 0xff, 0xff, 0xff];

/// The frames of a flood by their number.
type Flood = fn(u32) -> Vec<u8>;

#[test]
fn floods_of_frames_end_their_connection_and_no_other() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| config["workers"] = json!(1));
    let floods: [(&str, Flood); 8] = [
        ("resets", |n| [frame(1, 5, 2 * n + 1, GET), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()),
        ("settings", |_| frame(4, 0, 0, &[])),
        ("ping", |_| frame(6, 0, 0, &[0; 8])),
        ("window", |_| frame(8, 0, 0, &[0, 0, 0, 1])),
        ("priority", |_| frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        ("priority", |_| frame(0x77, 0, 0, b"unknown")),
        ("empty_frames", |n| if n == 0 { frame(1, 4, 1, b"\x83\x86\x84\x41\x01a") } else { frame(0, 0, 1, &[]) }),
        ("continuation", |n| if n == 0 { frame(1, 1, 1, b"\x82") } else { frame(9, 0, 1, b"\x00\x01x\x01y") }),
    ];
    for (at, (kind, flood)) in floods.into_iter().enumerate() {
        let mut good = edge.connect();
        assert_eq!(good.get("/name").status, 200);
        let mut stream = TcpStream::connect(edge.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut wire = opening(&[]);
        wire.extend((0..FLOOD).flat_map(flood));
        // It ends while this is sent.
        let mut reader = stream.try_clone().unwrap();
        let drained = std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        let _ = stream.write_all(&wire);
        // An end or a reset, and no timeout.
        if let Err(error) = drained.join().unwrap() {
            assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock), "{kind}: its connection goes on");
        }
        let times = floods_before(&floods.map(|(kind, _)| kind), at);
        edge.wait_log(&format!("\"kind\":\"{kind}\""), times);
        assert_eq!(good.get("/name").status, 200, "the good client beside {kind}");
    }
}

#[test]
fn content_behind_the_end_of_a_request_ends_its_stream() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    // A POST whose answer is to be waited for, and content behind its end (RFC 9113 section 5.1).
    let post = frame(1, 4, 1, b"\x83\x86\x00\x0a:authority\x01a\x00\x05:path\x0a/wait=9000");
    let content = [frame(0, 1, 1, b"all"), frame(0, 0, 1, b"more")].concat();
    let wire = [opening(&[]), post, content].concat();
    let mut stream = TcpStream::connect(edge.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&wire).unwrap();
    let closed = frame(3, 0, 1, &[0, 0, 0, 5]);
    let (mut came, mut room) = (Vec::new(), [0; 1_024]);
    while !came.windows(closed.len()).any(|bytes| bytes == closed) {
        let count = stream.read(&mut room).unwrap();
        assert!(count > 0, "the connection has ended: {came:?}");
        came.extend_from_slice(&room[..count]);
    }
}

#[test]
fn clients_that_take_nothing_of_their_answer_are_let_go() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["workers"] = json!(1);
        config["timeouts"] = json!({"send": "500ms"});
    });
    let mut good = edge.connect();
    let over_h1 = b"GET /large=50000000 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let get = b"\x82\x86\x00\x0a:authority\x01a\x00\x05:path\x0f/large=50000000";
    let connection = frame(8, 0, 0, &[0x7f, 0, 0, 0]);
    let over_h2 = [opening(&WIDE), connection, frame(1, 5, 1, get)].concat();
    for (times, wire) in [over_h1, over_h2].into_iter().enumerate() {
        let mut stream = TcpStream::connect(edge.http).unwrap();
        stream.write_all(&wire).unwrap();
        edge.wait_log("\"kind\":\"slow_read\"", times + 1);
        // What was under way can still be read, and then it is over.
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut taken = Vec::new();
        if let Err(error) = stream.read_to_end(&mut taken) {
            assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock), "its connection goes on");
        }
        assert!(taken.len() < 50_000_000, "all of it came");
        assert_eq!(good.get("/name").status, 200);
    }
    // One that reads, however much there is, is not taken for one of these.
    assert_eq!(edge.get("/large=50000000").body.len(), 50_000_000);
}

/// How many floods of the kind at `at` there were up to it.
fn floods_before(kinds: &[&str], at: usize) -> usize {
    kinds[..=at].iter().filter(|kind| **kind == kinds[at]).count()
}

#[test]
fn a_source_has_so_many_connections() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| config["limits"] = json!({ "connections_per_source": 3 }));
    let mut held: Vec<Client> = (0..3).map(|_| edge.connect()).collect();
    assert!(held.iter_mut().all(|client| client.get("/name").status == 200));
    assert!(edge.connect().is_closed());
    edge.wait_log("\"kind\":\"connections\"", 1);
    assert!(held.iter_mut().all(|client| client.get("/name").status == 200));
    held.pop();
    wait_for_place(&edge);
}

/// Waits until a connection more is served.
fn wait_for_place(edge: &Edge) {
    wait_for("a place", || {
        let mut client = edge.connect();
        // It may be reset before it has asked.
        let _ = client.stream.write_all(b"GET /name HTTP/1.1\r\nHost: a\r\n\r\n");
        let status = client.reply("GET").status;
        if status == 200 { Ok(()) } else { Err(status.to_string()) }
    });
}

/// A connection of HTTP/2 that is served, behind one that may still be about to end.
fn in_place(edge: &Edge, wire: &[u8]) -> TcpStream {
    wait_for("a place", || {
        let mut stream = TcpStream::connect(edge.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // It may be reset before it has asked.
        let _ = stream.write_all(wire);
        // What the server's settings begin with.
        stream.read_exact(&mut [0; 9]).map_err(|error| error.to_string())?;
        Ok(stream)
    })
}

#[test]
fn a_connection_that_ends_within_a_request_gives_its_place_back() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["workers"] = json!(1);
        config["timeouts"] = json!({"send": "500ms"});
        config["limits"] = json!({ "connections_per_source": 1 });
    });
    let waits = frame(1, 5, 1, b"\x82\x86\x00\x0a:authority\x01a\x00\x05:path\x0a/wait=9000");
    let large = frame(1, 5, 1, b"\x82\x86\x00\x0a:authority\x01a\x00\x05:path\x0f/large=50000000");
    let pings: Vec<u8> = (0..FLOOD).flat_map(|_| frame(6, 0, 0, &[0; 8])).collect();
    // Its client leaves, or wears the daemon down, or takes nothing.
    for (get, ending, kind) in [
        (waits.clone(), Vec::new(), None),
        (waits, pings, Some("ping")),
        (large, frame(8, 0, 0, &[0x7f, 0, 0, 0]), Some("slow_read")),
    ] {
        let mut stream = in_place(&edge, &[opening(&WIDE), get].concat());
        assert!(edge.connect().is_closed());
        let _ = stream.write_all(&ending);
        match kind {
            None => drop(stream),
            Some(kind) => edge.wait_log(&format!("\"kind\":\"{kind}\""), 1),
        }
        wait_for_place(&edge);
    }
}

#[test]
fn short_memory_turns_requests_away_and_is_over_with_it() {
    let origin = Origin::start("a");
    // No process is that small.
    let mut edge = Edge::start(origin.address, |config| config["limits"] = json!({ "memory": "1MiB" }));
    let reply = wait_for("a request that is turned away", || {
        let reply = edge.get("/name");
        if reply.status == 503 { Ok(reply) } else { Err(format!("{reply:?}")) }
    });
    assert_eq!(reply.field("retry-after"), Some("2"), "{reply:?}");
    edge.reload(|config| config["limits"] = Value::Object(serde_json::Map::new()));
    wait_for("requests that are served", || {
        let status = edge.get("/name").status;
        if status == 200 { Ok(()) } else { Err(status.to_string()) }
    });
}
