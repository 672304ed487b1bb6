//! Writes a gigabyte to standard output.

use std::io::Write;

guests::action!(|_| {
    let line = [&[b'x'; 1023][..], b"\n"].concat().repeat(1024);
    let mut out = std::io::stdout().lock();
    for _ in 0..1024 {
        out.write_all(&line)
            .map_err(|error| Failure::Permanent(format!("{error:?}")))?;
    }
    Ok(())
});
