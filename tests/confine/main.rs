//! The second layer of the sandbox against native code.
//!
//! A component cannot make a system call, so these tests are what a bug in the compiler would be: each runs this very program
//! again, as root and as nobody, confined as a component's process is, and there tries one thing. The same is tried in what the helpers
//! are that work on hostile input.

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

use attempts::Attempt;
use scene::{End, Scene, User, Wall};

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
/// The answer of a root in which there is nothing.
const NOT_THERE: Expected = Expected::Fails(Errno::ENOENT);

/// Runs the attempts of one group as every user this test can become.
fn check(group: &str) {
    for user in users() {
        check_behind(Wall::Component, group, *user);
    }
}

fn check_behind(wall: Wall, group: &str, user: User) {
    let scene = Scene::new();
    let wrong: Vec<_> = attempts(group)
        .filter_map(|attempt| {
            let end = scene.attempt(attempt.name, user, wall);
            let expected = expected(attempt, wall);
            (!is(&end, expected)).then(|| format!("{}: {end:?}, not {expected:?}", attempt.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{wall:?}, as {user:?}:\n{}", wrong.join("\n"));
    scene.assert_untouched();
}

/// What is different for helpers: no directory is granted to them, nor is there one if root starts them, and each may what its work needs.
fn expected(attempt: &Attempt, wall: Wall) -> Expected {
    match (wall, attempt.name) {
        (Wall::Component | Wall::Namespaces, _) => attempt.expected,
        (_, "listing /") => NO_ACCESS,
        _ if geteuid().is_root() && (attempt.expected == NO_ACCESS || attempt.name == "linking in") => NOT_THERE,
        (_, "linking in") => NO_ACCESS,
        (Wall::Compiler, "a thread") => Expected::Works,
        (Wall::Compiler, "clone3") => Expected::Fails(Errno::ENOSYS),
        (Wall::Evaluator, "its own processor time") => Expected::Works,
        _ => attempt.expected,
    }
}

/// Whoever starts a helper, it becomes the same.
fn check_helpers(group: &str) {
    for wall in [Wall::Evaluator, Wall::Compiler, Wall::Judge] {
        check_behind(wall, group, users()[0]);
    }
}

fn users() -> &'static [User] {
    match geteuid().is_root() {
        true => &[User::Root, User::Nobody],
        false => &[User::Unchanged],
    }
}

fn attempts(group: &str) -> impl Iterator<Item = &'static Attempt> {
    attempts::all().filter(move |attempt| attempt.group == group)
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

/// What is not granted cannot even be looked at, which no rule of Landlock denies.
#[test]
fn in_empty_namespaces_only_granted_files_exist() {
    if !geteuid().is_root() {
        eprintln!("only root makes namespaces: left out");
        return;
    }
    for user in users() {
        check_behind(Wall::Namespaces, "hidden", *user);
    }
    let scene = Scene::new();
    for name in ["the facts of a file outside", "the facts of what is above a grant"] {
        let end = scene.attempt(name, User::Nobody, Wall::Component);
        assert_eq!(end, End::Succeeded, "{name} shows nothing");
    }
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

#[test]
fn a_helper_starts_no_program_and_no_process() {
    check_helpers("processes");
}

#[test]
fn a_helper_reaches_no_other_process() {
    check_helpers("others");
}

#[test]
fn a_helper_reaches_no_file() {
    check_helpers("files");
    check_helpers("no grants");
}

#[test]
fn for_a_helper_no_file_exists() {
    if !geteuid().is_root() {
        eprintln!("only root makes namespaces: left out");
        return;
    }
    let scene = Scene::new();
    for wall in [Wall::Evaluator, Wall::Compiler, Wall::Judge] {
        for name in [
            "the facts of a file outside",
            "the facts of the users",
            "the facts of itself",
        ] {
            let end = scene.attempt(name, User::Root, wall);
            assert!(is(&end, NOT_THERE), "{wall:?}, {name}: {end:?}");
        }
    }
}

#[test]
fn a_helper_makes_no_socket() {
    check_helpers("sockets");
}

#[test]
fn a_helper_makes_no_memory_executable() {
    check_helpers("memory");
}

#[test]
fn a_helper_reaches_no_other_part_of_the_kernel() {
    check_helpers("kernel");
}

/// What is denied must be denied by the confinement and by nothing else, or the tests above show nothing.
#[test]
fn without_the_confinement_it_is_possible() {
    let user = users()[0];
    for attempt in ["files", "sockets", "memory"].into_iter().flat_map(attempts) {
        let end = Scene::new().attempt(attempt.name, user, Wall::None);
        assert!(!is(&end, attempt.expected), "{}: {end:?}", attempt.name);
    }
}

/// What [`Scene::attempt`] executes; by itself it does nothing.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn attempt() {
    scene::attempt_here();
}
