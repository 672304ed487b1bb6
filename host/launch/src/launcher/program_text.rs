//! The code that a process runs: a clone has none of it mapped, and each first use of a page costs a fault. Who has time maps it before.

use std::ops::Range;

use nix::libc;

/// Where code is mapped from files.
#[derive(Debug, Default)]
pub struct ProgramText(Vec<Range<usize>>);

impl ProgramText {
    /// Of the calling process; none where that cannot be looked at.
    pub fn find() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Self(maps.lines().filter_map(code).collect())
    }

    /// Maps all of it. It changes nothing that a process sees of its memory; without an effect, on kernels before 5.14, it is slower.
    pub fn map(&self) {
        for range in &self.0 {
            // SAFETY: the advice to populate for reading leaves what is in memory as it is, wherever that is.
            #[allow(unsafe_code)]
            unsafe {
                libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_POPULATE_READ);
            }
        }
    }
}

fn code(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()?.starts_with("r-x");
    let has_file = fields.nth(2)? != "0";
    let number = |text| usize::from_str_radix(text, 16).ok();
    (is_code && has_file).then_some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_files_is_found_and_mapped() {
        assert_eq!(
            code("1000-3000 r-xp 00001000 fe:00 77 /usr/bin/x"),
            Some(0x1000..0x3000)
        );
        for other in [
            "1000-3000 r--p 00001000 fe:00 77 /usr/bin/x",
            "1000-3000 rw-p 00000000 00:00 0 [heap]",
            "1000-3000 r-xp 00000000 00:00 0 [vdso]",
            "nonsense",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
        let text = ProgramText::find();
        let own = code_of_files_is_found_and_mapped as fn() as usize;
        assert!(text.0.iter().any(|range| range.contains(&own)));
        text.map();
    }
}
