//! An origin over plain sockets, told by the request's path what to do. It knows nothing of hyper, so that what it sees
//! is what stood on the wire.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A running origin; it ends with the test process.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections accepted so far.
    pub connections: Arc<AtomicUsize>,
    /// Requests answered or begun so far.
    pub requests: Arc<AtomicUsize>,
    held: Arc<Held>,
    seen: Arc<Mutex<Vec<String>>>,
}

/// What waits for the test's word.
#[derive(Default)]
struct Held {
    released: Mutex<usize>,
    changed: Condvar,
}

impl Held {
    fn wait(&self) {
        let mut released = self.changed.wait_while(self.released.lock().unwrap(), |left| *left == 0).unwrap();
        *released -= 1;
    }
}

/// What one request looked like.
struct Seen {
    head: String,
    path: String,
    method: String,
    body: Vec<u8>,
    trailers: String,
}

impl Origin {
    /// Starts one that puts `name` into its answers.
    pub fn start(name: &'static str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), name)
    }

    /// The same on a listener that is there.
    pub fn on(listener: TcpListener, name: &'static str) -> Self {
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(AtomicUsize::new(0));
        let held = Arc::new(Held::default());
        let (accepted, answered, waiting) = (Arc::clone(&connections), Arc::clone(&requests), Arc::clone(&held));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (answered, waiting, noted) = (Arc::clone(&answered), Arc::clone(&waiting), Arc::clone(&noted));
                // A client that leaves ends its thread with an error, which is of no interest.
                std::thread::spawn(move || drop(serve(stream, name, &answered, &waiting, &noted)));
            }
        });
        Self { address, connections, requests, held, seen }
    }

    /// Lets one `/hold`, or one more event of `/events`, go on.
    pub fn release(&self) {
        *self.held.released.lock().unwrap() += 1;
        self.held.changed.notify_one();
    }

    /// Method, path and body of each request so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Requests answered or begun so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(
    stream: TcpStream,
    name: &str,
    answered: &AtomicUsize,
    held: &Held,
    noted: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    while let Some(seen) = read_request(&mut reader, &mut out)? {
        noted.lock().unwrap().push(format!("{} {} {}", seen.method, seen.path, String::from_utf8_lossy(&seen.body)));
        answered.fetch_add(1, Ordering::SeqCst);
        let (path, argument) = seen.path.split_once('=').unwrap_or((&seen.path, ""));
        match path {
            "/chunked-with-trailers" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")?;
                out.write_all(b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")?;
            }
            "/first-then-wait" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
                std::thread::sleep(Duration::from_millis(argument.parse().unwrap()));
                out.write_all(b"-last")?;
            }
            "/wait" => {
                std::thread::sleep(Duration::from_millis(argument.parse().unwrap()));
                text(&mut out, "waited")?;
            }
            "/large" => {
                let size: usize = argument.parse().unwrap();
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
                out.write_all(&vec![b'x'; size])?;
            }
            "/half-then-close" => {
                out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
                return Ok(());
            }
            "/close-without-answer" => return Ok(()),
            "/answer-then-close" => {
                // No `Connection: close`: the proxy has to find out.
                text(&mut out, "closing")?;
                return Ok(());
            }
            "/not-http" => {
                out.write_all(b"what?\r\n\r\n")?;
                return Ok(());
            }
            "/no-content" => out.write_all(b"HTTP/1.1 204 No Content\r\nX-Origin: yes\r\n\r\n")?,
            "/not-modified" => {
                out.write_all(b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 1234\r\n\r\n")?;
            }
            "/hop" => {
                out.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
                      Keep-Alive: timeout=9\r\nX-End: 1\r\n\r\nok",
                )?;
            }
            "/name" => text(&mut out, name)?,
            "/hints" => {
                out.write_all(
                    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Secret: 1\r\n\r\n\
                      HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n",
                )?;
                held.wait();
                text(&mut out, name)?;
            }
            "/hold" => {
                held.wait();
                text(&mut out, name)?;
            }
            "/events" => {
                out.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
                )?;
                for number in 0..3 {
                    held.wait();
                    write!(out, "9\r\ndata: {number}\n\n\r\n")?;
                }
                out.write_all(b"0\r\n\r\n")?;
            }
            "/status" => write!(
                out,
                "HTTP/1.1 {argument} Said\r\nContent-Type: text/x-origin\r\nContent-Encoding: x-none\r\nRetry-After: 7\r\n\
                 Content-Length: 6\r\n\r\n{}",
                if seen.method == "HEAD" { "" } else { "origin" }
            )?,
            _ if seen.method == "HEAD" => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")?,
            // Whatever else: what was seen.
            _ => {
                let body = String::from_utf8_lossy(&seen.body);
                text(&mut out, &format!("{}\n--body--\n{body}\n--trailers--\n{}", seen.head, seen.trailers))?;
            }
        }
    }
    Ok(())
}

fn text(out: &mut TcpStream, text: &str) -> std::io::Result<()> {
    // One write: two would meet the other side's delayed acknowledgement.
    out.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes())
}

fn read_request(reader: &mut BufReader<TcpStream>, out: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let head = read_head(reader)?;
    if head.is_empty() {
        return Ok(None);
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let (mut body, mut trailers) = (Vec::new(), String::new());
    if path == "/answer-before-body" {
        text(out, "early")?;
    }
    if let Some(length) = field("content-length") {
        body.resize(length.parse().unwrap(), 0);
        reader.read_exact(&mut body)?;
    } else if field("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            if size == 0 {
                trailers = read_head(reader)?;
                break;
            }
            let from = body.len();
            body.resize(from + size + 2, 0);
            reader.read_exact(&mut body[from..])?;
            body.truncate(from + size);
        }
    }
    Ok(Some(Seen { head, path, method, body, trailers }))
}

/// Lines up to an empty one.
fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(head);
        }
        head.push_str(line.trim_end());
        head.push('\n');
    }
}
