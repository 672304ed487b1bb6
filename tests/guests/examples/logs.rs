//! Logs at every level, with fields, with control characters, and one record that is far too long.

guests::action!(|_| {
    use log::Level::{Debug, Error, Info, Trace, Warn};
    for level in [Trace, Debug, Info, Warn, Error] {
        log::log(level, "at this level", &[("key".into(), "value".into())]);
    }
    log::log(
        Info,
        "a line\nand \u{1b}[31mred\0 ones",
        &[("name\n".into(), "value\n".into())],
    );
    log::log(
        Info,
        &"long".repeat(1 << 20),
        &[("long".into(), "field".repeat(1 << 20))],
    );
    println!("on standard output");
    eprintln!("on standard error");
    Ok(())
});
