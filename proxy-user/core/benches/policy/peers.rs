//! nginx and `HAProxy` with the same rules: what a request costs them with the rules, less what it costs without.
//!
//! Each is one process on loopback that answers by itself. One connection asks it over and over, for a bounded time, and the
//! CPU time is read from the scheduler's accounts, so that other programs on the machine do not count.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::rules::{self, innocent};

/// Time of one measurement.
const TIME: Duration = Duration::from_millis(1_500);
/// Most requests of one; what is cheap needs no more.
const REQUESTS: u32 = 20_000;
/// Rounds, with and without rules in turn; the least of each counts.
const ROUNDS: usize = 3;
/// How long a peer may take to start, with ten thousand rules, and to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `map`, `geo` and `if`.
    Nginx,
    /// ACLs with pattern files.
    Haproxy,
}

impl Peer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nginx, Self::Haproxy];

    /// Its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// The program, if it is installed.
    pub fn program(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        std::env::split_paths(&path).chain(system).map(|dir| dir.join(self.name())).find(|file| file.is_file())
    }

    /// Nanoseconds of CPU that so many rules take for the request that matches none.
    pub fn measure(self, program: &Path, count: usize) -> f64 {
        let with = Running::start(self, program, count);
        let without = Running::start(self, program, 0);
        assert_eq!(with.ask(&rules::guilty(count)), 403, "{} lets through what a rule forbids", self.name());
        let mut least = [f64::INFINITY; 2];
        for _ in 0..ROUNDS {
            for (least, running) in least.iter_mut().zip([&with, &without]) {
                *least = least.min(running.cost());
            }
        }
        least[0] - least[1]
    }

    /// Writes the config of so many rules into `dir`.
    fn configure(self, dir: &Path, address: SocketAddr, count: usize) {
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("writing a peer's config");
        match self {
            Self::Nginx => {
                let (maps, ask) = match count {
                    0 => (String::new(), ""),
                    _ => (rules::nginx(count), "if ($bad) { return 403; }"),
                };
                write(
                    "nginx.conf",
                    &format!(
                        "daemon off;\nmaster_process off;\npid {0}/nginx.pid;\nerror_log stderr crit;\npcre_jit on;\n\
                         events {{ worker_connections 16; }}\n\
                         http {{\naccess_log off;\nkeepalive_requests 10000000;\nmap_hash_max_size 65536;\n\
                         map_hash_bucket_size 256;\n{maps}\
                         server {{ listen {address}; {ask} location / {{ return 200 \"ok\"; }} }}\n}}\n",
                        dir.display()
                    ),
                );
            }
            Self::Haproxy => {
                let (files, ask) = if count == 0 { (Vec::new(), String::new()) } else { rules::haproxy(count) };
                for (name, text) in &files {
                    write(name, text);
                }
                write(
                    "haproxy.cfg",
                    &format!(
                        "global\n  nbthread 1\n  default-path config\ndefaults\n  mode http\n  timeout client 60s\n  timeout \
                         server 60s\n  timeout connect 60s\nfrontend in\n  bind {address}\n{ask}  http-request return status \
                         200 content-type text/plain string ok\n"
                    ),
                );
            }
        }
    }
}

/// A peer that serves; ended and removed when dropped.
struct Running {
    child: Child,
    dir: PathBuf,
    address: SocketAddr,
}

impl Running {
    fn start(peer: Peer, program: &Path, count: usize) -> Self {
        let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("a free port");
        let name = format!("tidegate-bench-{}-{}-{count}", peer.name(), std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("a directory for a peer");
        peer.configure(&dir, address, count);
        let mut command = Command::new(program);
        match peer {
            Peer::Nginx => command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(&dir),
            Peer::Haproxy => command.arg("-f").arg(dir.join("haproxy.cfg")).arg("-db"),
        };
        command.current_dir(&dir).stdin(Stdio::null());
        let child = command.spawn().expect("starting a peer");
        let running = Self { child, dir, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < PATIENCE, "{} does not listen", peer.name());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(running.ask(&innocent(0)), 200, "{} refuses what no rule forbids", peer.name());
        running
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection to a peer");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream
    }

    /// The status of one request.
    fn ask(&self, path: &str) -> u16 {
        exchange(&mut self.connect(), &rules::wire(path))
    }

    /// Nanoseconds of CPU a request.
    fn cost(&self) -> f64 {
        let mut stream = self.connect();
        assert_eq!(exchange(&mut stream, &rules::wire(&innocent(0))), 200);
        let (started, before, mut requests) = (Instant::now(), self.cpu(), 0);
        while requests < REQUESTS && started.elapsed() < TIME {
            requests += 1;
            exchange(&mut stream, &rules::wire(&innocent(requests)));
        }
        (self.cpu() - before) / f64::from(requests)
    }

    /// Nanoseconds of CPU so far; the process has one thread (`proc_pid_schedstat(5)`).
    fn cpu(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.child.id())).expect("schedstat");
        text.split(' ').next().and_then(|text| text.parse().ok()).expect("nanoseconds")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// One request and its answer, which has a length.
fn exchange(stream: &mut TcpStream, wire: &str) -> u16 {
    stream.write_all(wire.as_bytes()).expect("sending to a peer");
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let count = stream.read(&mut piece).expect("an answer of a peer");
        assert!(count > 0, "a peer closed its connection: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
        if body.len() >= length.expect("an answer with a length") {
            return head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        }
    }
}
