//! An origin that keeps every byte it was sent, a connection's in one piece, and says whether it could be read in two ways.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long it waits for the rest of a request.
const PATIENCE: Duration = Duration::from_secs(20);

/// The origin; it ends with the test process. It answers one request a connection, and only a whole one.
pub struct Recorder {
    /// Where it listens.
    pub address: SocketAddr,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Starts it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
        let kept = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || record(stream, &kept));
            }
        });
        Self { address, sent }
    }

    /// What connections have sent, from the `mark`th that sent anything.
    pub fn since(&self, mark: usize) -> Vec<Vec<u8>> {
        self.sent.lock().unwrap().get(mark..).unwrap_or_default().to_vec()
    }
}

/// A connection gets its place with its first bytes, and keeps it.
fn record(mut stream: TcpStream, kept: &Mutex<Vec<Vec<u8>>>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut place, mut bytes) = (None, vec![0; 64 << 10]);
    loop {
        let count = stream.read(&mut bytes).unwrap_or(0);
        if count == 0 {
            return;
        }
        let mut kept = kept.lock().unwrap();
        let place = *place.get_or_insert_with(|| {
            kept.push(Vec::new());
            kept.len() - 1
        });
        kept[place].extend_from_slice(&bytes[..count]);
        if is_whole(&kept[place]) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            return;
        }
    }
}

/// Head and body; none before the head is whole.
fn parts(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&bytes[..end]).unwrap_or("not text"), &bytes[end + 4..]))
}

fn fields<'a>(head: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    head.split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter_map(move |(found, value)| found.eq_ignore_ascii_case(name).then_some(value.trim()))
}

/// Whether this begins with a whole request.
pub fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = parts(bytes) else { return false };
    if fields(head, "transfer-encoding").next().is_some() {
        // Written by the proxy: the last chunk stands alone on its line.
        return body.starts_with(b"0\r\n") && body.ends_with(b"\r\n\r\n")
            || body.windows(5).any(|five| five == b"\r\n0\r\n") && body.ends_with(b"\r\n\r\n");
    }
    let length = fields(head, "content-length").next().map_or(0, |length| length.parse().unwrap_or(usize::MAX));
    body.len() >= length
}

/// Why a request could be read in two ways.
pub fn ambiguous(bytes: &[u8]) -> Option<String> {
    let Some((head, body)) = parts(bytes) else { return Some("no whole head".to_owned()) };
    let why = |what: &str| Some(format!("{what} in {head:?}"));
    let (hosts, lengths, codings) =
        ["host", "content-length", "transfer-encoding"].map(|name| fields(head, name).count()).into();
    if hosts != 1 {
        return why("not one host");
    }
    if lengths + codings > 1 {
        return why("more than one framing");
    }
    if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return why("a bare CR, LF or NUL");
    }
    if head.split("\r\n").skip(1).any(|line| {
        let name = line.split_once(':').map_or("", |(name, _)| name);
        name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    }) {
        return why("a line that is no field");
    }
    let first: Vec<&str> = head.split("\r\n").next().unwrap_or_default().split(' ').collect();
    if first.len() != 3 || first.last() != Some(&"HTTP/1.1") {
        return why("a request line that is none");
    }
    if codings == 0 {
        let length = fields(head, "content-length").next().map_or(0, |length| length.parse().unwrap_or(usize::MAX));
        if body.len() != length {
            return why("another length than declared");
        }
    }
    None
}
