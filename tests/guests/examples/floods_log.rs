//! Writes a million records to the log.

guests::action!(|_| {
    for record in 0..1_000_000 {
        log::log(
            log::Level::Info,
            &format!("record {record}"),
            &[("filler".into(), "x".repeat(1000))],
        );
    }
    Ok(())
});
