//! Writes down that it ran, as the actions of the chaos suite do (see tests/chaos/journal.rs), and which version of it this is.

use std::io::Write;

/// The suite changes the digit in the file: another version of the component.
static VERSION: [u8; 16] = *b"chaos-version-0\n";

guests::action!(|data| {
    let append = |text: String| {
        let path = format!("/out/{}", context::watch_name());
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::Permanent(format!("cannot write: {error}")))
    };
    let now = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_millis())
    };
    let event = format!("{:?}", context::event()).to_lowercase();
    let event = event.rsplit(':').next().unwrap_or_default().to_owned();
    let mzxid = context::node_stat().map_or(0, |stat| stat.mzxid);
    // Read as it is in the file, not as the compiler knows it.
    let version = char::from(unsafe { std::ptr::read_volatile(&VERSION[14]) });
    let (run, attempt) = (context::run_id(), context::attempt());
    let data = String::from_utf8_lossy(&data).replace(['\n', '\t'], " ");
    append(format!(
        "start\t{}\t{run}\t0\t0\t{event}\t{attempt}\t{mzxid}\t{version}\t{data}\n",
        now()
    ))?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    append(format!("end\t{}\t{run}\n", now()))
});
