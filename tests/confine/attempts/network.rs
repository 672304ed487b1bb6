//! What is tried of sockets.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::{Attempt, attempt, call, errno, io, loopback, pointer, send_to, socket, tcp_socket};
use crate::Expected::{Killed, Works};
use crate::{DENIED, NO_ACCESS};

pub const ATTEMPTS: &[Attempt] = &[
    attempt("sockets", "urgent data", DENIED, |here| {
        let (socket, data) = (here.pair.0.as_raw_fd() as usize, [0_u8]);
        call(
            libc::SYS_sendto,
            [socket, data.as_ptr() as usize, 1, libc::MSG_OOB as usize],
        )
    }),
    attempt("sockets", "urgent data of another", DENIED, |here| {
        let (socket, data) = (here.pair.0.as_raw_fd() as usize, [0_u8]);
        call(
            libc::SYS_recvfrom,
            [socket, data.as_ptr() as usize, 1, libc::MSG_OOB as usize],
        )
    }),
    attempt("sockets", "who is at the other end", DENIED, |here| {
        let (socket, answer, length) = (here.pair.0.as_raw_fd() as usize, [0_u8; 12], 12_u32);
        let (level, name) = (libc::SOL_SOCKET as usize, libc::SO_PEERCRED as usize);
        call(
            libc::SYS_getsockopt,
            [socket, level, name, answer.as_ptr() as usize, pointer(&length)],
        )
    }),
    attempt("sockets", "tcp", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_STREAM, 0)
    }),
    attempt("sockets", "tcp over IPv6", DENIED, |_| {
        socket(libc::AF_INET6, libc::SOCK_STREAM, 0)
    }),
    attempt("sockets", "udp", DENIED, |_| socket(libc::AF_INET, libc::SOCK_DGRAM, 0)),
    attempt("sockets", "unix", DENIED, |_| {
        socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)
    }),
    attempt("sockets", "netlink", DENIED, |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)
    }),
    attempt("sockets", "raw", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
    }),
    attempt("sockets", "packet", DENIED, |_| {
        socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
    }),
    attempt("sockets", "vsock", DENIED, |_| {
        socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
    }),
    attempt("sockets", "alg", DENIED, |_| {
        socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)
    }),
    attempt("sockets", "a pair", DENIED, |_| {
        let mut pair = [0_i32; 2];
        let at = pair.as_mut_ptr() as usize;
        call(
            libc::SYS_socketpair,
            [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0, at],
        )
    }),
    attempt("sockets", "every family", DENIED, |_| {
        (0..64)
            .map(|family| socket(family, libc::SOCK_STREAM, 0))
            .find(|made| *made != Err(Errno::EPERM))
            .unwrap_or(Err(Errno::EPERM))
    }),
    attempt("sockets", "connect", DENIED, |here| {
        call(libc::SYS_connect, [here.pair.0.as_raw_fd() as usize])
    }),
    attempt("sockets", "bind", DENIED, |here| {
        call(libc::SYS_bind, [here.pair.0.as_raw_fd() as usize])
    }),
    attempt("sockets", "listen", DENIED, |here| {
        call(libc::SYS_listen, [here.pair.0.as_raw_fd() as usize, 1])
    }),
    attempt("sockets", "accept", DENIED, |here| {
        call(libc::SYS_accept4, [here.pair.0.as_raw_fd() as usize])
    }),
    attempt("tcp", "the granted port", Works, |here| {
        io(TcpStream::connect(loopback(here.granted_port)))
    }),
    attempt("tcp", "another port", NO_ACCESS, |here| {
        io(TcpStream::connect(loopback(here.other_port)))
    }),
    attempt("tcp", "another port by sending to it", DENIED, |here| {
        send_to(tcp_socket()?, libc::MSG_FASTOPEN, loopback(here.other_port))
    }),
    attempt("tcp", "another port by an option", DENIED, |_| {
        let (socket, on) = (tcp_socket()?, 1_i32);
        call(
            libc::SYS_setsockopt,
            [
                socket as usize,
                libc::IPPROTO_TCP as usize,
                libc::TCP_FASTOPEN_CONNECT as usize,
                pointer(&on),
                4,
            ],
        )
    }),
    attempt("tcp", "options of a client", Works, |here| {
        let stream = TcpStream::connect(loopback(here.granted_port)).map_err(errno)?;
        io(stream.set_nodelay(true))?;
        io(stream.set_nonblocking(true))?;
        io(stream.set_ttl(10))?;
        io(stream.peer_addr())?;
        io(stream.take_error())
    }),
    attempt("tcp", "listening", DENIED, |_| io(TcpListener::bind(loopback(0)))),
    attempt("tcp", "listening without a bind", DENIED, |_| {
        call(libc::SYS_listen, [tcp_socket()? as usize, 1])
    }),
    attempt("tcp", "udp", DENIED, |_| io(UdpSocket::bind(loopback(0)))),
    attempt("tcp", "a protocol like it", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)
    }),
    attempt("tcp", "sctp", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP)
    }),
    attempt("tcp", "unix", DENIED, |_| socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)),
    attempt("tcp", "raw", DENIED, |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP)
    }),
    attempt("tcp", "execve all the same", Killed, |_| call(libc::SYS_execve, [])),
];
