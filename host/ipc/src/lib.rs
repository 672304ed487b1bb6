//! How the processes of a daemon work together: bounded messages, memory files that nobody can change, helper processes that are watched,
//! and giving up rights for good. Both ends of each channel take the other for hostile. It must not know what is said, nor what a process
//! is for.
//!
//! ```text
//! frames     messages on a stream          datagram   messages on a SOCK_SEQPACKET pair, with descriptors
//!   └─ helper   a process that answers       └─ memfd    what is too large for one
//!        └─ rights   what it gives up first
//! ```

#![forbid(unsafe_code)]

pub mod datagram;
pub mod frames;
pub mod helper;
pub mod memfd;
pub mod rights;
