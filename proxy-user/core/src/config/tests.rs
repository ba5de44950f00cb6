use super::*;

const GOOD: &str = r#"{
  "listeners": [{ "name": "web", "address": "0.0.0.0:80", "protocol": "http" }],
  "routes": [{ "upstream": "app" }],
  "upstreams": { "app": { "servers": ["http://127.0.0.1:8080"] } }
}"#;

fn faults(text: &str) -> Vec<String> {
    parse(text).err().into_iter().flatten().map(|d| d.to_string()).collect()
}

#[test]
fn a_small_config_is_read_with_defaults() {
    let config = parse(GOOD).expect("valid");
    assert_eq!(config.routes[0].path, "/");
    assert_eq!(config.upstreams["app"].keepalive, 128);
    assert_eq!(config.timeouts.header.to_string(), "10s");
    assert_eq!(config.gate.ipv6_prefix, 64);
}

#[test]
fn what_is_written_is_read_again() {
    let config = parse(GOOD).expect("valid");
    let text = serde_json::to_string_pretty(&config).expect("serializes");
    let again = parse(&text).expect("valid");
    assert!(needs_restart(&config, &again).is_empty());
}

#[test]
fn faults_of_shape_and_meaning_are_reported_together() {
    let text = r#"{
  "listeners": [{ "name": "web", "address": "0.0.0.0:80", "protocol": "htps", "http3": 1 }],
  "routes": [{ "upstream": "ap", "path": "x" }],
  "upstreams": { "app": { "servers": ["127.0.0.1:8080"] } }
}"#;
    assert_eq!(
        faults(text),
        [
            "2:71: /listeners/0/protocol: unknown value \"htps\", expected one of \"http\", \"https\", \"tcp\"; \
             did you mean \"https\"?",
            "2:88: /listeners/0/http3: found the number 1, expected true or false",
            "4:39: /upstreams/app/servers/0: `127.0.0.1:8080` is not a server's URL; \
             write http://host:port or https://host:port",
        ]
    );
    let text = GOOD.replace("\"routes\"", "\"rutes\": 1,\n  \"routes\"").replace("\"app\" }", "\"ap\" }");
    assert_eq!(
        faults(&text),
        [
            "3:3: /rutes: unknown key `rutes`; did you mean `routes`?",
            "4:28: /routes/0/upstream: there is no upstream `ap`; did you mean `app`?",
        ]
    );
}

#[test]
fn faults_of_routes_are_told_at_their_place() {
    let of = |route: &str| {
        let text = GOOD.replace("{ \"upstream\": \"app\" }", route);
        faults(&text).into_iter().map(|fault| fault.split_once("/routes/").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let nowhere = "0: the route leads nowhere; set one of `upstream`, `split`, `redirect`, `respond` and `files`";
    assert_eq!(of("{ \"path\": \"/a\" }"), [nowhere]);
    for (route, fault) in [
        (
            r#"{"upstream": "app", "redirect": {"to": "/"}}"#,
            "0/redirect: the route has `upstream` already; what becomes of a request is said once",
        ),
        (
            r#"{"split": [{"upstream": "ap", "weight": 1}]}"#,
            "0/split/0/upstream: there is no upstream `ap`; did you mean `app`?",
        ),
        (
            r#"{"split": [{"upstream": "app", "weight": 0}]}"#,
            "0/split: all weights are 0: no request could go anywhere",
        ),
        (
            r#"{"upstream": "app", "path": "/u/{id}", "rewrite": "/{user}"}"#,
            "0/rewrite: `/{user}`: there is no `{user}` here; known: `{id}`, `{host}`, `{path}`, `{query}`",
        ),
        (
            r#"{"upstream": "app", "methods": ["get"]}"#,
            "0/methods/0: `get` is not a method; methods are written as in `GET`",
        ),
        (
            r#"{"upstream": "app", "request_headers": {"set": {"connection": "x"}}}"#,
            "0/request_headers/set/connection: `connection` belongs to the connection, which is Tidegate's own matter",
        ),
        (
            r#"{"upstream": "app", "error_pages": {"200": {"body": ""}}}"#,
            "0/error_pages/200: `200` is neither a status from 400 to 599 nor `4xx` or `5xx`",
        ),
        (
            r#"{"redirect": {"to": "/x"}, "error_pages": {"404": {"body": "", "intercept": true}}}"#,
            "0/error_pages/404/intercept: no origin answers requests of this route",
        ),
        (
            r#"{"redirect": {"to": "/x"}, "mirror": {"upstream": "app"}}"#,
            "0/mirror: no origin sees requests of this route",
        ),
        (
            r#"{"upstream": "app", "mirror": {"upstream": "ap"}}"#,
            "0/mirror/upstream: there is no upstream `ap`; did you mean `app`?",
        ),
        (
            r#"{"upstream": "app", "mirror": {"upstream": "app", "body": "17MiB"}}"#,
            "0/mirror/body: found 17825792 bytes, expected at most 16MiB",
        ),
        (
            r#"{"redirect": {"to": "/x", "status": 300}}"#,
            "0/redirect/status: found 300, expected 301, 302, 303, 307 or 308",
        ),
        (
            r#"{"path": "/t/{tenant}/{r*}", "redirect": {"to": "https://{tenant}.example.com/{r}"}}"#,
            "0/redirect/to: `{tenant}` would let requests choose the host: captures belong behind its `/`",
        ),
        (
            r#"{"path": "/go/{rest*}", "redirect": {"to": "https://example.com{rest}"}}"#,
            "0/redirect/to: `{rest}` would let requests choose the host: captures belong behind its `/`",
        ),
    ] {
        assert_eq!(of(route), [fault]);
    }
    let twice = of(r#"{"upstream": "app", "path": "/a/"}, {"upstream": "app", "path": "/%61"}"#);
    assert_eq!(twice, ["1: any host with path `/a` is routed by /routes/0 already"]);
    let told = of(r#"{"upstream": "app", "path": "/a"}, {"upstream": "app", "path": "/a", "methods": ["PUT"]}"#);
    assert_eq!(told, Vec::<String>::new());
}

#[test]
fn faults_of_upstreams_are_told_at_their_place() {
    let of = |more: &str| {
        let text = GOOD.replace("\"http://127.0.0.1:8080\"]", &format!("\"http://127.0.0.1:8080\"], {more}"));
        faults(&text)
            .into_iter()
            .map(|fault| fault.split_once("/upstreams/app/").unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    for (more, fault) in [
        (r#""hedge": {}"#, "hedge: set one of `after` and `percentile`"),
        (r#""hedge": {"after": "1s", "percentile": 90}"#, "hedge: set one of `after` and `percentile`"),
        (r#""hedge": {"after": "0s"}"#, "hedge/after: found 0ms, expected 1ms to 1d"),
    ] {
        assert_eq!(of(more), [fault]);
    }
}

#[test]
fn only_servers_of_this_host_are_handed_over_from() {
    for server in ["http://127.0.0.1:8080", "http://127.8.0.1", "http://[::1]:81"] {
        let text = GOOD.replace("\"http://127.0.0.1:8080\"]", &format!("\"{server}\"], \"same_host\": true"));
        assert_eq!(faults(&text), Vec::<String>::new(), "{server}");
    }
    for server in ["http://10.0.0.1:80", "https://127.0.0.1", "h2c://127.0.0.1:80", "http+unix:/a", "http://localhost"]
    {
        let text = GOOD.replace("\"http://127.0.0.1:8080\"]", &format!("\"{server}\"], \"same_host\": true"));
        let [fault] = &faults(&text)[..] else { panic!("{server}: {:?}", faults(&text)) };
        assert!(
            fault.contains("/upstreams/app/servers/0: `same_host` is for servers in clear text on a loopback"),
            "{fault}"
        );
    }
}

#[test]
fn restart_is_needed_for_sockets_threads_and_kernel_only() {
    let mut old = parse(GOOD).expect("valid");
    old.access_log.enabled = false;
    let mut new = old.clone();
    new.routes[0].path = "/x".to_owned();
    new.timeouts.idle = Span(std::time::Duration::from_secs(1));
    assert_eq!(needs_restart(&old, &new), Vec::<String>::new());
    new.workers = Some(3);
    new.gate.max_verdicts = 5;
    new.cgroup = Some("/sys/fs/cgroup/a".into());
    new.listeners[0].address = "127.0.0.1:80".parse().expect("address");
    new.admin.metrics = Some("127.0.0.1:9000".parse().expect("address"));
    new.access_log.enabled = !new.access_log.enabled;
    let pointers =
        ["/workers", "/listeners/0/address", "/gate/max_verdicts", "/cgroup", "/admin/metrics", "/access_log/enabled"];
    assert_eq!(needs_restart(&old, &new), pointers);
    assert!(!needs_restart(&new, &old).contains(&"/access_log/enabled".to_owned()), "lines stop at once");
    new.listeners.clear();
    assert!(needs_restart(&old, &new).contains(&"/listeners".to_owned()));
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn never_panics_on_changed_configs(at in 0_usize..200, by in "\\PC{0,4}", cut in 0_usize..20) {
        let mut text = GOOD.to_owned();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &by);
        let _ = parse(&text);
    }
}

#[test]
fn own_addresses_are_the_listeners_and_the_configs() {
    let text = r#"{"listeners":[{"name":"a","address":"192.0.2.1:80","protocol":"http"},
        {"name":"b","address":"0.0.0.0:81","protocol":"http"}],
        "routes":[{"upstream":"o"}],"upstreams":{"o":{"servers":["http://127.0.0.1:1"]}},
        "gate":{"own_addresses":["192.0.2.9","2001:db8::9"]}}"#;
    let config = parse(text).unwrap();
    let own: Vec<String> = config.own_addresses().iter().map(ToString::to_string).collect();
    assert_eq!(own, ["192.0.2.9", "2001:db8::9", "192.0.2.1"]);
}
