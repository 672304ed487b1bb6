//! Components: what their arguments may be, and what follows when their files change. Who resolves them here looks at nothing but
//! the file's first bytes.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::{Action, Component, Digest, Entry, Grants, WasmAction, Watch};

/// A component whose digest is its text. One that says so is broken.
pub(super) fn resolve(file: &Path, _: &Grants) -> Result<Component, Vec<String>> {
    let text = fs::read(file).map_err(|error| vec![format!("cannot read: {error}")])?;
    if text.starts_with(b"broken") {
        return Err(vec![
            "is not a component".to_owned(),
            "has a line of nonsense".to_owned(),
        ]);
    }
    let mut digest = [0; 32];
    let length = text.len().min(32);
    digest[..length].copy_from_slice(&text[..length]);
    Ok(Component {
        file: file.into(),
        digest: Digest(digest),
        entry: Entry::Handler,
        native: Path::new("/cache").join(hex(&text)).into(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn action(watch: &Watch) -> &Arc<WasmAction> {
    match &watch.action {
        Action::Wasm(action) => action,
        other => panic!("{other:?}"),
    }
}

fn watch_with(wasm: &str) -> String {
    format!("[{{\"znode\": \"/a\", \"action\": {{\"wasm\": {{{wasm}}}}}}}]")
}

#[test]
fn every_argument_arrives() {
    let text = watch_with(
        r#""component": "x.wasm", "config": {"k": "v"}, "args": ["-v", ""], "env": {"A": "1"},
        "dirs": {"/in": "/srv/in", "/out": "/srv/o:ut:rw", "/ro": "/srv:ro"},
        "net": ["Example.org:5432", "10.0.0.1:1", "[::1]:65535"], "http": ["https://example.org", "http://[2001:DB8::0]:8080"],
        "commands": {"all": ["/bin/echo", "*"], "one": ["systemctl", "reload", "app"], "star": ["echo", "*", "x"]},
        "znodes": {"/a": "r", "/b/**": "rw", "/**": "r"}, "memory": "2GiB", "warm": 0"#,
    );
    let mut dir = Dir::new(&[("conf/a.json", &text), ("conf/x.wasm", "one")]).with_components();
    let reload = dir.reload();
    assert_eq!(report::render_errors(&reload), "");
    let WasmAction { component, grants } = &**action(&reload.watches[0]);
    assert_eq!(*component.file, *dir.path("conf/x.wasm"));
    assert_eq!(
        (grants.memory, grants.args.as_slice()),
        (2 << 30, ["-v".into(), String::new()].as_slice())
    );
    let shown = |list: Vec<String>| list.join("\n");
    insta::assert_snapshot!(shown(grants.dirs.iter().map(ToString::to_string).collect()), @r#"
    "/in": "/srv/in:ro"
    "/out": "/srv/o:ut:rw"
    "/ro": "/srv:ro"
    "#);
    insta::assert_snapshot!(shown(grants.net.iter().map(ToString::to_string).collect()), @r#"
    example.org:5432
    10.0.0.1:1
    [::1]:65535
    "#);
    insta::assert_snapshot!(shown(grants.http.iter().map(ToString::to_string).collect()), @r#"
    https://example.org
    http://[2001:db8::]:8080
    "#);
    insta::assert_snapshot!(shown(grants.commands.iter().map(|c| format!("{c} {}", c.arguments)).collect()), @r#"
    "all": ["/bin/echo", "*"] true
    "one": ["systemctl", "reload", "app"] false
    "star": ["echo", "*", "x"] false
    "#);
    insta::assert_snapshot!(shown(grants.znodes.iter().map(ToString::to_string).collect()), @r#"
    "/**": "r"
    "/a": "r"
    "/b/**": "rw"
    "#);
}

#[test]
fn nothing_is_granted_that_is_not_written() {
    let mut dir = Dir::new(&[("a.json", &watch_with("\"component\": \"./x\"")), ("x", "one")]).with_components();
    let reload = dir.reload();
    let expected = Grants {
        memory: 64 << 20,
        ..Grants::default()
    };
    assert_eq!(action(&reload.watches[0]).grants, expected);
}

/// What is wrong with a component that has these arguments beside its path.
fn errors_of(arguments: &str) -> String {
    let text = watch_with(&format!("\"component\": \"/x.wasm\", {arguments}"));
    told(&text)
}

/// The messages and hints about a file, without places and lines.
fn told(text: &str) -> String {
    let errors = Dir::new(&[("a.json", text)]).with_components().errors();
    let told = errors
        .lines()
        .filter(|line| !line.starts_with("  |") && !line.is_empty());
    told.map(|line| line.split_once(": ").unwrap().1)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Each input with what is told of it.
fn table(inputs: &[&str], told: impl Fn(&str) -> String) -> String {
    let line = |input: &&str| format!("{input} -> {}", told(input));
    inputs.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_component_is_a_path() {
    let references = [
        "1",
        "null",
        "\"\"",
        "\"render\"",
        "\"render.wat\"",
        "\"/dir/\"",
        "\"a\\u0000/b\"",
        "[\"x.wasm\"]",
    ];
    let all = table(&references, |reference| {
        told(&watch_with(&format!("\"component\": {reference}")))
    });
    insta::assert_snapshot!(all, @r#"
    1 -> component must be the path of a component, not the number 1
    null -> component is missing; it is the first argument of Wasm(…): the path of the component's file
    "" -> component must be the path of a component, not the string ""
    "render" -> component "render" is the name of a bundle, which this version of Twitcher does not support; give the path of a file, such as "./render.wasm"
    "render.wat" -> component "render.wat" is the name of a bundle, which this version of Twitcher does not support; give the path of a file, such as "./render.wat.wasm"
    "/dir/" -> component must be the path of a component, not the string "/dir/"
    "a\u0000/b" -> component must be the path of a component, not the string "a\0/b"
    ["x.wasm"] -> component must be the path of a component, not a list
    "#);
    insta::assert_snapshot!(told(&watch_with("")), @r#"
    component is missing; it is the first argument of Wasm(…): the path of the component's file
    "#);
    let actions = [
        "{\"wasm\": \"x.wasm\"}",
        "{\"wasm\": {\"component\": \"/x.wasm\"}, \"exec\": \"true\"}",
        "{\"wsam\": {}}",
    ];
    let all = table(&actions, |action| {
        told(&format!("[{{\"znode\": \"/a\", \"action\": {action}}}]"))
    });
    insta::assert_snapshot!(all, @r#"
    {"wasm": "x.wasm"} -> action must be an object as "wasm", not the string "x.wasm"; {"wasm": {"component": "file.wasm", …}}
    {"wasm": {"component": "/x.wasm"}, "exec": "true"} -> action must have "exec" or "wasm" and nothing else; Exec("command"), Exec(["program", "argument"]), Wasm("file.wasm", …) or a function; in JSON {"exec": …} or {"wasm": {"component": "file.wasm", …}}
    {"wsam": {}} -> action must have "exec" or "wasm" and nothing else; Exec("command"), Exec(["program", "argument"]), Wasm("file.wasm", …) or a function; in JSON {"exec": …} or {"wasm": {"component": "file.wasm", …}}
    "#);
}

#[test]
fn each_argument_says_what_it_takes() {
    let arguments = [
        r#""configs": {}"#,
        r#""component": "/y.wasm""#,
        r#""config": ["a"]"#,
        r#""config": {"a": 1}"#,
        r#""config": {"a": true}"#,
        r#""config": {"a": 1.5}"#,
        r#""config": {"a": ["b"]}"#,
        r#""config": {"a": null}"#,
        r#""config": {"": "b"}"#,
        r#""config": {"a": "\u0000"}"#,
        r#""args": "a b""#,
        r#""args": ["a", 1]"#,
        r#""args": [["a"]]"#,
        r#""env": {"A": 1}"#,
        r#""env": {"TWITCHER_X": "1"}"#,
        r#""memory": "64MB""#,
        r#""memory": "64 MiB""#,
        r#""memory": "+64MiB""#,
        r#""memory": "MiB""#,
        r#""memory": "1023KiB""#,
        r#""memory": "5GiB""#,
        r#""memory": "18014398509481985KiB""#,
        r#""memory": -1"#,
        r#""memory": 1048575"#,
        r#""memory": 64.5"#,
        r#""warm": 2"#,
        r#""warm": -1"#,
        r#""warm": "0""#,
    ];
    insta::assert_snapshot!(table(&arguments, errors_of), @r#"
    "configs": {} -> unknown argument "configs" of a component; did you mean "config"?
    "component": "/y.wasm" -> "component" is given twice
    "config": ["a"] -> config must be a dict of strings, not a list
    "config": {"a": 1} -> config must have a string for "a", not the number 1; put it in quotes: "1"
    "config": {"a": true} -> config must have a string for "a", not true; put it in quotes: "true"
    "config": {"a": 1.5} -> config must have a string for "a", not the number 1.5; only strings are passed on: encode other values as one, as JSON for example
    "config": {"a": ["b"]} -> config must have a string for "a", not a list; only strings are passed on: encode other values as one, as JSON for example
    "config": {"a": null} -> config must have a string for "a", not nothing; only strings are passed on: encode other values as one, as JSON for example
    "config": {"": "b"} -> config has "", which is not a name: 1 to 255 bytes without control characters
    "config": {"a": "\u0000"} -> config has a NUL character or more than 131071 bytes in "\0"
    "args": "a b" -> args must be a list of strings, not the string "a b"
    "args": ["a", 1] -> args must be a list of strings, not one with the number 1
    "args": [["a"]] -> args must be a list of strings, not one with a list
    "env": {"A": 1} -> env must have a string for "A", not the number 1
    "env": {"TWITCHER_X": "1"} -> env must not set "TWITCHER_X": Twitcher sets such names itself
    "memory": "64MB" -> memory must be a size from "1MiB" to "4GiB", not the string "64MB"; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "memory": "64 MiB" -> memory must be a size from "1MiB" to "4GiB", not the string "64 MiB"; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "memory": "+64MiB" -> memory must be a size from "1MiB" to "4GiB", not the string "+64MiB"; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "memory": "MiB" -> memory must be a size from "1MiB" to "4GiB", not the string "MiB"; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "memory": "1023KiB" -> memory must be a size from "1MiB" to "4GiB", not the string "1023KiB"; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "memory": "5GiB" -> memory must be a size from "1MiB" to "4GiB", not the string "5GiB"; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "memory": "18014398509481985KiB" -> memory must be a size from "1MiB" to "4GiB", not the string "18014398509481985KiB"; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "memory": -1 -> memory must be a size from "1MiB" to "4GiB", not the number -1; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "memory": 1048575 -> memory must be a size from "1MiB" to "4GiB", not the number 1048575; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "memory": 64.5 -> memory must be a size from "1MiB" to "4GiB", not the number 64.5; write a whole number with KiB, MiB or GiB right after it, or a number of bytes
    "warm": 2 -> warm cannot be 2: this version of Twitcher does not support it; leave it out: every run has an instance of its own
    "warm": -1 -> warm must be 0, not the number -1
    "warm": "0" -> warm must be 0, not the string "0"
    "#);
}

#[test]
fn grants_of_files_commands_and_znodes_are_exact() {
    let arguments = [
        r#""dirs": ["/a"]"#,
        r#""dirs": {"a": "/a"}"#,
        r#""dirs": {"/a/": "/a"}"#,
        r#""dirs": {"/a/../b": "/a"}"#,
        r#""dirs": {"//a": "/a"}"#,
        r#""dirs": {"/a": "a"}"#,
        r#""dirs": {"/a": "/b/./c:rw"}"#,
        r#""dirs": {"/a": ""}"#,
        r#""dirs": {"/a": ":rw"}"#,
        r#""dirs": {"/a": "/a:wr"}"#,
        r#""dirs": {"/a": "/a:"}"#,
        r#""dirs": {"/a": 1}"#,
        r#""dirs": {"/a": ["/a"]}"#,
        r#""dirs": {"/a": "/x", "/a/b": "/y:rw"}"#,
        r#""dirs": {"/": "/x", "/a": "/y"}"#,
        r#""dirs": {"/a": "/x", "/a": "/y:rw"}"#,
        r#""commands": ["a"]"#,
        r#""commands": {"a": "systemctl reload a"}"#,
        r#""commands": {"a": []}"#,
        r#""commands": {"a": [""]}"#,
        r#""commands": {"a": ["*"]}"#,
        r#""commands": {"a": ["b", 1]}"#,
        r#""commands": {"a": ["b\u0000"]}"#,
        r#""commands": {"a\n": ["b"]}"#,
        r#""commands": {"a": null}"#,
        r#""znodes": ["/a"]"#,
        r#""znodes": {"a": "r"}"#,
        r#""znodes": {"/a/": "r"}"#,
        r#""znodes": {"/a/*": "r"}"#,
        r#""znodes": {"/a**": "r"}"#,
        r#""znodes": {"/*/**": "r"}"#,
        r#""znodes": {"**": "r"}"#,
        r#""znodes": {"//**": "r"}"#,
        r#""znodes": {"/a": "w"}"#,
        r#""znodes": {"/a": ["r"]}"#,
    ];
    insta::assert_snapshot!(table(&arguments, errors_of), @r#"
    "dirs": ["/a"] -> dirs must be a dict from paths in the component to directories of this host, not a list
    "dirs": {"a": "/a"} -> dirs has "a", which is not an absolute path in its simplest form
    "dirs": {"/a/": "/a"} -> dirs has "/a/", which is not an absolute path in its simplest form; leave out "//", ".", ".." and a "/" at the end
    "dirs": {"/a/../b": "/a"} -> dirs has "/a/../b", which is not an absolute path in its simplest form; leave out "//", ".", ".." and a "/" at the end
    "dirs": {"//a": "/a"} -> dirs has "//a", which is not an absolute path in its simplest form; leave out "//", ".", ".." and a "/" at the end
    "dirs": {"/a": "a"} -> dirs has "a", which is not an absolute path in its simplest form
    "dirs": {"/a": "/b/./c:rw"} -> dirs has "/b/./c", which is not an absolute path in its simplest form; leave out "//", ".", ".." and a "/" at the end
    "dirs": {"/a": ""} -> dirs has "", which is not an absolute path in its simplest form
    "dirs": {"/a": ":rw"} -> dirs has "", which is not an absolute path in its simplest form
    "dirs": {"/a": "/a:wr"} -> dirs has "/a:wr", which must end in ":ro", ":rw" or neither; a directory with ":" in its name needs ":ro" or ":rw" after it
    "dirs": {"/a": "/a:"} -> dirs has "/a:", which must end in ":ro", ":rw" or neither; a directory with ":" in its name needs ":ro" or ":rw" after it
    "dirs": {"/a": 1} -> dirs must have a directory for "/a", not the number 1
    "dirs": {"/a": ["/a"]} -> dirs must have a directory for "/a", not a list
    "dirs": {"/a": "/x", "/a/b": "/y:rw"} -> dirs has "/a" and "/a/b", and one of them lies in the other
    "dirs": {"/": "/x", "/a": "/y"} -> dirs has "/" and "/a", and one of them lies in the other
    "dirs": {"/a": "/x", "/a": "/y:rw"} -> dirs has "/a" twice
    "commands": ["a"] -> commands must be a dict of commands, not a list
    "commands": {"a": "systemctl reload a"} -> commands must have a list of strings for "a", beginning with the program, not the string "systemctl reload a"; write ["program", "argument"]: nothing goes through a shell
    "commands": {"a": []} -> commands must have a list of strings for "a", beginning with the program, not an empty list
    "commands": {"a": [""]} -> commands must have a list of strings for "a", beginning with the program, not an empty string
    "commands": {"a": ["*"]} -> commands must have a list of strings for "a", beginning with the program, not "*" alone; a command of the component's own choice cannot be granted
    "commands": {"a": ["b", 1]} -> commands must have a list of strings for "a", beginning with the program, not one with the number 1
    "commands": {"a": ["b\u0000"]} -> commands has a NUL character or more than 131071 bytes in "b\0"
    "commands": {"a\n": ["b"]} -> commands has "a\n", which is not a name: 1 to 255 bytes without control characters
    "commands": {"a": null} -> commands must have a list of strings for "a", beginning with the program, not nothing
    "znodes": ["/a"] -> znodes must be a dict from paths to "r" or "rw", not a list
    "znodes": {"a": "r"} -> znodes has a bad path: znode path "a" is not absolute: it must begin with "/"
    "znodes": {"/a/": "r"} -> znodes has a bad path: znode path "/a/" must not end with "/"
    "znodes": {"/a/*": "r"} -> znodes has "/a/*", and "*" is only for a final "/**"; "/path" is that node alone, "/path/**" the node and everything below it
    "znodes": {"/a**": "r"} -> znodes has "/a**", and "*" is only for a final "/**"; "/path" is that node alone, "/path/**" the node and everything below it
    "znodes": {"/*/**": "r"} -> znodes has "/*/**", and "*" is only for a final "/**"; "/path" is that node alone, "/path/**" the node and everything below it
    "znodes": {"**": "r"} -> znodes has "**", and "*" is only for a final "/**"; "/path" is that node alone, "/path/**" the node and everything below it
    "znodes": {"//**": "r"} -> znodes has "//**", and "*" is only for a final "/**"; "/path" is that node alone, "/path/**" the node and everything below it
    "znodes": {"/a": "w"} -> znodes must have "r" or "rw" for "/a", not the string "w"
    "znodes": {"/a": ["r"]} -> znodes must have "r" or "rw" for "/a", not a list
    "#);
}

#[test]
fn grants_of_the_network_are_exact() {
    let arguments = [
        r#""net": "a:1""#,
        r#""net": [1]"#,
        r#""net": ["a"]"#,
        r#""net": ["a:"]"#,
        r#""net": ["a:0"]"#,
        r#""net": ["a:65536"]"#,
        r#""net": ["a:+1"]"#,
        r#""net": ["a:*"]"#,
        r#""net": ["*:1"]"#,
        r#""net": [":1"]"#,
        r#""net": ["::1:1"]"#,
        r#""net": ["[::1]"]"#,
        r#""net": ["[::1]1"]"#,
        r#""net": ["[::1"]"#,
        r#""net": ["[a]:1"]"#,
        r#""net": ["a b:1"]"#,
        r#""net": ["a..b:1"]"#,
        r#""net": ["-a:1"]"#,
        r#""net": ["127.1:1"]"#,
        r#""net": ["0x7f000001:1"]"#,
        r#""net": ["010.0.0.1:1"]"#,
        r#""net": ["bücher.example:1"]"#,
        r#""http": ["example.org"]"#,
        r#""http": ["ftp://example.org"]"#,
        r#""http": ["https://example.org/"]"#,
        r#""http": ["https://example.org/path"]"#,
        r#""http": ["https://example.org?q"]"#,
        r#""http": ["https://user:password@example.org"]"#,
        r#""http": ["https://*.example.org"]"#,
        r#""http": ["https://"]"#,
        r#""http": ["https://example.org:"]"#,
        r#""http": ["https://example.org:443\\@evil.example"]"#,
    ];
    insta::assert_snapshot!(table(&arguments, errors_of), @r#"
    "net": "a:1" -> net must be a list of strings, not the string "a:1"
    "net": [1] -> net must be a list of strings, not one with the number 1
    "net": ["a"] -> net has "a", which is not host:port; the port is missing
    "net": ["a:"] -> net has "a:", which is not host:port; the port must be a number from 1 to 65535
    "net": ["a:0"] -> net has "a:0", which is not host:port; the port must be a number from 1 to 65535
    "net": ["a:65536"] -> net has "a:65536", which is not host:port; the port must be a number from 1 to 65535
    "net": ["a:+1"] -> net has "a:+1", which is not host:port; the port must be a number from 1 to 65535
    "net": ["a:*"] -> net has "a:*", which is not host:port; "*" cannot be granted: name every host
    "net": ["*:1"] -> net has "*:1", which is not host:port; "*" cannot be granted: name every host
    "net": [":1"] -> net has ":1", which is not host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "net": ["::1:1"] -> net has "::1:1", which is not host:port; write an IPv6 address in brackets: [::1]:443
    "net": ["[::1]"] -> net has "[::1]", which is not host:port; the port is missing
    "net": ["[::1]1"] -> net has "[::1]1", which is not host:port; the port must be a number from 1 to 65535
    "net": ["[::1"] -> net has "[::1", which is not host:port; write an IPv6 address in brackets: [::1]:443
    "net": ["[a]:1"] -> net has "[a]:1", which is not host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "net": ["a b:1"] -> net has "a b:1", which is not host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "net": ["a..b:1"] -> net has "a..b:1", which is not host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "net": ["-a:1"] -> net has "-a:1", which is not host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "net": ["127.1:1"] -> net has "127.1:1", which is not host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "net": ["0x7f000001:1"] -> net has "0x7f000001:1", which is not host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "net": ["010.0.0.1:1"] -> net has "010.0.0.1:1", which is not host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "net": ["bücher.example:1"] -> net has "bücher.example:1", which is not host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "http": ["example.org"] -> http has "example.org", which is not an origin, https://host or https://host:port; begin with https:// or http://
    "http": ["ftp://example.org"] -> http has "ftp://example.org", which is not an origin, https://host or https://host:port; begin with https:// or http://
    "http": ["https://example.org/"] -> http has "https://example.org/", which is not an origin, https://host or https://host:port; leave out what follows the host and port, also a "/" at the end: a grant is for all of an origin
    "http": ["https://example.org/path"] -> http has "https://example.org/path", which is not an origin, https://host or https://host:port; leave out what follows the host and port, also a "/" at the end: a grant is for all of an origin
    "http": ["https://example.org?q"] -> http has "https://example.org?q", which is not an origin, https://host or https://host:port; leave out what follows the host and port, also a "/" at the end: a grant is for all of an origin
    "http": ["https://user:password@example.org"] -> http has "https://user:password@example.org", which is not an origin, https://host or https://host:port; leave out what is before the "@": give the component credentials by its config
    "http": ["https://*.example.org"] -> http has "https://*.example.org", which is not an origin, https://host or https://host:port; "*" cannot be granted: name every host
    "http": ["https://"] -> http has "https://", which is not an origin, https://host or https://host:port; the host must be a name of letters, digits, "-", "_" and dots, or an IP address
    "http": ["https://example.org:"] -> http has "https://example.org:", which is not an origin, https://host or https://host:port; the port must be a number from 1 to 65535
    "http": ["https://example.org:443\\@evil.example"] -> http has "https://example.org:443\\@evil.example", which is not an origin, https://host or https://host:port; leave out what follows the host and port, also a "/" at the end: a grant is for all of an origin
    "#);
}

#[test]
fn what_a_component_is_given_is_bounded() {
    let many = |entry: &dyn Fn(usize) -> String| (0..4097).map(entry).collect::<Vec<_>>().join(",");
    let pairs = many(&|n| format!("\"/{n}\": \"/x\""));
    let strings = many(&|_| "\"a:1\"".to_owned());
    for arguments in [
        format!("\"config\": {{{pairs}}}"),
        format!("\"dirs\": {{{pairs}}}"),
        format!("\"znodes\": {{{pairs}}}"),
        format!("\"commands\": {{{pairs}}}"),
        format!("\"commands\": {{\"a\": [{strings}]}}"),
        format!("\"net\": [{strings}]"),
        format!("\"args\": [{strings}]"),
    ] {
        let told = errors_of(&arguments);
        assert!(told.contains("more than 4096") || told.contains("so long"), "{told}");
    }
    let large = |n: usize| format!("\"{n}\": \"{}\"", "x".repeat(131_000));
    let large = (0..9).map(large).collect::<Vec<_>>().join(",");
    insta::assert_snapshot!(errors_of(&format!("\"config\": {{{large}}}")), @r#"
    the component is given 1179009 bytes in config, args, env and commands; at most 1048576 are allowed; put large texts into a file, in a directory that dirs grants
    "#);
    let unknown = (0..40).map(|n| format!("\"x{n}\": 1")).collect::<Vec<_>>().join(",");
    insta::assert_snapshot!(errors_of(&unknown), @r#"
    a component has no more than 11 arguments
    "#);
}

#[test]
fn errors_of_arguments_are_located() {
    let text = r#"[
  {"znode": "/a", "env": {"A": "1"}, "inherit_env": true, "action": {
      "wasm": {"component": "/x.wasm", "memroy": "1MiB",
               "dirs": {"a": "/b"}, "dirs ": {}}}},
  {"znode": "/b", "action": {
      "wasm": {"component": "missing.wasm"}}},
  {"znode": "/c", "action": {
      "wasm": {"component": "broken.wasm"}}},
  {"znode": "/d", "action": {"wasm": {"config": {}, "config": {}}}}
]"#;
    let mut dir = Dir::new(&[("a.json", text), ("broken.wasm", "broken")]).with_components();
    insta::assert_snapshot!(dir.errors(), @r#"
    DIR/a.json:2:26: env is not for components
      |   {"znode": "/a", "env": {"A": "1"}, "inherit_env": true, "action": {
      |                          ^
      hint: a component sees only what Wasm(…, env = {…}) gives it

    DIR/a.json:2:53: inherit_env is not for components
      |   {"znode": "/a", "env": {"A": "1"}, "inherit_env": true, "action": {
      |                                                     ^
      hint: a component sees only what Wasm(…, env = {…}) gives it

    DIR/a.json:3:40: unknown argument "memroy" of a component
      |       "wasm": {"component": "/x.wasm", "memroy": "1MiB",
      |                                        ^
      hint: did you mean "memory"?

    DIR/a.json:4:24: dirs has "a", which is not an absolute path in its simplest form
      |                "dirs": {"a": "/b"}, "dirs ": {}}}},
      |                        ^

    DIR/a.json:4:37: unknown argument "dirs " of a component
      |                "dirs": {"a": "/b"}, "dirs ": {}}}},
      |                                     ^
      hint: did you mean "dirs"?

    DIR/a.json:6:7: component DIR/missing.wasm: cannot read: No such file or directory (os error 2)
      |       "wasm": {"component": "missing.wasm"}}},
      |       ^

    DIR/a.json:8:7: component DIR/broken.wasm: is not a component
      |       "wasm": {"component": "broken.wasm"}}},
      |       ^

    DIR/a.json:8:7: component DIR/broken.wasm: has a line of nonsense
      |       "wasm": {"component": "broken.wasm"}}},
      |       ^

    DIR/a.json:9:53: "config" is given twice
      |   {"znode": "/d", "action": {"wasm": {"config": {}, "config": {}}}}
      |                                                     ^
    "#);
}

#[test]
fn what_is_for_processes_applies_to_components_too() {
    let text = r#"[{"znode": "/a", "action": {"wasm": {"component": "x.wasm"}}, "env": {}, "inherit_env": false, "uid": "daemon",
        "timeout": 5, "notify_signal": "SIGUSR1", "limits": {"nofile": 10}, "cwd": "/tmp", "umask": "077", "pipe_stdin": false}]"#;
    let mut dir = Dir::new(&[("a.json", text), ("x.wasm", "one")]).with_components();
    let reload = dir.reload();
    assert_eq!(report::render_errors(&reload), "");
    let watch = &reload.watches[0];
    assert_eq!(
        (watch.process.identity.user.as_str(), watch.policy.notify_signal),
        ("daemon", Some(10))
    );
}

#[test]
fn without_somebody_who_knows_them_components_are_errors() {
    let text = watch_with("\"component\": \"/x.wasm\"");
    insta::assert_snapshot!(Dir::new(&[("a.json", &text)]).errors(), @r#"
    DIR/a.json:1:29: component /x.wasm: components are not supported in this build
      | [{"znode": "/a", "action": {"wasm": {"component": "/x.wasm"}}}]
      |                             ^
    "#);
}

#[test]
fn a_component_that_changes_takes_the_files_that_use_it_along() {
    let both = format!(
        "[{}, {}]",
        &watch_with("\"component\": \"x.wasm\"")[1..].trim_end_matches(']'),
        &ONE[1..ONE.len() - 1]
    );
    let mut dir = Dir::new(&[
        ("a.json", &both),
        ("b.json", &watch_with("\"component\": \"y.wasm\"")),
        ("c.json", ONE),
        ("x.wasm", "one"),
        ("y.wasm", "one"),
    ])
    .with_components();
    let first = dir.reload();
    assert_eq!(
        dir.config.components().into_iter().collect::<Vec<_>>(),
        [dir.path("x.wasm").into(), dir.path("y.wasm").into()]
    );
    assert!(!dir.config.components_changed());
    assert_eq!(outcome(&dir.reload(), "a.json"), "Unchanged");

    replace(&dir, "x.wasm", "two");
    assert!(dir.config.components_changed());
    let second = dir.reload();
    assert_eq!(outcome(&second, "a.json"), "Loaded { watches: 2 }");
    assert_eq!(outcome(&second, "b.json"), "Unchanged");
    assert_eq!(outcome(&second, "c.json"), "Unchanged");
    let same: Vec<bool> = first
        .watches
        .iter()
        .zip(&second.watches)
        .map(|(a, b)| a.same_as(b))
        .collect();
    assert_eq!(same, [false, true, true, true]);
    assert_eq!(
        action(&second.watches[0]).component.digest.to_string()[..6],
        hex(b"two")
    );

    // Another file, the same content: nothing that a watch would notice.
    replace(&dir, "x.wasm", "two");
    let third = dir.reload();
    assert_eq!(outcome(&third, "a.json"), "Loaded { watches: 2 }");
    assert!(third.watches.iter().zip(&second.watches).all(|(a, b)| a.same_as(b)));
    assert!(Arc::ptr_eq(action(&third.watches[0]), action(&second.watches[0])));
}

/// Replaces a file by another, as a deployment does.
fn replace(dir: &Dir, name: &str, text: &str) {
    dir.write(".new", text);
    fs::rename(dir.path(".new"), dir.path(name)).unwrap();
}

#[test]
fn a_component_that_is_broken_or_gone_keeps_the_watches() {
    let text = watch_with("\"component\": \"x.wasm\"");
    let mut dir = Dir::new(&[("a.json", &text), ("x.wasm", "one")]).with_components();
    let first = dir.reload();
    for broken in [true, false] {
        match broken {
            true => replace(&dir, "x.wasm", "broken"),
            false => fs::remove_file(dir.path("x.wasm")).unwrap(),
        }
        let reload = dir.reload();
        assert!(outcome(&reload, "a.json").ends_with("1 kept"));
        assert!(Arc::ptr_eq(&reload.watches[0], &first.watches[0]));
        assert!(!dir.config.components().is_empty(), "it may come back");
    }
    replace(&dir, "x.wasm", "one");
    let reload = dir.reload();
    assert_eq!(outcome(&reload, "a.json"), "Loaded { watches: 1 }");
    assert!(reload.watches[0].same_as(&first.watches[0]));

    fs::remove_file(dir.path("a.json")).unwrap();
    dir.reload();
    assert!(dir.config.components().is_empty());
}

#[test]
fn a_component_that_was_missing_is_used_once_it_is_there() {
    let text = watch_with("\"component\": \"later/x.wasm\"");
    let mut dir = Dir::new(&[("a.json", &text)]).with_components();
    assert_eq!(outcome(&dir.reload(), "a.json"), "Failed(1), 0 kept");
    assert!(!dir.config.components_changed());
    dir.write("later/x.wasm", "one");
    assert!(dir.config.components_changed());
    assert_eq!(outcome(&dir.reload(), "a.json"), "Loaded { watches: 1 }");
}

#[test]
fn one_component_with_the_same_grants_is_asked_for_once() {
    let watch = |n: usize| {
        let memory = 1 + n % 2;
        format!(
            "{{\"znode\": \"/{n}\", \"action\": {{\"wasm\": {{\"component\": \"x.wasm\", \"memory\": \"{memory}MiB\"}}}}}}"
        )
    };
    let text = format!("[{}]", (0..100).map(watch).collect::<Vec<_>>().join(","));
    let mut dir = Dir::new(&[("a.json", &text), ("b.json", ONE), ("x.wasm", "one")]);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asks = asked.clone();
    dir.config = dir.config.with_components(Box::new(move |file, grants| {
        asks.lock().unwrap().push(grants.memory >> 20);
        resolve(file, grants)
    }));
    let asked = || std::mem::take(&mut *asked.lock().unwrap());
    let reload = dir.reload();
    assert_eq!(asked(), [1, 2]);
    assert!(Arc::ptr_eq(action(&reload.watches[0]), action(&reload.watches[98])));
    dir.write("b.json", &named(&["b"]));
    dir.reload();
    assert_eq!(asked(), [0; 0], "only files that are read again ask");
    // A file that has another mistake does not ask about the watch that has it.
    dir.write("a.json", &watch_with("\"component\": \"x.wasm\", \"memory\": 1"));
    dir.reload();
    assert_eq!(asked(), [0; 0]);
}

#[test]
fn check_shows_components() {
    let text = watch_with(
        r#""component": "/opt/plugins/render.wasm", "config": {"k": "v"}, "dirs": {"/out": "/srv/out:rw"}, "net": ["a:1"],
        "http": ["https://a"], "commands": {"reload": ["true", "*"]}, "znodes": {"/a/**": "rw"}"#,
    );
    let mut dir = Dir::new(&[("a.json", &text)]);
    dir.config = dir.config.with_components(Box::new(|file, _| {
        Ok(Component {
            file: file.into(),
            digest: Digest([0xab; 32]),
            entry: Entry::Command,
            native: Path::new("/cache/x").into(),
        })
    }));
    let reload = dir.reload();
    let table = report::render_table(&reload.watches).replace(dir.dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(table, @r#"
    NAME  ZNODE  TYPE  ACTION                   MODE   USER  TIMEOUT  WHERE
    a-1   /a     data  (component) render.wasm  QUEUE  root  -        DIR/a.json:1
    "#);
    let json = &report::to_json(&reload)["watches"][0];
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["component"]).unwrap(), @r#"
    {
      "entry": "command",
      "sha256": "abababababababababababababababababababababababababababababababab"
    }
    "#);
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["action"]).unwrap(), @r#"
    {
      "wasm": {
        "commands": {
          "reload": [
            "true",
            "*"
          ]
        },
        "component": "/opt/plugins/render.wasm",
        "config": {
          "k": "v"
        },
        "dirs": {
          "/out": "/srv/out:rw"
        },
        "http": [
          "https://a"
        ],
        "memory": 67108864,
        "net": [
          "a:1"
        ],
        "znodes": {
          "/a/**": "rw"
        }
      }
    }
    "#);

    // What is shown means the same when it is read.
    let again = format!("[{{\"znode\": \"/a\", \"action\": {}}}]", json["action"]);
    dir.write("a.json", &again);
    assert_eq!(
        action(&dir.reload().watches[0]).grants,
        action(&reload.watches[0]).grants
    );
}
