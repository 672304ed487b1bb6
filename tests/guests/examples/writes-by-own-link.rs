//! Makes a link to `target` in its directory, and writes through it. `target` may be absolute.

guests::action!(|_| {
    let made = std::os::wasi::fs::symlink_path(setting("target"), "/out/link");
    println!("link: {made:?}");
    refused(std::fs::write("/out/link", "written by a guest"))
});
