//! How the processes of a daemon work together: bounded messages, memory files that nobody can change, and giving up rights for good.
//! Both ends of each channel take the other for hostile. It must not know what is said, nor what a process is for.

#![forbid(unsafe_code)]

pub mod memfd;
pub mod rights;
