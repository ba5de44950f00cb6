//! The real daemon, as a process of its own, on ports and files of its own.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon; ended when dropped.
pub struct Edge {
    child: Child,
    directory: PathBuf,
    config: Value,
    log: Arc<Mutex<String>>,
    /// Clear-text listener.
    pub http: SocketAddr,
    /// TLS and QUIC listener.
    pub https: SocketAddr,
}

impl Edge {
    /// Starts one before `origin`; `change` may alter the config first.
    pub fn start(origin: SocketAddr, change: impl FnOnce(&mut Value)) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let directory = std::env::temp_dir().join(format!("tidegate-proxy-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        write_certificate(&directory, "first.test");
        let (http, https) = (free_port(), free_port());
        let mut config = json!({
            "workers": 2,
            "listeners": [
                { "name": "clear", "address": http.to_string(), "protocol": "http" },
                { "name": "tls", "address": https.to_string(), "protocol": "https", "http3": true },
            ],
            "certificates": [{ "cert": "cert.pem", "key": "key.pem" }],
            "routes": [{ "upstream": "origin" }],
            "upstreams": { "origin": { "servers": [format!("http://{origin}")] } },
            "gate": { "enabled": false },
            "admin": { "socket": directory.join("admin.sock") },
            "state_dir": "state",
            "access_log": { "file": "access.log" },
        });
        change(&mut config);
        let file = directory.join("tidegate.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let edge = Self { child: spawn(&file, &log), directory, config, log, http, https };
        edge.wait_log("tidegate is ready", 1);
        edge
    }

    /// Ends the daemon and starts another one on the same files.
    pub fn restart(&mut self) {
        self.signal("TERM");
        assert!(self.wait_end());
        let before = self.log.lock().unwrap().matches("tidegate is ready").count();
        self.child = spawn(&self.directory.join("tidegate.json"), &self.log);
        self.wait_log("tidegate is ready", before + 1);
    }

    /// `tidegate` with these words on this daemon's socket, in its directory; with its exit status and what it said.
    pub fn ask(&self, words: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.current_dir(&self.directory).args(words).args(["--socket", "admin.sock"]);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8(said).unwrap())
    }

    /// Directory of its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Most bytes that the daemon had in memory so far.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Waits until its log holds `text` so many times.
    pub fn wait_log(&self, text: &str, times: usize) {
        wait_for(&format!("{times} of {text:?} in the log"), || {
            let log = self.log.lock().unwrap();
            if log.matches(text).count() >= times { Ok(()) } else { Err(log.clone()) }
        });
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Lines of the access log, once there are so many.
    pub fn access_log(&self, lines: usize) -> Vec<Value> {
        wait_for("access log", || {
            let text = std::fs::read_to_string(self.directory.join("access.log")).unwrap_or_default();
            let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if found.len() >= lines { Ok(found) } else { Err(text) }
        })
    }

    /// Changes the config file and sends SIGHUP.
    pub fn reload(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        std::fs::write(self.directory.join("tidegate.json"), self.config.to_string()).unwrap();
        self.signal("HUP");
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for the process to end; whether with success.
    pub fn wait_end(&mut self) -> bool {
        wait_for("the end of the daemon", || match self.child.try_wait().unwrap() {
            Some(status) => Ok(status.success()),
            None => Err(String::new()),
        })
    }

    /// A client connection in clear text.
    pub fn connect(&self) -> Client {
        Client::connect(self.http)
    }

    /// One request over a connection of its own.
    pub fn get(&self, path: &str) -> Reply {
        self.connect().get(path)
    }

    /// curl with these arguments; its output, or what it said of its failure.
    pub fn curl(&self, arguments: &[&str], path: &str) -> String {
        let url = format!("https://first.test:{}{path}", self.https.port());
        let resolve = format!("first.test:{}:127.0.0.1", self.https.port());
        let output = Command::new("curl")
            .args(["-sSk", "--max-time", "15", "--resolve", &resolve])
            .args(arguments)
            .arg(url)
            .output()
            .expect("curl is needed: apt-get install curl");
        assert!(output.status.success(), "curl {arguments:?} {path}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the daemon ---\n{}", self.log.lock().unwrap());
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(config: &Path, log: &Arc<Mutex<String>>) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "--config"])
        .arg(config)
        .env("TIDEGATE_LOG", "info,proxy_user=debug")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let sink = Arc::clone(log);
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let mut log = sink.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
    child
}

/// A client over a plain socket.
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// A response as it stood on the wire.
#[derive(Debug)]
pub struct Reply {
    /// Status, or 0 where the connection ended without one.
    pub status: u16,
    /// Status line and fields.
    pub head: String,
    /// Body, chunked coding undone.
    pub body: String,
    /// Trailer lines.
    pub trailers: String,
}

impl Reply {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, wire: &str) -> &mut Self {
        self.stream.write_all(wire.as_bytes()).unwrap();
        self
    }

    /// A GET and its response.
    pub fn get(&mut self, path: &str) -> Reply {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: first.test\r\n\r\n")).reply("GET")
    }

    /// Status line and fields of a response; empty where the connection ended.
    pub fn head(&mut self) -> String {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                return head;
            }
            head.push_str(line.trim_end());
            head.push('\n');
        }
    }

    /// Exactly so many bytes.
    pub fn bytes(&mut self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Whether the other side has closed.
    pub fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            // Nothing came, and it is open.
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// A whole response to `method`.
    pub fn reply(&mut self, method: &str) -> Reply {
        let head = self.head();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let mut reply = Reply { status, head, body: String::new(), trailers: String::new() };
        if method == "HEAD" || status == 204 || status == 304 || status == 0 {
            return reply;
        }
        if let Some(length) = reply.field("content-length") {
            let length = length.parse().unwrap();
            reply.body = self.bytes(length);
        } else if reply.field("transfer-encoding").is_some() {
            loop {
                let mut size = String::new();
                self.reader.read_line(&mut size).unwrap();
                match usize::from_str_radix(size.trim(), 16).unwrap() {
                    0 => break,
                    size => reply.body.push_str(self.bytes(size + 2).strip_suffix("\r\n").unwrap()),
                }
            }
            reply.trailers = self.head();
        }
        reply
    }
}

/// Asks again until there is an answer; fails with the last refusal.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) => assert!(Instant::now() < until, "waited in vain for {what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes `cert.pem` and `key.pem` for a name, key first, each whole.
pub fn write_certificate(directory: &Path, name: &str) {
    let made = rcgen::generate_simple_self_signed([name.to_owned(), format!("*.{name}")]).unwrap();
    for (file, text) in [("key.pem", made.signing_key.serialize_pem()), ("cert.pem", made.cert.pem())] {
        let new = directory.join("new.pem");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, directory.join(file)).unwrap();
    }
}

/// An address that nobody listens on, of neither TCP nor UDP.
pub fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if std::net::UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
