//! What would change in a file, for a reader of the log.

use std::time::Duration;

use similar::TextDiff;

/// Most lines that are shown of one file.
const LINES: usize = 200;
/// Longest line that is shown, in bytes.
const LINE: usize = 500;
/// How long the shortest difference is looked for; after it any will do.
const PATIENCE: Duration = Duration::from_secs(1);

/// The lines of a unified diff.
pub fn unified(file: &str, old: Option<&[u8]>, new: &str) -> Vec<String> {
    let from = if old.is_some() { file } else { "/dev/null" };
    let old = String::from_utf8_lossy(old.unwrap_or_default());
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(&*old, new);
    let text = diff.unified_diff().context_radius(3).header(from, file).to_string();
    let count = text.lines().count();
    let mut lines: Vec<_> = text.lines().take(LINES).map(shortened).collect();
    if count > LINES {
        lines.push(format!("... {} more lines", count - LINES));
    }
    lines
}

fn shortened(line: &str) -> String {
    match line.char_indices().find(|(at, _)| *at >= LINE) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_that_patch_takes_and_no_longer_than_can_be_read() {
        let old = "a\nb\nc\nd\ne\nf\ng\n";
        let shown = unified("/out/x", Some(old.as_bytes()), "a\nb\nc\nD\ne\nf\ng\n");
        assert_eq!(
            shown,
            [
                "--- /out/x",
                "+++ /out/x",
                "@@ -1,7 +1,7 @@",
                " a",
                " b",
                " c",
                "-d",
                "+D",
                " e",
                " f",
                " g"
            ]
        );
        let shown = unified("/out/x", None, "a");
        assert_eq!(shown[..4], ["--- /dev/null", "+++ /out/x", "@@ -0,0 +1 @@", "+a"]);
        let long = unified("/out/x", None, &"x\n".repeat(1000));
        assert_eq!((long.len(), long[LINES].as_str()), (LINES + 1, "... 803 more lines"));
        assert!(
            unified("/out/x", None, &"ä".repeat(1000))
                .iter()
                .all(|line| line.len() < LINE + 5)
        );
        assert!(unified("/out/x", Some(b"\xff\n"), "y\n").contains(&"-\u{fffd}".to_owned()));
    }
}
