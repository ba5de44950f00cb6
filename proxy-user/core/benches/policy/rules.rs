//! The rules of the bench and its requests: a mixture of what people write, for Tidegate and, the same, for the peers.

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};
use proxy_core::fields::Fields;
use serde_json::{Value, json};

/// Kinds of rules; they come in turn.
pub const KINDS: usize = 10;
/// Query of the requests.
pub const QUERY: &str = "colour=blue&sort=price&page=2";
/// Their host.
pub const HOST: &str = "www.shop.example";
/// Networks that the last kind spares.
pub const OFFICE: [&str; 2] = ["198.51.100.0/24", "2001:db8::/32"];

/// Header lines of a browser's request.
pub const HEADERS: [(&str, &str); 9] = [
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://www.shop.example/products?page=3"),
    ("cookie", "session=6f1c2a9be4d04a0f8d1e; theme=dark; consent=1"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("upgrade-insecure-requests", "1"),
];

/// Path of a request that no rule matches. Each is another, so that a peer that remembers what it compared has to compare.
pub fn innocent(n: u32) -> String {
    format!("/shop/products/blue-teapot-{n}")
}

/// The path that the last of so many rules matches, if the number is one of whole turns.
pub fn guilty(rules: usize) -> String {
    format!("/admin-{}/users", rules - 1)
}

/// The rules as a policy.
pub fn policy(rules: usize) -> Value {
    let rules: Vec<Value> = (0..rules)
        .map(|n| json!({ "id": format!("r{n}"), "when": condition(n), "action": { "type": "block" } }))
        .collect();
    let lists = json!({ "office": { "type": "cidr", "items": OFFICE } });
    json!({ "schema": "tidegate.policy/v1", "id": "bench", "lists": lists, "rules": rules })
}

/// A rule's condition; every tenth is on the path below `/admin-`.
fn condition(n: usize) -> String {
    let (host, network) = networks(n);
    match n % KINDS {
        0 => format!("http.request.uri.path eq \"/wp-content/plugin-{n}.php\""),
        1 => format!("lower(url_decode(http.request.uri.path)) contains \"../etc/{n}\""),
        2 => format!("lower(http.user_agent) contains \"scanner-{n}\""),
        3 => format!("ip.src in {{{network} {host}}} and http.request.method ne \"OPTIONS\""),
        4 => format!("http.request.uri.path matches r\"^/api/v[0-9]+/internal-{n}(/|$)\""),
        5 => format!("http.host eq \"shop-{n}.example\" and http.request.method in {{\"POST\" \"PUT\"}}"),
        6 => format!(
            "http.request.uri.args[\"cmd\"] contains \"exec-{n}\" or http.request.uri.query contains \"eval({n})\""
        ),
        7 => {
            format!("ends_with(http.request.uri.path, \".bak{n}\") or http.request.uri.path wildcard \"/*/dump-{n}*\"")
        }
        8 => {
            format!("http.request.cookies[\"session\"] eq \"stolen-{n}\" or http.referer contains \"spam-{n}.example\"")
        }
        _ => format!("not ip.src in $office and starts_with(http.request.uri.path, \"/admin-{n}/\")"),
    }
}

/// Host and network of a rule of the fourth kind.
fn networks(n: usize) -> (String, String) {
    let (a, b) = (n / 256 % 256, n % 256);
    (format!("172.16.{a}.{b}"), format!("10.{a}.{b}.0/24"))
}

/// Lines that a peer has for the rules of one kind, each by the number of its rule.
fn each(rules: usize, kind: usize, line: impl Fn(usize) -> String) -> String {
    (kind..rules).step_by(KINDS).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "{}", line(n));
        text
    })
}

/// The rules as nginx's maps of each kind, and the condition on all of them.
pub fn nginx(rules: usize) -> String {
    let map = |of: &str, name: &str, lines: String| format!("map {of} ${name} {{\n default 0;\n{lines}}}\n");
    let spread = |kind, line: &dyn Fn(usize) -> String| each(rules, kind, line);
    let geo = |name: &str, lines: String| format!("geo ${name} {{\n default 0;\n{lines}}}\n");
    let office = OFFICE.map(|network| format!("{network} 1;\n")).concat();
    let listed = spread(3, &|n| {
        let (host, network) = networks(n);
        format!("{host}/32 1;\n{network} 1;")
    });
    [
        "map $request_uri $path {\n \"~^(?<before>[^?]*)\" $before;\n}\n".to_owned(),
        map("$path", "k0", spread(0, &|n| format!("\"/wp-content/plugin-{n}.php\" 1;"))),
        map("$uri", "k1", spread(1, &|n| format!("\"~*\\.\\./etc/{n}\" 1;"))),
        map("$http_user_agent", "k2", spread(2, &|n| format!("\"~*scanner-{n}\" 1;"))),
        geo("listed", listed),
        map("\"$listed:$request_method\"", "k3", "\"1:OPTIONS\" 0;\n\"~^1:\" 1;\n".to_owned()),
        map("$path", "k4", spread(4, &|n| format!("\"~^/api/v[0-9]+/internal-{n}(/|$)\" 1;"))),
        map(
            "\"$host $request_method\"",
            "k5",
            spread(5, &|n| format!("\"shop-{n}.example POST\" 1;\n\"shop-{n}.example PUT\" 1;")),
        ),
        map("$arg_cmd", "k6a", spread(6, &|n| format!("\"~exec-{n}\" 1;"))),
        map("$args", "k6b", spread(6, &|n| format!("\"~eval\\({n}\\)\" 1;"))),
        map("$path", "k7", spread(7, &|n| format!("\"~\\.bak{n}$\" 1;\n\"~*^/.*/dump-{n}\" 1;"))),
        map("$cookie_session", "k8a", spread(8, &|n| format!("\"stolen-{n}\" 1;"))),
        map("$http_referer", "k8b", spread(8, &|n| format!("\"~spam-{n}\\.example\" 1;"))),
        geo("office", office),
        map("$path", "admin", spread(9, &|n| format!("\"~^/admin-{n}/\" 1;"))),
        map("\"$office$admin\"", "k9", "\"01\" 1;\n".to_owned()),
        map("\"$k0$k1$k2$k3$k4$k5$k6a$k6b$k7$k8a$k8b$k9\"", "bad", "\"~1\" 1;\n".to_owned()),
    ]
    .concat()
}

/// The rules as `HAProxy`'s pattern files by name, and the lines that ask them.
pub fn haproxy(rules: usize) -> (Vec<(&'static str, String)>, String) {
    let spread = |kind, line: &dyn Fn(usize) -> String| each(rules, kind, line);
    let files = vec![
        ("k0", spread(0, &|n| format!("/wp-content/plugin-{n}.php"))),
        ("k1", spread(1, &|n| format!("../etc/{n}"))),
        ("k2", spread(2, &|n| format!("scanner-{n}"))),
        (
            "k3",
            spread(3, &|n| {
                let (host, network) = networks(n);
                format!("{host}\n{network}")
            }),
        ),
        ("k4", spread(4, &|n| format!("^/api/v[0-9]+/internal-{n}(/|$)"))),
        ("k5", spread(5, &|n| format!("shop-{n}.example"))),
        ("k6a", spread(6, &|n| format!("exec-{n}"))),
        ("k6b", spread(6, &|n| format!("eval({n})"))),
        ("k7a", spread(7, &|n| format!(".bak{n}"))),
        ("k7b", spread(7, &|n| format!("^/.*/dump-{n}"))),
        ("k8a", spread(8, &|n| format!("stolen-{n}"))),
        ("k8b", spread(8, &|n| format!("spam-{n}.example"))),
        ("k9", spread(9, &|n| format!("/admin-{n}/"))),
    ];
    let office = OFFICE.join(" ");
    let asked = format!(
        "  http-request deny if {{ path -m str -f k0 }}\n\
         \x20 http-request deny if {{ path,url_dec,lower -m sub -f k1 }}\n\
         \x20 http-request deny if {{ req.hdr(user-agent),lower -m sub -f k2 }}\n\
         \x20 http-request deny if {{ src -f k3 }} !METH_OPTIONS\n\
         \x20 http-request deny if {{ path -m reg -f k4 }}\n\
         \x20 http-request deny if {{ req.hdr(host) -m str -f k5 }} {{ method POST PUT }}\n\
         \x20 http-request deny if {{ url_param(cmd) -m sub -f k6a }}\n\
         \x20 http-request deny if {{ query -m sub -f k6b }}\n\
         \x20 http-request deny if {{ path -m end -f k7a }}\n\
         \x20 http-request deny if {{ path -m reg -i -f k7b }}\n\
         \x20 http-request deny if {{ req.cook(session) -m str -f k8a }}\n\
         \x20 http-request deny if {{ req.hdr(referer) -m sub -f k8b }}\n\
         \x20 http-request deny if {{ path -m beg -f k9 }} !{{ src {office} }}\n"
    );
    (files, asked)
}

/// The header as Tidegate has it.
pub fn headers() -> Fields {
    let lines = HEADERS.into_iter();
    lines.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// The same request on the wire, for a peer.
pub fn wire(path: &str) -> String {
    let mut text = format!("GET {path}?{QUERY} HTTP/1.1\r\nhost: {HOST}\r\n");
    for (name, value) in HEADERS {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text
}
