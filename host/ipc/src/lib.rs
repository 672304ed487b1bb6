//! How the processes of a daemon work together: bounded messages, memory files that nobody can change, and helper processes that are
//! watched. Both ends of each channel take the other for hostile. It must not know what is said, nor what a process is for.
//!
//! ```text
//! frames     messages on a stream          datagram   messages on a SOCK_SEQPACKET pair, with descriptors
//!   └─ helper   a process that answers       └─ memfd    what is too large for one
//! ```

#![forbid(unsafe_code)]

pub mod datagram;
pub mod frames;
pub mod helper;
pub mod memfd;
