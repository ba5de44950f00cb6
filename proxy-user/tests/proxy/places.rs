//! Countries and networks of clients, by files in MaxMind's format.

use serde_json::json;

use crate::edge::Edge;
use crate::geo_samples::{country, file, network};
use crate::origin::Origin;

#[test]
fn countries_and_networks_come_from_files() {
    let origin = Origin::start("a");
    let directory = std::env::temp_dir();
    let path = |name: &str| directory.join(format!("tidegate-places-{}-{name}", std::process::id()));
    let loopback = "127.0.0.0".parse().unwrap();
    std::fs::write(path("country.mmdb"), file(&[(loopback, 8, country("EU", "DE"))])).unwrap();
    std::fs::write(path("asn.mmdb"), file(&[(loopback, 8, network(64_500))])).unwrap();
    let rules = json!([
        { "id": "tell", "when": "true", "action": { "type": "set_header", "on": "response", "header": "x-place",
            "value_expression": "concat(ip.src.country, \" \", ip.src.continent, \" \", to_string(ip.src.asnum))" } },
        { "id": "no", "when": "ip.src.country eq \"DE\" and http.request.uri.path eq \"/no\"", "action": { "type": "block" } },
    ]);
    std::fs::write(path("p.json"), json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": rules }).to_string())
        .unwrap();
    let edge = Edge::start(origin.address, |config| {
        config["policies"] = json!([path("p.json")]);
        config["geo"] = json!({ "country": path("country.mmdb"), "asn": path("asn.mmdb") });
    });
    assert_eq!(edge.get("/see").field("x-place"), Some("DE EU 64500"));
    assert_eq!(edge.get("/no").status, 403);
    for name in ["country.mmdb", "asn.mmdb", "p.json"] {
        std::fs::remove_file(path(name)).unwrap();
    }
}
