//! The blocks of a bundle: a tar file of which only one form is allowed.
//!
//! A name and a size have exactly one header, the one that GNU tar writes with `--format=ustar --owner=0 --group=0 --numeric-owner
//! --mtime=@0 --mode=0644`. So a reader compares blocks instead of interpreting them: there is nothing in a header that could
//! mislead it, no second way to pack the same files, and no place for anything that the manifest does not speak of.

/// Length of a header, and what the length of content is rounded up to, in bytes.
pub const BLOCK: usize = 512;
/// One block.
pub type Block = [u8; BLOCK];
/// The end of the archive: two blocks of zeros.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;

/// The header of a file. The name must be shorter than 100 bytes, the size less than 8 GiB: the manifest sees to both.
pub fn header(name: &str, size: u64) -> Block {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| {
        if let Some(field) = header.get_mut(at..at + text.len()) {
            field.copy_from_slice(text);
        }
    };
    put(NAME.start, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(SIZE.start, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(KIND, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\x000000000\0");
    let checksum = format!("{:06o}\0 ", sum(&header));
    header[CHECKSUM].copy_from_slice(checksum.as_bytes());
    header
}

/// The bytes that fill the last block of content.
pub fn padding(size: u64) -> usize {
    // The remainder is less than a block.
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// What a header says of its size, if it says it in the one allowed form.
pub fn size(header: &Block) -> Option<u64> {
    let (last, digits) = header[SIZE].split_last()?;
    let octal = |byte: &u8| (b'0'..=b'7').contains(byte);
    let number = |sum: u64, byte: &u8| sum << 3 | u64::from(byte - b'0');
    (*last == 0 && digits.iter().all(octal)).then(|| digits.iter().fold(0, number))
}

/// Whether a header is that of a file with this name.
pub fn is_named(header: &Block, name: &str) -> bool {
    let field = &header[NAME];
    field.starts_with(name.as_bytes()) && field[name.len()..].iter().all(|byte| *byte == 0)
}

/// Why a header is not the expected one, in words.
pub fn why_not(header: &Block, name: &str, size: Option<u64>, seen: &[String]) -> String {
    if *header == [0; BLOCK] {
        return "the archive ends before it".to_owned();
    }
    let claimed = String::from_utf8_lossy(&header[CHECKSUM]).into_owned();
    let claimed = u32::from_str_radix(claimed.trim_matches(['\0', ' ']), 8);
    if claimed != Ok(sum(header)) {
        return "there is something else than the header of a file".to_owned();
    }
    let found = String::from_utf8_lossy(&header[NAME]).trim_end_matches('\0').to_owned();
    let kind = match header[KIND] {
        b'0' | 0 | b'7' => None,
        b'1' => Some("a hard link"),
        b'2' => Some("a symbolic link"),
        b'3' | b'4' => Some("a device"),
        b'5' => Some("a directory"),
        b'6' => Some("a pipe"),
        b'S' => Some("a sparse file"),
        b'x' | b'g' | b'X' => Some("an extended header"),
        b'K' | b'L' => Some("a long name"),
        _ => Some("an entry of an unknown kind"),
    };
    if let Some(kind) = kind {
        return format!("{found:?} is {kind}: a bundle holds files only");
    }
    if found != name {
        return match () {
            () if found.starts_with('/') => format!("{found:?} is an absolute path"),
            () if found.split('/').any(|part| part == "..") => format!("{found:?} leads out of the bundle"),
            () if seen.contains(&found) => format!("{found:?} comes a second time"),
            () => format!("{found:?} comes instead"),
        };
    }
    match (self::size(header), size) {
        (Some(found), Some(size)) if found != size => {
            format!("it claims to be {found} bytes long, and the manifest says {size}")
        }
        (None, _) => "its size is not 11 octal digits and a NUL".to_owned(),
        _ => {
            "its header has other fields than a bundle's: mode 0644, owner and group 0 without names, time 0".to_owned()
        }
    }
}

/// The sum of the bytes, where those of the checksum itself count as spaces.
fn sum(header: &Block) -> u32 {
    let all: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = header[CHECKSUM].iter().map(|byte| u32::from(*byte)).sum();
    all - own + 8 * u32::from(b' ')
}
