//! Connections that are passed through, those that come through a balancer in front, and origins on Unix sockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::{Value, json};

use crate::edge::{Client, Edge, PATIENCE, wait_for};
use crate::origin::Origin;

/// Adds a listener at a free port; its address is told by the daemon's config alone, so it is chosen here.
fn listener(config: &mut Value, mut more: Value) -> SocketAddr {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    more["address"] = json!(address.to_string());
    config["listeners"].as_array_mut().unwrap().push(more);
    address
}

/// What curl gets from `https://NAME/name` at this address; curl's failure is an answer too.
fn curl(name: &str, at: SocketAddr) -> String {
    let resolve = format!("{name}:{}:127.0.0.1", at.port());
    let url = format!("https://{name}:{}/name", at.port());
    let output = Command::new("curl")
        .args(["-sSk", "--max-time", "30", "--resolve", &resolve, "-w", " %{http_code}", &url])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn tls_goes_by_server_name_and_is_not_ended() {
    let (near, far) = (Origin::start("near"), Origin::start("far"));
    let inner = Edge::start(far.address, |_| {});
    let mut passing = inner.https;
    let outer = Edge::start(near.address, |config| {
        config["upstreams"]["inner"] = json!({ "servers": [format!("tcp://{}", inner.https)] });
        config["listeners"][1]["forward"] = json!([{ "hosts": ["*.far.test"], "upstream": "inner" }]);
        let forward = json!([{ "hosts": ["far.test"], "upstream": "inner" }]);
        passing = listener(config, json!({ "name": "pass", "protocol": "tcp", "forward": forward }));
    });
    // A listener with TLS of its own passes some names on, before any handshake.
    assert_eq!(curl("a.far.test", outer.https), "far 200");
    assert_eq!(curl("near.test", outer.https), "near 200");
    assert_eq!(curl("far.test", passing), "far 200");
    assert_eq!(curl("other.test", passing), " 000", "a name that leads nowhere was answered");
    // Whoever says nothing of the kind is not passed on either.
    let mut client = Client::connect(passing);
    assert!(client.send("GET / HTTP/1.1\r\n\r\n").is_closed());
    let (_, status) = outer.ask(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    let forwarded: u64 = status["workers"].as_array().unwrap().iter().map(|w| w["forwarded"].as_u64().unwrap()).sum();
    assert_eq!(forwarded, 2, "{status}");
}

#[test]
fn bytes_pass_both_ways_and_halves_close_on_their_own() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("tcp://{}", origin.local_addr().unwrap());
    let mut passing = origin.local_addr().unwrap();
    let edge = Edge::start(passing, |config| {
        config["upstreams"]["raw"] = json!({ "servers": [server], "proxy_protocol": "v1" });
        config["timeouts"] = json!({ "tunnel": "1s" });
        let forward = json!([{ "upstream": "raw" }]);
        passing = listener(config, json!({ "name": "pass", "protocol": "tcp", "forward": forward }));
    });
    let client = TcpStream::connect(passing).unwrap();
    let (mut server, _) = origin.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut header = String::new();
    let mut reader = BufReader::new(server.try_clone().unwrap());
    reader.read_line(&mut header).unwrap();
    let port = client.local_addr().unwrap().port();
    assert_eq!(header, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n", passing.port()));
    (&client).write_all(&vec![b'x'; 1_000_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 1_000_000);
    server.write_all(b"the answer").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    (&client).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "the answer");

    // Silence ends it, and an origin that is away resets.
    let mut silent = Client::connect(passing);
    let (_held, _) = origin.accept().unwrap();
    assert!(silent.is_closed());
    drop(origin);
    assert!(Client::connect(passing).is_closed());
    wait_for("the server's standing", || {
        let (_, status) = edge.ask(&["status", "--json"]);
        let status: Value = serde_json::from_str(&status).unwrap();
        let raw = status["upstreams"].as_array().unwrap().iter().find(|upstream| upstream["name"] == "raw").cloned();
        let server = raw.unwrap_or_default()["servers"][0].clone();
        if server["standing"]["unreachable"].as_u64() > Some(0) { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_balancer_in_front_says_who_the_client_is() {
    let origin = Origin::start("a");
    let mut fronted = origin.address;
    let edge = Edge::start(origin.address, |config| {
        let from = json!({ "from": ["127.0.0.0/8"] });
        fronted = listener(config, json!({ "name": "front", "protocol": "http", "proxy_protocol": from }));
        config["timeouts"] = json!({ "header": "2s" });
    });
    let ask = "GET /see HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x12\x34\x01\xbb";
    for (header, client) in [
        (&b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n"[..], "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 443\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (binary, "192.0.2.7"),
    ] {
        // In pieces, and with the request right behind it.
        let mut connection = Client::connect(fronted);
        let (begin, end) = header.split_at(header.len() / 2);
        connection.stream.write_all(begin).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        connection.stream.write_all(&[end, ask.as_bytes()].concat()).unwrap();
        let seen = connection.reply("GET").body;
        assert!(seen.contains(&format!("x-forwarded-for: {client}\n")), "{seen}");
    }
    // Without a header nothing is served, and where nobody stands in front a header is not believed.
    assert!(Client::connect(fronted).send(ask).is_closed());
    assert!(Client::connect(fronted).send("PROXY TCP4 1.2.3.4\r\n").is_closed());
    assert!(Client::connect(fronted).send("PROXY TCP4 ").is_closed(), "half a header was waited for beyond its time");
    let direct = edge.connect().send(&format!("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n{ask}")).reply("GET");
    assert!([0, 400].contains(&direct.status), "{direct:?}");
    let clients: Vec<_> = edge.access_log(4).iter().map(|line| line["client"].as_str().unwrap().to_owned()).collect();
    assert!(clients.contains(&"192.0.2.7:4660".to_owned()), "{clients:?}");
}

#[test]
fn origins_are_told_who_the_client_is() {
    let origin = Origin::start("a");
    let mut fronted = origin.address;
    let _inner = Edge::start(origin.address, |config| {
        let from = json!({ "from": ["127.0.0.1/32"] });
        fronted = listener(config, json!({ "name": "front", "protocol": "http", "proxy_protocol": from }));
    });
    for version in ["v1", "v2"] {
        let mut middle = origin.address;
        let _edge = Edge::start(origin.address, |config| {
            config["upstreams"]["origin"] =
                json!({ "servers": [format!("http://{fronted}")], "proxy_protocol": version });
            let from = json!({ "from": ["127.0.0.1/32"] });
            middle = listener(config, json!({ "name": "front", "protocol": "http", "proxy_protocol": from }));
        });
        // Kept connections are one client's: another client's request must not come over them.
        for client in ["192.0.2.7", "192.0.2.8"] {
            let header = format!("PROXY TCP4 {client} 198.51.100.1 4660 443\r\n");
            let mut connection = Client::connect(middle);
            connection.send(&header);
            let seen = connection.get("/see").body;
            assert!(seen.contains(&format!("x-forwarded-for: {client}, {client}\n")), "{version}: {seen}");
        }
    }
}

#[test]
fn origins_on_unix_sockets() {
    let away = Origin::start("away");
    let edge = Edge::start(away.address, |config| {
        config["upstreams"]["origin"] = json!({ "servers": ["http+unix:/nobody/is/here"] });
    });
    assert_eq!(edge.get("/name").status, 503);
    let path = edge.directory().join("app.sock");
    let unix = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in unix.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 0 {
                if line.ends_with("\r\n\r\n") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix").unwrap();
                    line.clear();
                }
            }
        }
    });
    let mut edge = edge;
    edge.reload(|config| {
        config["upstreams"]["origin"] = json!({ "servers": [format!("http+unix:{}", path.display())] });
    });
    edge.wait_log("reloaded", 1);
    let mut client = edge.connect();
    assert_eq!([client.get("/one").body, client.get("/two").body], ["unix", "unix"]);
    // The lines of two workers come in any order.
    let log = edge.access_log(3);
    let line = log.iter().find(|line| line["path"] == "/two").unwrap();
    assert_eq!(line["server"], path.to_str().unwrap(), "{line}");
}
