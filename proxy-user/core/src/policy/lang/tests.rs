//! The language by example: what holds for which request, and what is refused with which words.

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::*;
use crate::fields::Fields;
use crate::policy::RequestView;
use crate::ranges::{RangeSet, network_ranges, parse_network};

fn lists() -> Lists {
    let networks = ["192.0.2.0/24", "2001:db8::/32"];
    let ranges = networks.iter().flat_map(|n| network_ranges(parse_network(n).expect("network"))).collect();
    let words: HashSet<Box<[u8]>> = [b"PUT".as_slice(), b"DELETE"].into_iter().map(Into::into).collect();
    [
        ("partners".to_owned(), NamedList::Cidr(Arc::new(RangeSet::new(ranges)))),
        ("writes".to_owned(), NamedList::Text(Arc::new(words))),
    ]
    .into()
}

/// A request with a query, two values of one header and no user agent.
fn holds(expression: &str) -> bool {
    let mut headers = Fields::new();
    for value in ["First", "second"] {
        headers.append(HeaderName::from_static("x-many"), HeaderValue::from_static(value));
    }
    headers.insert(HeaderName::from_static("x-empty"), HeaderValue::from_static(""));
    for (name, value) in [
        ("cookie", "sid=abc; theme=dark"),
        ("cookie", "sid=def"),
        ("accept-language", "de;q=0.5, en-GB, fr;q=0, it;q=0.8"),
        ("referer", "https://a.example/"),
        ("x-json", r#"{"user": {"id": -7, "names": ["ann", "bob"]}}"#),
        ("x-list", "a,b,c,d"),
        ("authorization", "Basic YWRtaW46c2VjcmV0"),
        ("x-twice", "%253Cscript%253e"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let request = RequestView {
        src: "192.0.2.7".parse().expect("address"),
        dst: "[::ffff:198.51.100.1]:8443".parse().expect("address"),
        method: &Method::PUT,
        path: "/A/%2e%2E/login",
        query: Some("id=7&q=a+b%21&flag"),
        body_size: Some(12),
        wall_ms: 1_795_305_600_123,
        ..RequestView::example(&headers)
    };
    let expr = parse(expression, &lists(), None).unwrap_or_else(|e| panic!("{expression}: {}", e.render(expression)));
    expr.holds(&request)
}

#[test]
fn what_holds() {
    for expression in [
        "true",
        "not false",
        "ip.src eq 192.0.2.7",
        "ip.src in {192.0.2.0/24}",
        "ip.src in {10.0.0.0/8 192.0.2.5..192.0.2.9}",
        "ip.src in $partners",
        "not ip.src in {2001:db8::/32 fe80::/10 ::1}",
        "ip.src ne 192.0.2.8",
        "ip.dst == 198.51.100.1",
        "ip.proto eq \"tcp\"",
        "ip.proto in {\"udp\" \"tcp\"}",
        "tcp.dstport eq 8443",
        "tcp.dstport in {80 443 8000..9000}",
        "tcp.dstport ge 8443 and tcp.dstport <= 8443",
        "http.request.method in $writes",
        "http.request.method in {\"GET\" \"PUT\"}",
        "http.host eq \"shop.example\"",
        "http.host wildcard \"SHOP.*\"",
        "not http.host strict wildcard \"SHOP.*\"",
        "http.request.uri eq \"/A/%2e%2E/login?id=7&q=a+b%21&flag\"",
        "http.request.uri.path matches r\"^/A/.*/log[i]n$\"",
        "http.request.uri.path ~ \"login\"",
        "url_decode(http.request.uri.path) eq \"/A/../login\"",
        "lower(url_decode(http.request.uri.path)) eq \"/a/../login\"",
        "upper(http.host) eq \"SHOP.EXAMPLE\"",
        "len(http.request.uri.path) eq 15",
        "len(http.request.uri.path) lt 16 && len(http.request.uri.path) > 14",
        "starts_with(http.request.uri.path, \"/A/\") and ends_with(lower(http.host), \"example\")",
        "http.request.version eq \"HTTP/2\"",
        "http.request.scheme eq \"https\"",
        "tidegate.listener eq \"web\"",
        "http.request.uri.args[\"id\"] eq \"7\"",
        "url_decode(http.request.uri.args[\"q\"]) eq \"a b!\"",
        "http.request.uri.args[\"flag\"] eq \"\"",
        "any(http.request.uri.args.names[*] eq \"flag\")",
        "http.request.headers[\"X-Many\"] eq \"second\"",
        "http.request.headers[\"x-many\"][0] eq \"First\"",
        "not http.request.headers[\"x-many\"][1] eq \"First\"",
        "any(lower(http.request.headers[\"x-many\"][*])[*] contains \"first\")",
        "any(lower(http.request.headers[\"x-many\"][*]) contains \"first\")",
        "any(starts_with(http.request.headers[\"x-many\"][*], \"sec\"))",
        "any(len(http.request.headers[\"x-many\"][*]) eq 6)",
        "any(http.request.headers.names[*] == \"x-empty\")",
        "http.request.uri.path lt \"/B\"",
        "http.host eq \"\\x73hop.example\"",
        "http.host eq r#\"shop.example\"#",
    ] {
        assert!(holds(expression), "{expression}");
    }
}

#[test]
fn what_functions_yield() {
    for expression in [
        "concat(http.host, \":\", http.request.method) eq \"shop.example:PUT\"",
        "any(concat(\"<\", http.request.headers[\"x-many\"][*], \">\")[*] eq \"<second>\")",
        "not concat(http.host, http.user_agent) ne \"x\"",
        "substring(http.host, 0, 4) eq \"shop\" and substring(http.host, -7) eq \"example\"",
        "remove_bytes(http.host, \".\") eq \"shopexample\"",
        "url_decode(http.request.headers[\"x-twice\"][0], \"r\") eq \"<script>\"",
        "url_decode(http.request.headers[\"x-twice\"][0]) eq \"%3Cscript%3e\"",
        "lookup_json_string(http.request.headers[\"x-json\"][0], \"user\", \"names\", 1) eq \"bob\"",
        "lookup_json_integer(http.request.headers[\"x-json\"][0], \"user\", \"id\") eq -7",
        "lookup_json_integer(http.request.headers[\"x-json\"][0], \"user\", \"id\") lt 0",
        "not lookup_json_integer(http.request.headers[\"x-json\"][0], \"user\", \"no\") lt 0",
        "not lookup_json_string(http.host, \"user\") ne \"\"",
        "decode_base64(substring(http.request.headers[\"authorization\"][0], 6)) eq \"admin:secret\"",
        "encode_base64(http.request.method) eq \"UFVU\"",
        "regex_replace(http.host, r\"^(\\w+)\\.\", \"${1}-\") eq \"shop-example\"",
        "wildcard_replace(http.host, \"SHOP.*\", \"www.${1}\") eq \"www.example\"",
        "wildcard_replace(http.host, \"SHOP.*\", \"www.${1}\", \"s\") eq \"shop.example\"",
        "to_string(tcp.dstport) eq \"8443\" and to_string(ip.src) eq \"192.0.2.7\"",
        "split(http.request.headers[\"x-list\"][0], \",\", 3)[2] eq \"c,d\"",
        "any(split(http.request.headers[\"x-list\"][0], \",\", 9)[*] eq \"d\")",
        "join(http.request.headers[\"x-many\"], \"+\") eq \"First+second\"",
        "not join(http.request.headers[\"x-none\"], \"+\") ne \"x\"",
        "len(http.request.headers[\"x-many\"]) eq 2 and len(http.request.headers[\"x-none\"]) eq 0",
        "has_key(http.request.headers, \"x-many\") and not has_key(http.request.cookies, \"none\")",
        "has_value(http.request.headers.names, \"x-empty\")",
        "all(http.request.headers[\"x-many\"][*] matches \"^[A-Za-z]+$\")",
        "not all(http.request.headers[\"x-many\"][*] eq \"second\")",
        "not all(http.request.headers[\"x-none\"][*] eq \"second\")",
        "all(len(http.request.headers[\"x-many\"][*]) ge 5)",
        "cidr(ip.src, 24, 64) eq 192.0.2.0 and not cidr(ip.src, 24, 64) eq 192.0.2.7",
        "cidr(ip.src, 8, 64) in {192.0.0.0..193.0.0.0} and cidr6(ip.src, 64) eq 192.0.2.7",
        "tcp.dstport & 0xfb and not tcp.dstport & 0x4000 and len(http.host) & 8",
        // Fields of requests.
        "ssl and ssl eq true and not ssl ne true",
        "http.request.full_uri eq \"https://shop.example/A/%2e%2E/login?id=7&q=a+b%21&flag\"",
        "not http.request.uri.path.extension ne \"\"",
        "http.referer eq \"https://a.example/\" and not http.x_forwarded_for ne \"\"",
        "http.cookie eq \"sid=abc; theme=dark; sid=def\"",
        "http.request.cookies[\"sid\"][1] eq \"def\" and http.request.cookies[\"theme\"] eq \"dark\"",
        "http.request.accepted_languages[0] eq \"en-GB\" and http.request.accepted_languages[1] eq \"it\"",
        "len(http.request.accepted_languages) eq 3",
        "any(http.request.headers.values[*] eq \"second\") and any(http.request.uri.args.values[*] eq \"7\")",
        "http.request.body.size in {1..12} and http.request.timestamp.sec ge 1795305600",
        "http.request.timestamp.msec eq 1795305600123",
    ] {
        assert!(holds(expression), "{expression}");
    }
}

#[test]
fn what_binds_and_what_is_missing() {
    for expression in [
        // Binding: comparison, not, and, xor, or.
        "true or false and false",
        "true xor true and false",
        "not false and true",
        "!true || true",
        "(true xor true) or true",
        "true ^^ false",
        // Empty is not missing.
        "http.request.headers[\"x-empty\"] eq \"\"",
        "not http.user_agent eq \"\"",
        "not http.user_agent ne \"\"",
        "not udp.dstport ne 1",
        "not udp.dstport in {0..65535}",
        "not http.request.headers[\"x-none\"] ne \"a\"",
    ] {
        assert!(holds(expression), "{expression}");
    }
}

/// `expression`, where its fault is marked, and a part of the message.
fn refused(expression: &str) -> (String, String) {
    match parse(expression, &lists(), None) {
        Ok(_) => panic!("`{expression}` was taken"),
        Err(e) => (expression.get(e.at..e.end).unwrap_or_default().to_owned(), e.message),
    }
}

#[test]
fn what_is_refused() {
    for (expression, place, message) in [
        ("http.hst eq \"a\"", "http.hst", "unknown field `http.hst`; did you mean `http.host`?"),
        ("lowr(http.host) eq \"a\"", "lowr", "unknown function `lowr`; did you mean `lower`?"),
        ("ip.src in $partner", "$partner", "there is no list `partner`; did you mean `partners`?"),
        ("http.host equals \"a\"", "equals", "unknown operator `equals`; did you mean `eq`?"),
        ("http.host eq 80", "80", "the left side is a string, but the number `80` is a number"),
        ("tcp.dstport eq \"80\"", "\"80\"", "the left side is a number, but the string \"80\" is a string"),
        ("ip.src eq 10.0.0.0/8", "10.0.0.0/8", "write `in {10.0.0.0/8}`"),
        ("ip.src eq \"10.0.0.1\"", "\"10.0.0.1\"", "the left side is an IP address, but the string"),
        ("ip.src in {10.0.0.1/8}", "10.0.0.1/8", "has bits set behind its prefix; write 10.0.0.0/8"),
        ("ip.src lt 10.0.0.1", "lt", "an IP address cannot be compared like this"),
        ("ip.src in $writes", "$writes", "the left side is an IP address, but `$writes` is a list of strings"),
        ("http.host in $partners", "$partners", "the left side is a string, but `$partners` is a list of networks"),
        ("tcp.dstport eq 70000", "70000", "beyond 65535"),
        ("tcp.dstport contains 1", "contains", "a number cannot be compared like this"),
        ("tcp.dstport in {9..1}", "9..1", "this range has no numbers"),
        ("ip.src in {10.0.0.9..10.0.0.1}", "10.0.0.9..10.0.0.1", "this range has no addresses"),
        ("tcp.dstport in {1, 2}", ",", "separated by spaces"),
        ("tcp.dstport in {}", "}", "the set is empty"),
        ("tcp.dstport in {1", "", "the set has no closing `}`"),
        ("ip.proto eq \"tpc\"", "\"tpc\"", "unknown protocol \"tpc\"; did you mean `tcp`?"),
        ("tcp.flags.syn eq 1", "1", "the left side is a boolean, but"),
        ("http.host", "http.host", "found the end, expected an operator: this is a string, not a condition"),
        ("http.host eq", "", "is no value"),
        ("http.host eq shop", "shop", "strings in quotes"),
        ("\"a\" eq http.host", "\"a\"", "expected a condition"),
        ("http.host not in {\"a\"}", "not", "`not` stands before the whole comparison"),
        ("http.host = \"a\"", "=", "write `==` or `eq`"),
        ("true & true", "&", "write `&&` or `and`"),
        ("http.host & 1", "&", "`&` is for numbers"),
        ("tcp.dstport & 4", "4", "this mask stands for more than"),
        ("tcp.dstport & 0", "0", "a mask is a number above 0"),
        ("tcp.dstport eq -1", "-1", "`-1` is below 0"),
        ("http.request.body.mime eq \"x\"", "http.request.body.mime", "of bodies there are"),
        ("ip.src.city eq \"Köln\"", "ip.src.city", "of places there are `ip.src.country`"),
        ("tls.client.ja3 eq \"t\"", "tls.client.ja3", "did you mean `tls.client.ja4`"),
        ("tls.client.sni[0] eq \"t\"", "[", "this field has one value only"),
        ("tls.client.hello_length gt 20000", "20000", "beyond 16384"),
        (
            "concat(http.request.headers[\"a\"], http.request.headers[\"b\"]) eq \"x\"",
            "http.request.headers[\"b\"]",
            "only one part of `concat`",
        ),
        ("split(http.request.headers[\"a\"], \",\", 2)[0] eq \"x\"", "http.request.headers[\"a\"]", "name it by `[0]`"),
        ("split(http.host, \".\", 1000)[0] eq \"x\"", "1000", "a number from 1 to 128"),
        ("substring(http.host) eq \"x\"", ")", "expected `,` and a number"),
        ("url_decode(http.host, \"x\") eq \"x\"", "\"x\"", "`url_decode` knows the options"),
        ("lookup_json_string(http.host) eq \"x\"", ")", "expected `,` and a name or an index"),
        ("lookup_json_integer(http.host, \"a\") eq \"1\"", "\"1\"", "the left side is a number, but the string"),
        ("cidr(ip.src, 33, 64) eq 10.0.0.0", "33", "a number from 1 to 32"),
        ("cidr(http.host, 24, 64) eq 10.0.0.0", "http.host", "`cidr` takes an address, but this is a string"),
        ("to_string(http.host) eq \"x\"", "http.host", "`to_string` takes a field that is a number or an address"),
        ("has_key(http.host, \"a\")", "has_key(http.host", "`has_key` takes `http.request.headers`"),
        ("has_value(http.host, \"a\")", "http.host", "`has_value` takes a field with several values"),
        ("all(http.host eq \"a\")", "http.host", "`all(…)` needs several values"),
        ("regex_replace(http.host, \"(\", \"\") eq \"x\"", "\"(\"", "not a regular expression"),
        ("substr(http.host, 1) eq \"x\"", "substr", "did you mean `substring`?"),
        ("http.host eq 'a'", "'", "strings stand in double quotes"),
        ("http.host eq \"a", "\"", "the string has no closing `\"`"),
        ("http.host eq \"\\d\"", "\"\\d", "for patterns write r\"…\""),
        ("http.host matches \"(\"", "\"(\"", "not a regular expression: unclosed group"),
        ("http.host matches \"(a{1000}){1000}\"", "\"(a{1000}){1000}\"", "takes more than"),
        ("http.host wildcard \"a**\"", "\"a**\"", "`**` means no more than `*`"),
        ("(true", "", "expected `)` to close the parenthesis"),
        ("true)", ")", "this `)` closes nothing"),
        ("true true", "true", "cannot stand here; expected `and`, `or`, `xor` or the end"),
        ("", "", "found the end, expected a condition"),
        ("http.request.headers eq \"a\"", "eq", "expected `[` and a name in quotes"),
        ("http.request.headers[\"a b\"] eq \"a\"", "\"a b\"", "cannot be the name of a header"),
        ("http.request.headers[\"a\"][*] eq \"a\"", "http.request.headers[\"a\"][*]", "and `all(…)` only"),
        ("any(http.host eq \"a\")", "http.host", "`any(…)` needs several values"),
        ("any(true)", "true", "unknown field `true`"),
        ("len(ip.src) eq 4", "ip.src", "`len` takes a string, but this is an IP address"),
        ("lower(any(http.host eq \"a\"))", "any", "`any` is a condition by itself"),
        ("starts_with(http.host, 1)", "1", "`starts_with` takes a string here"),
        ("lower eq \"a\"", "lower", "write `lower(…)`"),
        ("1.2.3 eq 4", "1.2.3", "neither a number nor an address"),
        ("http.host eq \"a\" ü", "ü", "`ü` means nothing here"),
        ("tcp.dstport eq 99999999999999999999", "99999999999999999999", "too large a number"),
        ("$ eq 1", "$", "a list's name is missing"),
    ] {
        let (marked, found) = refused(expression);
        assert!(found.contains(message), "{expression}: {found}");
        assert_eq!(marked, place, "{expression}: {found}");
    }
}

#[test]
fn bounds_hold() {
    let deep = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&deep(MAX_DEPTH), &lists(), None).is_ok());
    assert!(refused(&deep(MAX_DEPTH + 1)).1.contains("nested more than"));
    assert!(refused(&format!("{}true", "not ".repeat(MAX_DEPTH + 1))).1.contains("nested more than"));
    assert!(refused(&format!("{}http.host eq \"a\"", "lower(".repeat(100))).1.contains("nested more than"));
    assert!(refused(&vec!["true"; MAX_NODES].join(" or ")).1.contains("comparisons and operators"));
    assert!(refused(&vec!["true"; MAX_DEPTH + 2].join(" xor ")).1.contains("in a chain"));
    let set = |n: usize| format!("tcp.dstport in {{{}}}", "1 ".repeat(n));
    assert!(parse(&set(MAX_SET_ITEMS), &lists(), None).is_ok());
    assert!(refused(&set(MAX_SET_ITEMS + 1)).1.contains("use a list"));
    assert!(refused(&" ".repeat(MAX_EXPRESSION_BYTES + 1)).1.contains("bytes long"));
}

#[test]
fn faults_are_marked() {
    let text = "http.host eq \"ä\"\n  and http.hots eq \"b\"";
    let error = parse(text, &lists(), None).expect_err("a fault");
    assert_eq!(
        error.render(text),
        "unknown field `http.hots`; did you mean `http.host`?\n      and http.hots eq \"b\"\n          ^^^^^^^^^"
    );
    let long = format!("{} and http.hots eq \"b\"", vec!["true"; 40].join(" and "));
    let shown = parse(&long, &lists(), None).expect_err("a fault").render(&long);
    assert!(shown.lines().all(|line| line.len() < 120), "{shown}");
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "\\PC*") {
        if let Err(e) = parse(&text, &lists(), None) {
            e.render(&text);
        }
    }

    #[test]
    fn never_panics_on_token_soup(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "(", ")", "{", "}", "[", "]", "[*]", "[0]", "\"a\"", "r\"b\"", "1", "10.0.0.0/8", "::1", "..", ",", "eq", "in", "not",
        "and", "or", "xor", "any(", "len(", "lower(", "starts_with(", "ip.src", "tcp.dstport", "http.host", "ip.proto",
        "http.request.headers", "http.request.headers[\"a\"]", "tcp.flags.syn", "matches", "strict", "wildcard", "$partners",
        "$writes", "true", "ä", "\\", "\"", "concat(", "split(", "join(", "substring(", "-1", "0x1f", "&", "all(", "has_key(",
        "lookup_json_string(", "cidr(", "to_string(", "regex_replace(", "http.request.cookies", "http.response.code", "ssl",
    ]), 0..24)) {
        let text = tokens.join(" ");
        if let Err(e) = parse(&text, &lists(), None) {
            e.render(&text);
        }
    }
}
