//! The real binary against a real admin socket: what people see, what programs see, and the exit status.

#[path = "support/state.rs"]
mod state;
mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use proxy_user::control;
use proxy_user::kernel::Applied;
use proxy_user::shared::{self, Reloaded};
use proxy_user::stats::bump;
use serde_json::Value;
use state::{MISSING, shared};
use support::Scratch;
use tokio::sync::oneshot;

/// A daemon's control half on a thread of its own, with a supervisor that refuses worker 9 and reloads once.
struct Daemon {
    socket: PathBuf,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _scratch: Scratch,
}

impl Daemon {
    fn start(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let (shared, mut commands) = shared(&scratch);
        shared.stats[0].accepting.store(true, Ordering::Relaxed);
        bump(&shared.stats[0].accepted, 42);
        let (end, ended) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let handle = control::start(shared).unwrap();
                ready.send(handle.socket().to_owned()).unwrap();
                let mut reloads = 0;
                let supervisor = async {
                    while let Some(command) = commands.recv().await {
                        match command {
                            shared::Command::Reload(_, reply) if reloads == 0 => {
                                reloads += 1;
                                let kernel = Applied { written: 3, removed: 0, retracted: 1 };
                                let needs_restart = vec!["/workers".to_owned()];
                                let _ = reply.send(Ok(Reloaded { generation: 8, kernel, needs_restart, held: None }));
                            }
                            shared::Command::Reload(_, reply) => {
                                let _ = reply.send(Err("p.json:3:9: /rules/0/when: unknown field".to_owned()));
                            }
                            shared::Command::StopWorker(9, reply) | shared::Command::StartWorker(9, reply) => {
                                let _ = reply.send(Err("there is no worker 9".to_owned()));
                            }
                            shared::Command::StopWorker(_, reply) | shared::Command::StartWorker(_, reply) => {
                                let _ = reply.send(Ok(()));
                            }
                            _ => {}
                        }
                    }
                };
                tokio::select! { () = supervisor => {}, _ = ended => {} }
            });
        });
        let socket = is_ready.recv().unwrap();
        Self { socket, end: Some(end), thread: Some(thread), _scratch: scratch }
    }

    fn ask(&self, args: &[&str]) -> Output {
        let binary = env!("CARGO_BIN_EXE_tidegate");
        Command::new(binary).args(args).arg("--socket").arg(&self.socket).output().expect("the binary runs")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.end.take().map(|end| end.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn status_reads_well_and_parses_well() {
    let daemon = Daemon::start("remote-status");
    let out = daemon.ask(&["status"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(!said.contains('\u{1b}'), "colour into a pipe: {said}");
    for part in ["generation 7", MISSING, "web 127.0.0.1:8443 https + http3", "policies/*.json", "accepting", "42"] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let status: Value = serde_json::from_slice(&daemon.ask(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["workers"][0]["accepted"], 42);
    assert_eq!(status["workers"][0]["accepting"], true);
    assert_eq!(status["kernel"], Value::Null);
    assert_eq!(status["pid"], std::process::id());
}

#[test]
fn workers_are_listed_stopped_and_started() {
    let daemon = Daemon::start("remote-worker");
    let out = daemon.ask(&["worker", "list"]);
    let lines = text(&out.stdout).lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>();
    assert_eq!(lines[0], ["worker", "state", "active", "accepted", "h1", "h2", "h3"]);
    assert_eq!(lines[1], ["0", "accepting", "0", "42", "0", "0", "0"]);
    assert_eq!(lines[2][1], "out");
    assert_eq!(daemon.ask(&["worker", "stop", "1"]).status.code(), Some(0));
    assert_eq!(daemon.ask(&["worker", "start", "1"]).status.code(), Some(0));
    let out = daemon.ask(&["worker", "stop", "9"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("there is no worker 9") && text(&out.stderr).contains("worker list"));
}

#[test]
fn a_reload_tells_what_it_did_and_a_failed_one_what_is_wrong() {
    let daemon = Daemon::start("remote-reload");
    let out = daemon.ask(&["reload"]);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0));
    assert!(
        said.contains("generation 8") && said.contains("1 verdicts retracted") && said.contains("/workers"),
        "{said}"
    );
    let out = daemon.ask(&["reload", "--json"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    assert!(said.contains("p.json:3:9") && said.contains("nothing was changed"), "{said}");
}

#[test]
fn verdicts_without_the_kernel_half_are_refused_with_the_reason() {
    let daemon = Daemon::start("remote-verdict");
    for args in [
        &["verdict", "list"][..],
        &["verdict", "add", "2001:db8::/64", "--ttl", "1h"],
        &["verdict", "remove", "2001:db8::/64"],
        &["counters"],
    ] {
        let out = daemon.ask(args);
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        assert!(text(&out.stderr).contains(MISSING), "{args:?}: {}", text(&out.stderr));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let daemon = Daemon::start("remote-pipe");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["status", "--socket"])
        .arg(&daemon.socket)
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

/// A copy of the binary that any user may run, wherever the build directory is.
fn copy_for_anyone(scratch: &Scratch) -> PathBuf {
    let copy = scratch.path().join("tidegate");
    std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), &copy).unwrap();
    for path in [scratch.path(), &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

#[test]
fn a_user_without_the_right_is_told_so() {
    const NOBODY: u32 = 65_534;
    let scratch = Scratch::new("remote-denied");
    let socket: &Path = &scratch.path().join("admin.sock");
    let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = Command::new(copy_for_anyone(&scratch));
    command.args(["status", "--socket"]).arg(socket);
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let out = command.output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    assert!(said.contains("not permitted") && said.contains("run as root"), "{said}");
}
