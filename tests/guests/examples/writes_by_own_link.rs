//! Makes a link to `target` in its directory, and writes through it.
//! The `target` may be absolute.

use wasip2::filesystem::preopens::get_directories;

guests::action!(|_| {
    let (out, _) = get_directories()
        .into_iter()
        .find(|(_, name)| name == "/out")
        .expect("/out is granted");
    println!("link: {:?}", out.symlink_at(&setting("target"), "link"));
    refused(std::fs::write("/out/link", "written by a guest"))
});
