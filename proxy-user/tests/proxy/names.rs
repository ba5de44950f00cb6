//! Origins by name: a name server of the tests answers as it is told, and addresses that do not answer are passed over.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use serde_json::{Value, json};

use crate::edge::{Edge, wait_for};
use crate::origin::Origin;

/// What every name has; nobody answers for names while there is nothing.
type Answer = Arc<Mutex<Option<Vec<IpAddr>>>>;

/// A name server with records that live for a second.
struct Names {
    address: SocketAddr,
    answer: Answer,
    questions: Arc<AtomicUsize>,
}

impl Names {
    fn start(addresses: &[&str]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let answer = Answer::default();
        let questions = Arc::new(AtomicUsize::new(0));
        let names = Self { address, answer: Arc::clone(&answer), questions: Arc::clone(&questions) };
        names.set(addresses);
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                questions.fetch_add(1, Ordering::SeqCst);
                let told =
                    answered(&Message::from_vec(&question[..length]).unwrap(), answer.lock().unwrap().as_deref());
                socket.send_to(&told.to_vec().unwrap(), from).unwrap();
            }
        });
        names
    }

    fn set(&self, addresses: &[&str]) {
        *self.answer.lock().unwrap() = Some(addresses.iter().map(|text| text.parse().unwrap()).collect());
    }

    fn fail(&self) {
        *self.answer.lock().unwrap() = None;
    }

    /// A daemon that asks it for its origin's address, and keeps no connection.
    fn edge(&self, origin: &str) -> Edge {
        Edge::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), |config: &mut Value| {
            config["workers"] = json!(1);
            config["resolver"] = json!({ "servers": [self.address.to_string()] });
            config["timeouts"] = json!({ "connect": "30s" });
            config["upstreams"]["origin"] = json!({ "servers": [format!("http://{origin}")], "keepalive": 0 });
        })
    }
}

fn answered(question: &Message, addresses: Option<&[IpAddr]>) -> Message {
    let mut told = Message::response(question.metadata.id, OpCode::Query);
    told.metadata.recursion_desired = question.metadata.recursion_desired;
    told.metadata.recursion_available = true;
    let query = question.queries[0].clone();
    let Some(addresses) = addresses else {
        told.metadata.response_code = ResponseCode::ServFail;
        told.add_query(query);
        return told;
    };
    for address in addresses {
        let data = match (address, query.query_type()) {
            (IpAddr::V4(v4), RecordType::A) => RData::A(A(*v4)),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(*v6)),
            _ => continue,
        };
        told.add_answer(Record::from_rdata(query.name().clone(), 1, data));
    }
    told.add_query(query);
    told
}

/// Two origins on one port of two addresses.
fn pair() -> (Origin, Origin) {
    loop {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind(("127.0.0.2", port)) {
            return (Origin::on(one, "one"), Origin::on(two, "two"));
        }
    }
}

#[test]
fn names_are_asked_again_when_their_time_is_over_and_the_last_good_answer_stays() {
    let (one, _two) = pair();
    let names = Names::start(&["127.0.0.1"]);
    let edge = names.edge(&format!("app.test:{}", one.address.port()));
    let mut client = edge.connect();
    assert_eq!(client.get("/name").body, "one");
    names.set(&["127.0.0.2"]);
    wait_for("the new address", || match client.get("/name").body.as_str() {
        "two" => Ok(()),
        other => Err(other.to_owned()),
    });
    names.fail();
    wait_for("a question without an answer", || {
        assert_eq!(client.get("/name").body, "two");
        let (status, log) = (client.get("/name").status, edge.log());
        assert_eq!(status, 200);
        if log.contains("the name of an origin cannot be looked up") { Ok(()) } else { Err(String::new()) }
    });
    assert_eq!(client.get("/name").body, "two", "the last good address");
    names.set(&["127.0.0.1"]);
    wait_for("the address after the failure", || match client.get("/name").body.as_str() {
        "one" => Ok(()),
        other => Err(other.to_owned()),
    });
}

/// A listener that takes no connection: its queue is full.
fn deaf(port: u16) -> (socket2::Socket, Vec<TcpStream>) {
    let address = SocketAddr::from(([127, 0, 0, 3], port));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let mut queued = Vec::new();
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            Ok(stream) => queued.push(stream),
            Err(_) => return (socket, queued),
        }
    }
}

#[test]
fn addresses_that_refuse_or_do_not_answer_are_passed_over() {
    let (one, _two) = pair();
    let port = one.address.port();
    let _deaf = deaf(port);
    // Nobody listens on the first, nobody answers on the second.
    let names = Names::start(&["127.0.0.3", "127.0.0.1", "::1"]);
    let edge = names.edge(&format!("app.test:{port}"));
    let mut client = edge.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/name").body, "one");
    }
}

#[test]
fn names_of_the_hosts_file_are_not_asked_for() {
    let (one, _two) = pair();
    let names = Names::start(&["127.0.0.2"]);
    let edge = names.edge(&format!("localhost:{}", one.address.port()));
    assert_eq!(edge.get("/name").body, "one");
    assert_eq!(names.questions.load(Ordering::SeqCst), 0);
}

#[test]
fn a_name_without_addresses_is_an_upstream_that_cannot_be_reached() {
    let names = Names::start(&[]);
    let edge = names.edge("app.test:1");
    assert_eq!(edge.get("/name").status, 503);
    names.fail();
    assert_eq!(edge.get("/name").status, 503);
}
