//! A program that tries something with files and says how it went: `read PATH`, `write PATH`, `link TARGET` (by a link of its own in
//! `/out`), `remove PATH`.

use std::fs;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, path] = &arguments[..] else {
        panic!("two arguments")
    };
    let done = match what.as_str() {
        "read" => fs::read_to_string(path).map(|text| println!("read {text:?}")),
        "write" => fs::write(path, "written"),
        "link" => link(path).and_then(|()| fs::write("/out/own-link", "written")),
        "remove" => fs::remove_file(path),
        _ => panic!("no such thing"),
    };
    if let Err(error) = done {
        println!("refused: {error}");
        std::process::exit(3);
    }
}

#[cfg(target_env = "p1")]
fn link(target: &str) -> std::io::Result<()> {
    std::os::wasi::fs::symlink_path(target, "/out/own-link")
}

#[cfg(not(target_env = "p1"))]
fn link(_: &str) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
