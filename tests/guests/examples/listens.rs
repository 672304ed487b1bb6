//! Listens on a TCP port of its own.

guests::action!(|_| refused(std::net::TcpListener::bind("127.0.0.1:0")));
