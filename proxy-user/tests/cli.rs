//! The real binary's command line: help, usage errors, generated files, and what it says when no daemon answers.

mod support;

use std::process::{Command, Output};

use support::Scratch;

const COMMANDS: [&str; 13] = [
    "run",
    "check",
    "status",
    "policy",
    "list",
    "verdict",
    "worker",
    "reload",
    "counters",
    "unload",
    "schema",
    "completions",
    "man",
];

fn tidegate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate")).args(args).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn help_names_every_command_and_each_has_its_own_with_an_example() {
    let help = tidegate(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let overview = text(&help.stdout);
    assert!(!overview.contains('\u{1b}'), "colour into a pipe:\n{overview}");
    for command in COMMANDS {
        assert!(overview.contains(&format!("  {command}")), "{command} is missing in\n{overview}");
        let help = tidegate(&[command, "--help"]);
        let page = text(&help.stdout);
        assert_eq!(help.status.code(), Some(0), "{command}");
        assert!(page.contains("Example"), "{command} shows no example:\n{page}");
    }
    let version = tidegate(&["--version"]);
    assert_eq!(text(&version.stdout), format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn usage_errors_end_with_2_and_say_what_was_expected() {
    let rows: [(&[&str], &str); 9] = [
        (&[], "Usage:"),
        (&["statsu"], "status"),
        (&["verdict", "add", "192.0.2.1"], "--ttl"),
        (&["verdict", "add", "192.0.2.1", "--ttl", "soon"], "not a duration"),
        (&["verdict", "add", "example.com", "--ttl", "1m"], "not a source"),
        (&["verdict", "remove", "192.0.2.0/33"], "deny list"),
        (&["verdict", "list", "--limit", "0"], "1..="),
        (&["worker", "stop", "two"], "invalid digit"),
        (&["completions", "tcsh"], "bash"),
    ];
    for (args, expected) in rows {
        let out = tidegate(args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn without_a_daemon_each_command_says_what_to_do() {
    let scratch = Scratch::new("cli-absent");
    let socket = scratch.path().join("admin.sock");
    let socket = socket.to_str().unwrap();
    let rows: [&[&str]; 8] = [
        &["status", "--socket", socket],
        &["status", "--json", "--socket", socket],
        &["verdict", "list", "--socket", socket],
        &["verdict", "add", "192.0.2.1", "--ttl", "1m", "--socket", socket],
        &["verdict", "remove", "192.0.2.1", "--socket", socket],
        &["worker", "list", "--socket", socket],
        &["reload", "--socket", socket],
        &["counters", "--socket", socket],
    ];
    for args in rows {
        let out = tidegate(args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(socket) && said.contains("is tidegate running?"), "{args:?}: {said}");
        assert_eq!(said.matches("No such file").count(), 1, "told twice: {said}");
        assert!(out.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_socket_of_another_program_is_recognised() {
    use std::io::{Read as _, Write as _};
    let scratch = Scratch::new("cli-foreign");
    let path = scratch.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
    });
    let out = tidegate(&["status", "--socket", path.to_str().unwrap()]);
    other.join().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("does not speak tidegate's admin API"), "{}", text(&out.stderr));
}

#[test]
fn completions_are_written_for_each_shell() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef tidegate"), ("fish", "complete -c tidegate")] {
        let out = tidegate(&["completions", shell]);
        assert_eq!(out.status.code(), Some(0), "{shell}");
        let script = text(&out.stdout);
        assert!(script.contains(mark), "{shell}");
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
}

#[test]
fn manual_pages_are_written_for_each_command() {
    let scratch = Scratch::new("cli-man");
    let dir = scratch.path().join("man1");
    let out = tidegate(&["man", "--dir", dir.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    for command in COMMANDS {
        let page = std::fs::read_to_string(dir.join(format!("tidegate-{command}.1"))).unwrap();
        assert!(page.contains(".TH ") && page.contains("SYNOPSIS"), "{command}: {page}");
    }
    let page = tidegate(&["man"]);
    assert!(text(&page.stdout).contains(".TH tidegate 1"), "{}", text(&page.stdout));
    assert_eq!(std::fs::read_to_string(dir.join("tidegate.1")).unwrap(), text(&page.stdout));
}

#[test]
fn schemas_are_json() {
    let out = tidegate(&["schema", "config"]);
    let schema: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(schema["properties"]["listeners"]["type"], "array");
    assert_eq!(schema["additionalProperties"], false);
    let out = tidegate(&["schema", "policy"]);
    let schema: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(schema["properties"]["rules"]["type"], "array");
}
