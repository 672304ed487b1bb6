//! Sends a datagram to the address that `address` is.

guests::action!(|_| {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0");
    refused(socket.and_then(|socket| socket.send_to(b"hello", setting("address"))))
});
