//! Files in MaxMind's format, whole and broken.

use super::samples::{Value, country, file, network};
use super::*;

fn databases() -> Databases {
    let countries = file(&[
        ("192.0.2.0".parse().expect("address"), 24, country("EU", "DE")),
        ("198.51.100.128".parse().expect("address"), 25, country("NA", "CA")),
    ]);
    let short = Value::Map(vec![("autonomous_system_number", Value::Short(7))]);
    let networks = file(&[
        ("192.0.2.0".parse().expect("address"), 25, network(64_500)),
        ("198.51.100.0".parse().expect("address"), 25, short),
    ]);
    Databases::new(Some(countries), Some(networks)).unwrap_or_else(|(name, error)| panic!("{name}: {error}"))
}

#[test]
fn addresses_are_looked_up() {
    let found = |databases: &Databases, address: &str| {
        let address = address.parse().expect("address");
        let text = |text: Option<&str>| text.map(str::to_owned);
        (text(databases.country(address)), text(databases.continent(address)), databases.asn(address))
    };
    let some = |text: &str| Some(text.to_owned());
    let all = databases();
    assert_eq!(found(&all, "192.0.2.9"), (some("DE"), some("EU"), Some(64_500)));
    assert_eq!(found(&all, "192.0.2.200"), (some("DE"), some("EU"), None));
    assert_eq!(found(&all, "198.51.100.200"), (some("CA"), some("NA"), None));
    assert_eq!(found(&all, "198.51.100.1"), (None, None, Some(7)), "a number of another width");
    assert_eq!(found(&all, "203.0.113.1"), (None, None, None));
    assert_eq!(found(&all, "2001:db8::1"), (None, None, None), "a file of IPv4");
    let none = Databases::default();
    assert_eq!(found(&none, "192.0.2.9"), (None, None, None));
}

#[test]
fn broken_files_are_refused_or_say_nothing() {
    assert!(matches!(Databases::new(Some(b"no database".to_vec()), None), Err(("country", _))));
    assert!(matches!(Databases::new(None, Some(Vec::new())), Err(("asn", _))));
    let whole = file(&[("192.0.2.0".parse().expect("address"), 24, country("EU", "DE"))]);
    for at in 0..whole.len() {
        let mut broken = whole.clone();
        broken[at] ^= 0xff;
        if let Ok(databases) = Databases::new(Some(broken), None) {
            databases.country("192.0.2.1".parse().expect("address"));
        }
    }
}

#[test]
fn a_file_that_tells_something_else_is_refused() {
    let countries = || file(&[("192.0.2.0".parse().expect("address"), 24, country("EU", "DE"))]);
    let networks = || file(&[("192.0.2.0".parse().expect("address"), 24, network(64_500))]);
    let said = |result: Result<Databases, (&'static str, String)>| {
        result.map(drop).map_err(|(name, error)| format!("{name}: {error}")).expect_err("refused")
    };
    assert_eq!(
        said(Databases::new(Some(networks()), None)),
        "country: a file of the type `Test` whose networks have no `country.iso_code`: is it the other file?"
    );
    assert!(said(Databases::new(None, Some(countries()))).contains("no `autonomous_system_number`"));
    assert!(Databases::new(Some(countries()), Some(networks())).is_ok());
}
