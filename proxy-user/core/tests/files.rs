//! The files under `policies/`: schemas are the generated ones, examples compile with their own tests, invalid files are
//! refused with the words that stand beside them. `UPDATE_FILES=1` (or `UPDATE_SCHEMAS=1` for the schemas) writes anew
//! what is generated.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proxy_core::config;
use proxy_core::policy::{self, Options, Phase};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies").join(name)
}

fn files(name: &str) -> Vec<(String, String)> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder(name))
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no files in {name}");
    found
        .iter()
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("a file"))
        })
        .collect()
}

fn options() -> Options<'static> {
    Options::new("2026-11-22T00:00:00Z".parse().expect("a time"))
}

/// Holds a generated file to its text, or writes it where the environment asks for it.
fn generated(path: &Path, text: &str, variables: &[&str]) {
    if variables.iter().any(|name| std::env::var_os(name).is_some()) {
        fs::write(path, text).expect("writable");
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == text,
        "{} is not what is generated now; run with {}=1 to write it:\n{text}",
        path.display(),
        variables[0]
    );
}

fn pretty(schema: &serde_json::Value) -> String {
    format!("{schema:#}\n")
}

#[test]
fn schemas_are_the_generated_ones() {
    let variables = ["UPDATE_SCHEMAS", "UPDATE_FILES"];
    generated(&folder("schema.json"), &pretty(&policy::schema()), &variables);
    generated(&folder("config.schema.json"), &pretty(&config::schema()), &variables);
}

#[test]
fn examples_compile_and_pass_their_tests() {
    for (name, text) in files("examples") {
        let set = policy::compile(&[(&name, &text)], &options()).unwrap_or_else(|faults| {
            panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
        assert!(set.warnings().is_empty(), "{name}: {:?}", set.warnings());
        assert!(set.rules().iter().all(|rule| rule.phase != Phase::Off), "{name}");
        assert!(text.matches("\"expect\"").count() >= 3, "{name} has hardly any tests");
    }
    policy::compile(&files("examples"), &options()).expect("all of them together");
}

#[test]
fn valid_files_fit_the_published_schemas() {
    let policies = jsonschema::validator_for(&policy::schema()).expect("a schema");
    for (name, text) in files("examples") {
        let value = serde_json::from_str(&text).expect("JSON");
        assert!(policies.is_valid(&value), "{name}");
    }
    let configs = jsonschema::validator_for(&config::schema()).expect("a schema");
    let value = serde_json::from_str(&fs::read_to_string(folder("tidegate.json")).expect("a file")).expect("JSON");
    assert!(configs.is_valid(&value));
}

#[test]
fn the_default_config_is_valid() {
    let text = fs::read_to_string(folder("tidegate.json")).expect("a file");
    let config = config::parse(&text).expect("valid");
    assert_eq!(config.policies, ["policies/*.json"]);
    let again = config::parse(&serde_json::to_string(&config).expect("serializes")).expect("valid");
    assert!(config::needs_restart(&config, &again).is_empty());
}

#[test]
fn invalid_policies_are_refused_with_these_words() {
    for (name, text) in files("invalid") {
        let faults = policy::compile(&[(&name, &text)], &options()).err().unwrap_or_else(|| panic!("{name} was taken"));
        let words = faults.iter().fold(String::new(), |mut all, fault| {
            writeln!(all, "{fault}").expect("a string");
            all
        });
        generated(&folder("invalid").join(name.replace(".json", ".expect")), &words, &["UPDATE_FILES"]);
    }
}

#[test]
fn invalid_configs_are_refused_with_these_words() {
    for (name, text) in files("invalid-config") {
        let faults = config::parse(&text).err().unwrap_or_else(|| panic!("{name} was taken"));
        let words = faults.iter().fold(String::new(), |mut all, fault| {
            writeln!(all, "{name}:{fault}").expect("a string");
            all
        });
        generated(&folder("invalid-config").join(name.replace(".json", ".expect")), &words, &["UPDATE_FILES"]);
    }
}

/// What the schemas refuse, the parsers refuse too: the own check is no weaker than the published schema.
#[test]
fn the_published_schemas_are_enforced() {
    let schemas = [
        ("invalid", jsonschema::validator_for(&policy::schema()).expect("a schema")),
        ("invalid-config", jsonschema::validator_for(&config::schema()).expect("a schema")),
    ];
    for (name, validator) in schemas {
        for (file, text) in files(name) {
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
            let expect = fs::read_to_string(folder(name).join(file.replace(".json", ".expect"))).expect("a file");
            for error in validator.iter_errors(&value) {
                let pointer = error.instance_path().to_string();
                assert!(expect.contains(&pointer), "{file}: {pointer}: {error} is not among\n{expect}");
            }
        }
    }
}

/// The crate decides and does nothing else: none of these may come in, by whatever way.
#[test]
fn no_io_crates() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("a file");
    let names: Vec<&str> =
        manifest.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim()).collect();
    assert!(names.contains(&"serde_json"), "the manifest is read");
    for name in ["tokio", "hyper", "aya", "quinn", "rustls", "nix", "libc", "socket2", "proxy-user"] {
        assert!(!names.contains(&name), "{name}");
    }
}
