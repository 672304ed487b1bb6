//! Connects by TCP to the address that `address` is, and says hello.

use std::io::Write;

guests::action!(|_| {
    refused(std::net::TcpStream::connect(setting("address")).and_then(|mut stream| stream.write_all(b"hello")))
});
