//! The files of a daemon: where its programs and its state are, and what is done to them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What its state directory may hold.
const STATE_SIZE: &str = "16m";

/// Removes files of the cache of native code, cuts them short in place, or leaves them alone.
pub fn damage_cache(state: &Path, choice: u32) {
    let entries = fs::read_dir(state.join("components")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    for (index, path) in files.iter().enumerate() {
        let cut = |part: u64| {
            let file = fs::OpenOptions::new().write(true).open(path)?;
            file.set_len(file.metadata()?.len() / 2 * part)
        };
        // The daemon removes some of them itself.
        let _ = match choice.rotate_right(index as u32 * 2) % 4 {
            0 => fs::remove_file(path),
            1 => cut(0),
            2 => cut(1),
            _ => Ok(()),
        };
    }
}

/// Leaves no room.
pub fn fill(state: &Path) {
    let mut filler = fs::File::create(state.join("filler")).unwrap();
    for size in [1 << 16, 1 << 9, 1] {
        let block = vec![0; size];
        while filler.write_all(&block).is_ok() {}
    }
}

/// Makes a program available at another path.
pub fn place(program: &Path, at: &Path) {
    if fs::hard_link(program, at).is_err() {
        fs::copy(program, at).unwrap();
    }
}

/// Mounts a small file system.
pub fn mount(at: &Path) {
    let options = format!("size={STATE_SIZE},mode=0700");
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "chaos"])
        .arg(at)
        .status();
    assert!(status.unwrap().success(), "cannot mount a file system for state");
}
