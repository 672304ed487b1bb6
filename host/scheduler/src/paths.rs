//! Merging the lists of changed paths that tree watches put on stdin.

use bytes::Bytes;

/// Longest merged list, in bytes: as much as a znode can hold by default, which is the most that other updates carry.
const LIMIT: usize = 1024 * 1024;

/// The union of two lists of paths, one a line: sorted, each once, every line ended.
///
/// A run that never ends while new names come and go would make the list grow without bound, so one that would exceed the
/// limit is replaced by the nearest common ancestor: still true ("something below it changed"), only less precise.
pub fn merge(older: &Bytes, newer: &Bytes) -> Bytes {
    merge_up_to(LIMIT, older, newer)
}

fn merge_up_to(limit: usize, older: &Bytes, newer: &Bytes) -> Bytes {
    if older.is_empty() {
        return newer.clone();
    }
    let mut lines: Vec<&[u8]> = [older, newer]
        .iter()
        .flat_map(|list| list.split(|byte| *byte == b'\n'))
        .filter(|line| !line.is_empty())
        .collect();
    // Stable, because that sort is linear in two sorted runs.
    lines.sort();
    lines.dedup();
    let size = lines.iter().map(|line| line.len() + 1).sum();
    let mut merged = Vec::new();
    if size <= limit {
        merged.reserve_exact(size);
        for line in lines {
            merged.extend_from_slice(line);
            merged.push(b'\n');
        }
    } else if let (Some(first), Some(last)) = (lines.first(), lines.last()) {
        merged.extend_from_slice(common_ancestor(first, last));
        merged.push(b'\n');
    }
    merged.into()
}

/// The deepest path that both lie within. Of a sorted list, the first and the last have no more in common than all have.
fn common_ancestor<'a>(a: &'a [u8], b: &[u8]) -> &'a [u8] {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let whole = |path: &[u8]| path.len() == same || path.get(same) == Some(&b'/');
    if same > 0 && whole(a) && whole(b) {
        return &a[..same];
    }
    match a[..same].iter().rposition(|byte| *byte == b'/') {
        Some(0) | None => b"/",
        Some(slash) => &a[..slash],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(limit: usize, older: &'static str, newer: &'static str) -> String {
        let bytes = merge_up_to(limit, &Bytes::from_static(older.as_bytes()), &newer.into());
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn union_sorted_and_once() {
        for (older, newer, expected) in [
            ("", "", ""),
            ("", "/a\n", "/a\n"),
            ("/a\n", "", "/a\n"),
            ("/b\n/c\n", "/a\n/b\n/d\n", "/a\n/b\n/c\n/d\n"),
            ("/b", "/a", "/a\n/b\n"),
        ] {
            assert_eq!(merged(100, older, newer), expected, "{older:?} {newer:?}");
        }
    }

    #[test]
    fn too_long_a_list_becomes_the_common_ancestor() {
        for (older, newer, expected) in [
            ("/a/b/c\n", "/a/b/d\n", "/a/b\n"),
            ("/a/b\n", "/a/b/d\n", "/a/b\n"),
            ("/a/bc\n", "/a/bd\n", "/a\n"),
            ("/a/b\n", "/a/bd\n", "/a\n"),
            ("/a\n", "/b\n", "/\n"),
            ("/\n", "/b\n", "/\n"),
        ] {
            assert_eq!(merged(3, older, newer), expected, "{older:?} {newer:?}");
        }
    }
}
