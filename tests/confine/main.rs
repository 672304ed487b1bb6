//! The second layer of the sandbox against native code.
//!
//! A component cannot make a system call, so these tests are what a bug in the compiler would be: each runs this very program
//! again, as root and as nobody, confined as a component's process is, and there tries one thing.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed; Clippy knows only functions marked as tests"
)]
#![allow(unsafe_code, reason = "what a library would refuse to do is tried here")]

mod attempts;
mod scene;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use attempts::{ATTEMPTS, Attempt};
use scene::{End, Scene, User};

/// What an attempt must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// It succeeds.
    Works,
    /// It fails with this error.
    Fails(Errno),
    /// The process is killed for it.
    Killed,
}

/// The seccomp filter's answer.
const DENIED: Expected = Expected::Fails(Errno::EPERM);
/// Landlock's answer, and that of the user's rights.
const NO_ACCESS: Expected = Expected::Fails(Errno::EACCES);

/// Runs the attempts of one group as every user this test can become.
fn check(group: &str) {
    for user in users() {
        let scene = Scene::new();
        let wrong: Vec<_> = attempts(group)
            .filter_map(|attempt| {
                let end = scene.attempt(attempt.name, *user, true);
                (!is(&end, attempt.expected)).then(|| format!("{}: {end:?}, not {:?}", attempt.name, attempt.expected))
            })
            .collect();
        assert!(wrong.is_empty(), "as {user:?}:\n{}", wrong.join("\n"));
        scene.assert_untouched();
    }
}

fn users() -> &'static [User] {
    match geteuid().is_root() {
        true => &[User::Root, User::Nobody],
        false => &[User::Unchanged],
    }
}

fn attempts(group: &str) -> impl Iterator<Item = &'static Attempt> {
    ATTEMPTS.iter().filter(move |attempt| attempt.group == group)
}

fn is(end: &End, expected: Expected) -> bool {
    match expected {
        Expected::Works => *end == End::Succeeded,
        Expected::Fails(errno) => *end == End::Failed(errno),
        Expected::Killed => *end == End::Killed(Signal::SIGSYS),
    }
}

#[test]
fn no_program_and_no_process_is_started() {
    check("processes");
}

#[test]
fn no_other_process_is_reached() {
    check("others");
}

#[test]
fn only_granted_files_are_reached() {
    check("files");
}

#[test]
fn no_socket_is_made_unless_granted() {
    check("sockets");
}

#[test]
fn only_granted_ports_are_reached_and_only_by_tcp() {
    check("tcp");
}

#[test]
fn no_memory_is_made_executable() {
    check("memory");
}

#[test]
fn no_other_part_of_the_kernel_is_reached() {
    check("kernel");
}

#[test]
fn all_that_the_runtime_needs_works() {
    check("needed");
}

/// What is denied must be denied by the confinement and by nothing else, or the tests above show nothing.
#[test]
fn without_the_confinement_it_is_possible() {
    let user = users()[0];
    for attempt in ["files", "sockets", "memory"].into_iter().flat_map(attempts) {
        let end = Scene::new().attempt(attempt.name, user, false);
        assert!(!is(&end, attempt.expected), "{}: {end:?}", attempt.name);
    }
}

/// What [`Scene::attempt`] executes; by itself it does nothing.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn attempt() {
    scene::attempt_here();
}
