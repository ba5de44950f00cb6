//! Servers that fail on purpose, each in its way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What becomes of a request.
#[derive(Clone, Copy)]
pub enum Way {
    /// These bytes, whatever they are, and the connection's end.
    Answer(&'static str),
    /// These bytes, and a reset.
    Reset(&'static str),
    /// Nothing at all.
    Hang,
    /// Nothing at all, and it does not even read on.
    Deaf,
}

/// A running one; it ends with the test process.
pub struct Bad {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
}

impl Bad {
    /// Starts one.
    pub fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let left = Arc::new(AtomicUsize::new(0));
        let (counted, given_up) = (Arc::clone(&requests), Arc::clone(&left));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, given_up) = (Arc::clone(&counted), Arc::clone(&given_up));
                std::thread::spawn(move || {
                    fail(stream, way, &counted);
                    given_up.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, requests, left }
    }

    /// Connections that are over; of those that hang, because the other side gave them up.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    /// Requests that it got.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn fail(mut stream: TcpStream, way: Way, counted: &AtomicUsize) {
    if !stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
        return;
    }
    counted.fetch_add(1, Ordering::SeqCst);
    match way {
        // The other side may have left.
        Way::Answer(answer) => drop(stream.write_all(answer.as_bytes())),
        Way::Reset(answer) => {
            let _ = stream.write_all(answer.as_bytes());
            // What was sent shall arrive before the reset, which throws away what the other side has not read.
            std::thread::sleep(Duration::from_millis(200));
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        // Until the other side has had enough.
        Way::Hang => drop(stream.read(&mut [0; 1])),
        Way::Deaf => std::thread::sleep(Duration::from_secs(3600)),
    }
}
