//! Resolves the name that `name` is.

use std::net::ToSocketAddrs;

guests::action!(|_| {
    let addresses = (setting("name").as_str(), 80).to_socket_addrs();
    refused(addresses.map(|found| println!("found {:?}", found.collect::<Vec<_>>())))
});
