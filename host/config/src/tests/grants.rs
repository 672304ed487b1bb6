//! What each argument of a component may be, and what is said of what it may not.

use super::components::watch_with;
use super::*;

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
    1 -> component must be the path of a component or bundle, or the name of an installed bundle, not the number 1
    null -> component is missing; it is the first argument of Wasm(…): a path, or the name of a bundle
    "" -> component must be the path of a component or bundle, or the name of an installed bundle, not the string ""
    "render" -> bundle render: bundles are not known here; give the path of a component
    "render.wat" -> bundle render.wat: bundles are not known here; give the path of a component
    "/dir/" -> component must be the path of a component or bundle, or the name of an installed bundle, not the string "/dir/"
    "a\u0000/b" -> component must be the path of a component or bundle, or the name of an installed bundle, not the string "a\0/b"
    ["x.wasm"] -> component must be the path of a component or bundle, or the name of an installed bundle, not a list
    "#);
    insta::assert_snapshot!(told(&watch_with("")), @"component is missing; it is the first argument of Wasm(…): a path, or the name of a bundle");
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
    {"wasm": {"component": "/x.wasm"}, "exec": "true"} -> action must have "exec", "wasm" or "deploy" and nothing else; Exec("command"), Exec(["program", "argument"]), Wasm("file.wasm", …), Deploy("oci://…") or a function; in JSON {"exec": …}, {"wasm": {"component": "file.wasm", …}} or {"deploy": {"source": "oci://…"}}
    {"wsam": {}} -> action must have "exec", "wasm" or "deploy" and nothing else; Exec("command"), Exec(["program", "argument"]), Wasm("file.wasm", …), Deploy("oci://…") or a function; in JSON {"exec": …}, {"wasm": {"component": "file.wasm", …}} or {"deploy": {"source": "oci://…"}}
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
        r#""config": {"a": {"secret": "b"}}"#,
        r#""config": {"a": {"secrets": "/b"}}"#,
        r#""args": [{"secret": "/b"}]"#,
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
        r#""warm": 9"#,
        r#""warm": -1"#,
        r#""warm": "0""#,
        r#""warm": 1, "net": ["db:1"]"#,
        r#""warm": 1, "env": {"A": {"secret": "/a"}}"#,
    ];
    insta::assert_snapshot!(table(&arguments, errors_of), @r#"
    "configs": {} -> unknown argument "configs" of a component; did you mean "config"?
    "component": "/y.wasm" -> "component" is given twice
    "config": ["a"] -> config must be a dict of strings, not a list
    "config": {"a": 1} -> config must have a string or Secret("/file") for "a", not the number 1; put it in quotes: "1"
    "config": {"a": true} -> config must have a string or Secret("/file") for "a", not true; put it in quotes: "true"
    "config": {"a": 1.5} -> config must have a string or Secret("/file") for "a", not the number 1.5; only strings are passed on: encode other values as one, as JSON for example
    "config": {"a": ["b"]} -> config must have a string or Secret("/file") for "a", not a list; only strings are passed on: encode other values as one, as JSON for example
    "config": {"a": null} -> config must have a string or Secret("/file") for "a", not nothing; only strings are passed on: encode other values as one, as JSON for example
    "config": {"": "b"} -> config has "", which is not a name: 1 to 255 bytes without control characters
    "config": {"a": "\u0000"} -> config has a NUL character or more than 131071 bytes in "\0"
    "args": "a b" -> args must be a list of strings, not the string "a b"
    "args": ["a", 1] -> args must be a list of strings, not one with the number 1
    "args": [["a"]] -> args must be a list of strings, not one with a list
    "config": {"a": {"secret": "b"}} -> config has Secret("b"), which must be the absolute path of a file of at most 4095 bytes
    "config": {"a": {"secrets": "/b"}} -> config must have a string or Secret("/file") for "a", not a dict; only strings are passed on: encode other values as one, as JSON for example
    "args": [{"secret": "/b"}] -> args must be a list of strings, not one with Secret("/b")
    "env": {"A": 1} -> env must have a string or Secret("/file") for "A", not the number 1
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
    "warm": 9 -> warm must be a whole number from 0 to 8, not the number 9
    "warm": -1 -> warm must be a whole number from 0 to 8, not the number -1
    "warm": "0" -> warm must be a whole number from 0 to 8, not the string "0"
    "warm": 1, "net": ["db:1"] -> the component cannot have warm processes beside net or http; leave warm out: what net or http gives is found out for each run before its process is made
    "warm": 1, "env": {"A": {"secret": "/a"}} -> the component cannot have warm processes beside a Secret in env; leave warm out: what a Secret in env gives is found out for each run before its process is made
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
fn a_command_can_run_as_another_user_and_be_given_a_file() {
    let json = watch_with(
        r#""component": "./x", "commands": {
            "check": ["haproxy", "-c", "-f", "{file}"],
            "reload": {"exec": ["systemctl", "reload", "app"], "uid": "daemon", "no_new_privs": true},
            "plain": {"exec": ["true", "*"]}}"#,
    );
    let mut dir = Dir::new(&[("a.json", &json), ("x", "one")]).with_components();
    let reload = dir.reload();
    assert_eq!(dir.errors(), "");
    let action = super::components::action(&reload.watches[0]);
    let shown: Vec<_> = action.grants.commands.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    "check": ["haproxy", "-c", "-f", "{file}"]
    "plain": ["true", "*"]
    "reload": Exec(["systemctl", "reload", "app"], uid = "daemon")
    "#);
    let [check, plain, reload] = &action.grants.commands[..] else {
        panic!("{shown:?}")
    };
    assert_eq!((check.files(), reload.files(), plain.arguments), (1, 0, true));
    assert!(check.identity.is_none() && plain.identity.is_none());
    let identity = reload.identity.as_ref().unwrap();
    assert_eq!((identity.uid, identity.user.as_str()), (Some(1), "daemon"));
    assert!(reload.hardening.no_new_privs && !check.hardening.no_new_privs);

    // What `check --json` shows can be written in a file.
    let shown = crate::report::to_json(&dir.reload());
    let again = shown["watches"][0]["action"].to_string();
    dir.write("conf/a.json", &format!("[{{\"znode\": \"/a\", \"action\": {again}}}]"));
    let same = dir.reload();
    assert_eq!(
        super::components::action(&same.watches[0]).grants.commands,
        action.grants.commands
    );
}

#[test]
fn a_command_says_what_it_takes() {
    let commands = [
        r#""x y""#,
        r#"{"exec": "x y"}"#,
        r#"{"exec": []}"#,
        r#"{"uid": "daemon"}"#,
        r#"{"exec": ["x"], "gid": "daemon"}"#,
        r#"{"exec": ["x"], "uid": "nobdy"}"#,
        r#"{"exec": ["x"], "uid": true}"#,
        r#"{"exec": ["x"], "udi": "daemon"}"#,
        r#"{"exec": ["x"], "uid": "daemon", "uid": "root"}"#,
        r#"["{file}", "x"]"#,
        r#"["sh", "-c", "nginx -t -c {file}"]"#,
        r#"["x", "--config={file}"]"#,
    ];
    let all = table(&commands, |command| {
        errors_of(&format!("\"commands\": {{\"c\": {command}}}"))
    });
    insta::assert_snapshot!(all, @r#"
    "x y" -> commands must have a list of strings for "c", beginning with the program, not the string "x y"; write ["program", "argument"]: nothing goes through a shell
    {"exec": "x y"} -> commands must have a list of strings for "exec", beginning with the program, not the string "x y"; write ["program", "argument"]: nothing goes through a shell
    {"exec": []} -> commands must have a list of strings for "exec", beginning with the program, not an empty list
    {"uid": "daemon"} -> commands must have a list of strings for "c", beginning with the program, not a dict without "exec"; write Exec(["program"], uid = "user"); in JSON {"exec": ["program"], "uid": "user"}
    {"exec": ["x"], "gid": "daemon"} -> commands has a command with a gid and no uid; a command runs as the watch's user and group, or as another user: give a uid
    {"exec": ["x"], "uid": "nobdy"} -> commands for "c": there is no user "nobdy"; did you mean "nobody"?
    {"exec": ["x"], "uid": true} -> commands must have a name or a number for "uid", not true
    {"exec": ["x"], "udi": "daemon"} -> commands has "udi", which is nothing of a command; did you mean "uid"?
    {"exec": ["x"], "uid": "daemon", "uid": "root"} -> commands has "uid" twice
    ["{file}", "x"] -> commands must not begin with "{file}"; what a component writes is not executed: name a program that is given the file
    ["sh", "-c", "nginx -t -c {file}"] -> commands has "nginx -t -c {file}", in which "{file}" is only a part: the component would write the rest of it; give the file an argument of its own, as in ["sh", "-c", "nginx -t -c \"$1\"", "sh", "{file}"]
    ["x", "--config={file}"] -> commands has "--config={file}", in which "{file}" is only a part: the component would write the rest of it; give the file an argument of its own, as in ["sh", "-c", "nginx -t -c \"$1\"", "sh", "{file}"]
    "#);
    let of_a_watch = told(r#"[{"znode": "/a", "action": {"exec": ["x"], "uid": "root"}}]"#);
    insta::assert_snapshot!(of_a_watch, @r#"action has "uid", which is for commands of a component; the watch has a uid of its own: RegisterWatch(…, uid = …)"#);
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
    insta::assert_snapshot!(errors_of(&format!("\"config\": {{{large}}}")), @"the component is given 1179009 bytes in config, args, env and commands; at most 1048576 are allowed; put large texts into a file, in a directory that dirs grants");
    let unknown = (0..40).map(|n| format!("\"x{n}\": 1")).collect::<Vec<_>>().join(",");
    insta::assert_snapshot!(errors_of(&unknown), @"a component has no more than 11 arguments");
}
