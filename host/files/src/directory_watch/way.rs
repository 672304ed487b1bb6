//! The way to a path: every name on it, through every symbolic link, in the order in which the kernel looks them up.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Most symbolic links on a way; the kernel follows no more.
const MOST_LINKS: usize = 40;

/// Follows an absolute path. `step` is called with each name that is looked up and the directory that it is looked up in, under its
/// real path, before it is looked up: whoever watches it then misses nothing. Returns the real path of what is there; none if
/// something on the way is missing or cannot be looked at. Blocks.
pub fn follow(path: &Path, mut step: impl FnMut(&Path, &OsStr)) -> Option<PathBuf> {
    let mut directory = PathBuf::from("/");
    let mut ahead = names(path);
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            directory.pop();
            continue;
        }
        step(&directory, &name);
        let at = directory.join(&name);
        if !fs::symlink_metadata(&at).ok()?.is_symlink() {
            directory = at;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return None;
        }
        let target = fs::read_link(&at).ok()?;
        if target.is_absolute() {
            directory = PathBuf::from("/");
        }
        ahead.extend(names(&target));
    }
    Some(directory)
}

/// The names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.map(OsStr::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_name_through_every_link() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(root.join("links")).unwrap();
        symlink("../a/./b", root.join("links/one")).unwrap();
        symlink(root.join("links/one"), root.join("two")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let follow = |path: &str| {
            let mut steps = Vec::new();
            let end = follow(&root.join(path), |directory, name| {
                let step = directory.join(name);
                if let Ok(below) = step.strip_prefix(&root)
                    && step != root
                {
                    steps.push(below.display().to_string());
                }
            });
            steps.dedup();
            (steps, end)
        };
        let (steps, end) = follow("two/c/d");
        assert_eq!(steps, ["two", "links", "links/one", "a", "a/b", "a/b/c"]);
        assert_eq!(end, None, "there is no c");
        assert_eq!(follow("two").1, Some(root.join("a/b")));
        assert_eq!(follow("two/../../links").1, Some(root.join("links")));
        assert_eq!(follow("loop").1, None);
    }
}
