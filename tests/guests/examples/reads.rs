//! Reads the file that `path` names.

guests::action!(|_| {
    let text = std::fs::read_to_string(setting("path"));
    println!("{text:?}");
    refused(text)
});
