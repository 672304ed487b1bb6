use super::*;

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        name: "hello".to_owned(),
        version: Version::new(1, 2, 3),
        world: World::Action,
        sdk: None,
        config: vec![],
        requests: Requests::default(),
        component: FileFacts::of(b"component"),
        native: vec![native("aarch64-linux"), native("x86_64-linux")],
    }
}

fn native(target: &str) -> NativeFacts {
    let FileFacts { size, sha256 } = FileFacts::of(b"code");
    NativeFacts {
        target: target.to_owned(),
        profile: "sandbox".to_owned(),
        wasmtime: "48.0.8".to_owned(),
        settings: "0123456789abcdef".to_owned(),
        size,
        sha256,
    }
}

/// The manifest with one value replaced.
fn with(path: &str, value: serde_json::Value) -> Result<Manifest, ManifestError> {
    let mut json = serde_json::to_value(manifest()).unwrap();
    match json.pointer_mut(path) {
        Some(place) => *place = value,
        None => {
            json[path.trim_start_matches('/')] = value;
        }
    }
    Manifest::parse(&serde_json::to_vec(&json).unwrap())
}

#[test]
fn a_manifest_survives_its_file() {
    let bytes = manifest().to_bytes().unwrap();
    assert_eq!(Manifest::parse(&bytes).unwrap(), manifest());
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.starts_with("{\n  \"format\": 1,\n  \"name\": \"hello\",\n") && text.ends_with("}\n"),
        "{text}"
    );
}

#[test]
fn a_newer_format_is_refused_in_words_whatever_else_it_has() {
    let error = Manifest::parse(br#"{"format": 2, "everything": "new"}"#).unwrap_err();
    assert_eq!(error, ManifestError::Newer(2));
    assert!(error.to_string().contains("update twitcher"));
    assert!(matches!(
        with("/format", 0.into()),
        Err(ManifestError::Invalid { field: "format", .. })
    ));
    assert!(Manifest::parse(br#"{"format": -1}"#).is_err());
}

#[test]
fn what_cannot_be_is_refused() {
    let long = "x".repeat(33);
    for (path, value) in [
        ("/name", "../evil".into()),
        ("/name", "".into()),
        ("/name", "Hello".into()),
        ("/name", "-x".into()),
        ("/name", ".".into()),
        ("/name", "a/b".into()),
        ("/version", "1.2".into()),
        ("/version", format!("1.0.0-{}", "x".repeat(90)).into()),
        ("/world", "twitcher:action/other".into()),
        ("/sdk", "\u{1b}".into()),
        ("/config", serde_json::json!(["a", "\n"])),
        ("/requests", serde_json::json!({"dirs": {"x": "ro"}})),
        ("/component/size", (65_u64 << 20).into()),
        ("/component/size", (-1).into()),
        ("/component/sha256", "ab".into()),
        ("/component/sha256", "AB".repeat(32).into()),
        ("/native/0/size", (10_u64 << 30).into()),
        ("/native/0/target", "..".into()),
        ("/native/0/target", "a/b".into()),
        ("/native/0/profile", "".into()),
        ("/native/0/wasmtime", long.into()),
        // The second has the path of the first; then the order is wrong.
        ("/native/1/target", "aarch64-linux".into()),
        ("/native/1/target", "aaaa-linux".into()),
        ("/unknown", 1.into()),
    ] {
        assert!(with(path, value.clone()).is_err(), "{path} {value}");
    }
    assert!(with("/sdk", "1.0.0".into()).is_ok());
    assert_eq!(
        Manifest::parse(&vec![b' '; MANIFEST_MAX + 1]),
        Err(ManifestError::TooLarge)
    );
    assert!(Manifest::parse(b"").is_err() && Manifest::parse(b"[]").is_err());
}

#[test]
fn references_name_versions() {
    let reference = |text: &str| text.parse::<Reference>();
    let included = |text: &str, version: &str| {
        let versions = reference(text).unwrap().versions.unwrap();
        versions.include(&Version::parse(version).unwrap())
    };
    assert_eq!(reference("render").unwrap().versions, None);
    assert!(included("render@1.2", "1.2.0") && included("render@1.2", "1.2.9") && included("render@1", "1.9.0"));
    assert!(
        !included("render@1.2", "1.3.0") && !included("render@1.2", "1.2.3-rc.1") && !included("render@1", "2.0.0")
    );
    assert!(included("render@1.2.3", "1.2.3") && !included("render@1.2.3", "1.2.4"));
    assert!(included("render@1.2.3-rc.1", "1.2.3-rc.1"));
    for text in [
        "",
        "@1",
        "render@",
        "render@x",
        "render@1.",
        "render@+1",
        "render@1.2.3.4",
        "a b",
        "../x",
        "/x",
    ] {
        assert!(reference(text).is_err(), "{text}");
    }
    for text in ["render", "render@1", "render@1.2", "render@1.2.3"] {
        assert_eq!(reference(text).unwrap().to_string(), text);
    }
}

#[test]
fn digests_are_read_strictly() {
    let text = digest(b"x").to_string();
    assert_eq!(parse_digest(&text), Some(digest(b"x")));
    assert_eq!(parse_digest(&text.to_uppercase()), None);
    assert_eq!(parse_digest(&text[1..]), None);
}
