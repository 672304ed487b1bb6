//! Does `do` (get, set, create or children) to the znode that `path` is; sets the data, at `version` if there is one.

guests::action!(|data| {
    let (path, version) = (setting("path"), setting("version").parse().ok());
    match setting("do").as_str() {
        "get" => refused(znodes::get(&path).inspect(|node| println!("{node:?}"))),
        "set" => refused(znodes::set(&path, &data, version).inspect(|stat| println!("{stat:?}"))),
        "create" => refused(znodes::create(&path, &data)),
        _ => refused(znodes::children(&path).inspect(|names| println!("{names:?}"))),
    }
});
