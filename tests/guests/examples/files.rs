//! A program that tries something with files and says how it went: `read PATH`, `write PATH`, `link TARGET` (by a link of its own in
//! `/out`), `remove PATH`.

use std::ffi::{CString, c_char, c_int};
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

fn link(target: &str) -> std::io::Result<()> {
    unsafe extern "C" {
        /// Of the C library, which the standard library is linked with.
        fn symlink(target: *const c_char, link: *const c_char) -> c_int;
    }
    let target = CString::new(target)?;
    // SAFETY: both are strings that end with NUL, and outlive the call.
    match unsafe { symlink(target.as_ptr(), c"/out/own-link".as_ptr()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
