//! Files below a directory, beside a real nginx on the same tree: what both answer has to be the same.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::edge::{Client, Edge, PATIENCE, wait_for};
use crate::origin::Origin;

/// A tree of files, and nginx on it.
struct Tree {
    directory: PathBuf,
    nginx: Child,
    address: SocketAddr,
}

impl Tree {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tidegate-files-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let root = directory.join("www");
        std::fs::create_dir_all(root.join("sub/empty")).unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(root.join(name), text).unwrap();
        write("a.txt", b"0123456789");
        write("index.html", b"<p>index");
        write("sub/index.html", b"<p>sub");
        write("empty.css", b"");
        write("no-extension", b"?");
        write("a b.js", b"let a;");
        write("page.html", b"plain");
        write("page.html.gz", b"not really gzip");
        write("page.html.br", b"not really brotli");
        write(".secret", b"secret");
        write("large.bin", &(0..1_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        std::fs::write(directory.join("outside"), "outside").unwrap();
        symlink("../outside", root.join("up")).unwrap();
        symlink("a.txt", root.join("link.txt")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;
             events {{}}
             http {{
               access_log off; types {{ text/plain txt; text/html html; text/css css; text/javascript js; }}
               default_type application/octet-stream; absolute_redirect off; gzip_static on; gzip_vary on;
               client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3;
               uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;
               server {{ listen {address}; root {0}/www; }}
             }}",
            directory.display()
        );
        std::fs::write(directory.join("nginx.conf"), config).unwrap();
        let nginx = Command::new("nginx")
            .args(["-p".as_ref(), directory.as_os_str(), "-c".as_ref(), directory.join("nginx.conf").as_os_str()])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx; `cargo xtask setup` installs it");
        wait_for("nginx", || TcpStream::connect(address).map_err(|error| error.to_string()));
        Self { directory, nginx, address }
    }

    fn root(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Before `tree`, at `/` and, with other settings, at `/below`.
fn edge(tree: &Tree) -> Edge {
    let origin = Origin::start("unused");
    let root = tree.root().join("www");
    Edge::start(origin.address, |config| {
        config["routes"] = json!([
            {"files": {"root": root}},
            {"path": "/below", "files": {"root": root, "precompressed": true, "index": ["page.html"], "hidden": true},
             "error_pages": {"404": {"body": "not here"}}},
        ]);
    })
}

struct Answer {
    status: u16,
    fields: Vec<(&'static str, Option<String>)>,
    body: Vec<u8>,
}

/// Fields that must be the same.
const FIELDS: [&str; 8] = [
    "content-length",
    "content-range",
    "content-type",
    "content-encoding",
    "etag",
    "last-modified",
    "location",
    "accept-ranges",
];

fn ask(address: SocketAddr, line: &str, more: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: first.test\r\nConnection: close\r\n{more}\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let field = |name: &str| {
        let found =
            head.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let mut body = bytes[end + 4..].to_vec();
    let mut fields: Vec<_> = FIELDS.iter().map(|name| (*name, field(name))).collect();
    // Each server has a boundary of its own: it is left out of what is compared, and so is the length that it adds to.
    if let Some(boundary) = field("content-type").and_then(|kind| Some(kind.split_once("boundary=")?.1.to_owned())) {
        body = String::from_utf8(body).unwrap().replace(&boundary, "B").into_bytes();
        let length = field("content-length").unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), bytes.len() - end - 4, "{line} {more}");
        fields.retain(|(name, _)| *name != "content-length");
        fields
            .iter_mut()
            .filter(|(name, _)| *name == "content-type")
            .for_each(|(_, kind)| *kind = Some("parts".to_owned()));
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    // nginx tells of ranges where it sends none.
    if status == 206 {
        fields.retain(|(name, _)| *name != "accept-ranges");
    }
    // Their texts for errors differ, and what describes these.
    if status >= 300 {
        body.clear();
        fields.retain(|(name, _)| !matches!(*name, "content-type" | "content-length" | "accept-ranges"));
    }
    Answer { status, fields, body }
}

#[test]
fn the_same_as_nginx_on_the_same_tree() {
    let tree = Tree::new("same");
    let edge = edge(&tree);
    let (etag, modified) = {
        let answer = ask(tree.address, "GET /a.txt", "");
        let field = |name: &str| answer.fields.iter().find(|(key, _)| *key == name).unwrap().1.clone().unwrap();
        (field("etag"), field("last-modified"))
    };
    let long = ["0-0"; 9].join(",");
    let cases: Vec<(&str, String)> = [
        ("GET /a.txt", ""),
        ("HEAD /a.txt", ""),
        ("GET /a.txt?x=1", ""),
        ("GET /a%20b.js", ""),
        ("GET /%61.txt", ""),
        ("GET /link.txt", ""),
        ("GET /empty.css", ""),
        ("GET /no-extension", ""),
        ("GET /large.bin", ""),
        ("GET /large.bin", "Range: bytes=500000-900000\r\n"),
        ("GET /", ""),
        ("GET /sub", ""),
        ("GET /sub?a=b", ""),
        ("GET /sub/", ""),
        ("GET /none", ""),
        ("GET /a.txt/x", ""),
        ("GET /a.txt", "Range: bytes=0-0\r\n"),
        ("GET /a.txt", "Range: bytes=5-\r\n"),
        ("GET /a.txt", "Range: bytes=-5\r\n"),
        ("GET /a.txt", "Range: bytes=-50\r\n"),
        ("GET /a.txt", "Range: bytes=3-300\r\n"),
        ("GET /a.txt", "Range: bytes=10-\r\n"),
        ("GET /a.txt", "Range: bytes=0-1, 5-6\r\n"),
        ("GET /a.txt", "Range: bytes=0-0,-1\r\n"),
        ("GET /a.txt", "Range: bytes=0-0,20-30\r\n"),
        ("GET /a.txt", "Range: bytes=0-8,1-9\r\n"),
        ("GET /a.txt", "Range: lines=0-1\r\n"),
        ("GET /empty.css", "Range: bytes=0-\r\n"),
        ("GET /a.txt", "If-None-Match: \"x\"\r\n"),
        ("GET /a.txt", "If-None-Match: *\r\n"),
        ("GET /a.txt", "If-Match: *\r\n"),
        ("GET /a.txt", "If-Match: \"x\"\r\n"),
        ("GET /a.txt", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        ("GET /a.txt", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        ("GET /a.txt", "If-Range: \"x\"\r\nRange: bytes=0-1\r\n"),
        ("GET /page.html", "Accept-Encoding: br\r\n"),
    ]
    .into_iter()
    .map(|(line, more)| (line, more.to_owned()))
    .chain([
        ("GET /a.txt", format!("Range: bytes={long}\r\n")),
        ("GET /a.txt", format!("If-None-Match: {etag}\r\n")),
        ("HEAD /a.txt", format!("If-None-Match: {etag}\r\n")),
        ("GET /a.txt", format!("If-None-Match: \"x\", W/{etag}\r\n")),
        ("GET /a.txt", format!("If-Match: {etag}\r\n")),
        ("GET /a.txt", format!("If-Modified-Since: {modified}\r\n")),
        ("GET /a.txt", format!("If-Unmodified-Since: {modified}\r\n")),
        ("GET /a.txt", format!("If-Range: {etag}\r\nRange: bytes=0-1\r\n")),
        ("GET /a.txt", format!("If-Range: {modified}\r\nRange: bytes=0-1\r\n")),
        ("GET /a.txt", format!("If-None-Match: {etag}\r\nRange: bytes=0-1\r\n")),
    ])
    .collect();
    let mut differ = Vec::new();
    for (line, more) in &cases {
        let (ours, theirs) = (ask(edge.http, line, more), ask(tree.address, line, more));
        if (ours.status, &ours.fields, &ours.body) != (theirs.status, &theirs.fields, &theirs.body) {
            let shown = |answer: &Answer| format!("{} {:?}, {} bytes", answer.status, answer.fields, answer.body.len());
            differ.push(format!("{line} {more}\n  ours   {}\n  theirs {}", shown(&ours), shown(&theirs)));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn precompressed_files_indexes_and_what_is_not_served() {
    let tree = Tree::new("own");
    let edge = edge(&tree);
    let mut client = Client::connect(edge.http);
    let mut get = |path: &str, accept: &str| {
        client
            .send(&format!("GET {path} HTTP/1.1\r\nHost: first.test\r\nAccept-Encoding: {accept}\r\n\r\n"))
            .reply("GET")
    };
    for (accept, coding, body) in [
        ("gzip, br", Some("br"), "not really brotli"),
        ("gzip", Some("gzip"), "not really gzip"),
        ("zstd", None, "plain"),
        ("br;q=0", None, "plain"),
    ] {
        for path in ["/below/page.html", "/below/"] {
            let reply = get(path, accept);
            assert_eq!(
                (reply.status, reply.field("content-encoding"), reply.body.as_str()),
                (200, coding, body),
                "{accept}"
            );
            assert_eq!(reply.field("content-type"), Some("text/html"));
            assert_eq!(reply.field("vary"), Some("accept-encoding"));
        }
    }
    assert_eq!(get("/page.html", "br").body, "plain", "only where it was asked for");
    assert_eq!(get("/below/.secret", "").body, "secret");
    for path in ["/.secret", "/up", "/%2e%2e%2foutside", "/sub/empty/", "/sub/..%2fa.txt", "/below/nothing"] {
        assert_eq!(get(path, "").status, 404, "{path}");
    }
    assert_eq!(get("/below/nothing", "").body, "not here");
    assert_eq!(get("/below/sub", "").field("location"), Some("/below/sub/"));
    assert_eq!(get("/below", "").field("location"), Some("/below/"), "links of the index are relative to it");
    for path in ["/sub/../a.txt", "/%", "/%%36%31.txt"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: first.test\r\n\r\n");
        assert_eq!(Client::connect(edge.http).send(&request).reply("GET").status, 400, "{path}");
    }
    let posted = Client::connect(edge.http)
        .send("POST /a.txt HTTP/1.1\r\nHost: first.test\r\nContent-Length: 1\r\n\r\nx")
        .reply("POST");
    assert_eq!((posted.status, posted.field("allow")), (405, Some("GET, HEAD")));
    let missing = Command::new("curl")
        .args(["-sSI", "--http2-prior-knowledge", &format!("http://{}/nothing", edge.http), "-H", "Host: first.test"])
        .output()
        .unwrap();
    let head = String::from_utf8_lossy(&missing.stdout);
    assert!(
        missing.status.success() && head.starts_with("HTTP/2 404") && head.contains("content-length:"),
        "{missing:?}"
    );
    let out = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", &format!("http://{}/large.bin", edge.http), "-H", "Host: first.test"])
        .output()
        .unwrap();
    assert_eq!(out.stdout.len(), 1_000_000, "{}", String::from_utf8_lossy(&out.stderr));
}
