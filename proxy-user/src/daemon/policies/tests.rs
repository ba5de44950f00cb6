use super::*;

#[test]
fn patterns_find_files_by_name_and_missing_files_are_faults() {
    let base = std::env::temp_dir().join(format!("tidegate-policies-{}", std::process::id()));
    std::fs::create_dir_all(base.join("d")).unwrap();
    for name in ["d/b.json", "d/a.json", "d/c.txt"] {
        std::fs::write(base.join(name), "x").unwrap();
    }
    let names = |pattern: &str| {
        let found = find(pattern, &base).unwrap();
        found.iter().map(|file| file.strip_prefix(&base).unwrap().display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("d/*.json"), ["d/a.json", "d/b.json"]);
    assert_eq!(names("none/*.json"), Vec::<String>::new());
    let text = r#"{"listeners":[{"name":"a","address":"127.0.0.1:80","protocol":"http"}],
            "routes":[{"upstream":"o"}],"upstreams":{"o":{"servers":["http://127.0.0.1:1"]}},
            "policies":["d/*.json","d/a.json","none.json","[z"]}"#;
    let config = proxy_core::config::parse(text).unwrap();
    let fault = Sources::read(&config, &base).unwrap_err();
    assert!(fault.contains("none.json: No such file") && fault.contains("/policies/3: `[z`"), "{fault}");

    let mut config = config;
    config.policies = vec!["none/*.json".to_owned()];
    assert!(Sources::read(&config, &base).is_ok() && Sources::new(Texts::default(), &config).is_ok());
    config.require_signature = true;
    let refused = |read: Result<Sources, String>| read.is_err_and(|fault| fault.contains("nobody has signed"));
    assert!(refused(Sources::read(&config, &base)) && refused(Sources::new(Texts::default(), &config)));
    config.policies.clear();
    assert!(Sources::read(&config, &base).is_ok(), "the config itself asks for none");
    std::fs::remove_dir_all(&base).unwrap();
}
