//! Makes a link to `target` in its directory, and writes through it.
//! The `target` may be absolute.

use wasip2::filesystem::preopens::get_directories;

guests::action!(|_| {
    let (out, _) = get_directories()
        .into_iter()
        .find(|(_, name)| name == "/out")
        .expect("/out is granted");
    println!("link: {:?}", out.symlink_at(&setting("target"), "own-link"));
    // Through the link if there is one: without one this is no new file either.
    refused(std::fs::OpenOptions::new().write(true).open("/out/own-link"))
});
