//! Opens `/out/file` until it cannot any more, and says how often it could.

guests::action!(|_| {
    let mut open = vec![];
    loop {
        match std::fs::File::create("/out/file") {
            Ok(file) => open.push(file),
            Err(error) => return Err(Failure::Permanent(format!("after {}: {error:?}", open.len()))),
        }
    }
});
