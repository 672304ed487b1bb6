//! A program: from the text of a request to its execution.
//!
//! The process shares the launcher's memory until then if it may, which is faster than a copy. All that can be done before the clone is done
//! before it, so that the child only makes system calls. Nothing of the text is copied: whoever has it wipes it, and then it is gone.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use nix::errno::Errno;

use crate::launcher::clone::Born;
use crate::launcher::spawn::{Parent, fork, run_to_end};
use crate::launcher::steps::{Frame, Settings, SpawnFailure};
use crate::protocol::{ProgramText, Reply, Step, send_reply};

/// A program that is about to be executed.
pub struct Program<'a> {
    frame: Frame,
    settings: Settings,
    cwd: &'a CStr,
    candidates: Vec<&'a CStr>,
    argv: Pointers<'a>,
    envp: Pointers<'a>,
}

/// A null-terminated array of pointers to C strings.
struct Pointers<'a> {
    _strings: Vec<&'a CStr>,
    pointers: Vec<*const c_char>,
}

impl<'a> Pointers<'a> {
    fn new(strings: Vec<&'a CStr>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Self {
            _strings: strings,
            pointers,
        }
    }
}

impl<'a> Program<'a> {
    /// Fails with `EINVAL` for text that holds a NUL and for an empty command.
    pub fn new(frame: Frame, text: ProgramText<'a>, launcher: &Parent<'_>) -> Result<Self, SpawnFailure> {
        let c_string =
            |text: &'a str, step| CStr::from_bytes_with_nul(text.as_bytes()).map_err(|_| (step, Errno::EINVAL));
        let c_strings = |texts: Vec<&'a str>| -> Result<Vec<&'a CStr>, SpawnFailure> {
            texts.into_iter().map(|text| c_string(text, Step::Exec)).collect()
        };
        if text.argv.is_empty() {
            return Err((Step::Exec, Errno::EINVAL));
        }
        Ok(Self {
            frame,
            settings: Settings::new(text.setup, launcher),
            cwd: c_string(text.cwd, Step::Chdir)?,
            candidates: c_strings(text.candidates)?,
            argv: Pointers::new(c_strings(text.argv)?),
            envp: Pointers::new(c_strings(text.env)?),
        })
    }

    /// Clones a process that goes through the steps and becomes the program.
    pub fn spawn(mut self, may_share: bool, launcher: &Parent<'_>) -> Result<(), SpawnFailure> {
        let at = |errno| (Step::Clone, errno);
        match launcher.stack {
            Some(stack) if may_share => {
                self.frame.waited_for = true;
                // SAFETY: for a program the steps are system calls on memory that was prepared before; what they allocate they free
                // again, and a panic ends here. The launcher's only signal handlers are the standard library's, which end the process.
                // The child's other attributes (descriptors, signal dispositions, ids, limits, directory) are its own.
                #[allow(unsafe_code)]
                unsafe {
                    stack.clone_sharing(self.frame.cgroup.as_ref(), |born| {
                        run_to_end(|| self.run(born, launcher))
                    })
                }
                .map_err(at)?;
                // Should the daemon have gone, the next request says so.
                let _ = send_reply(launcher.channel, Reply::Executed);
                Ok(())
            }
            _ => fork(self.frame.cgroup.as_ref(), |born| self.run(born, launcher)).map_err(at),
        }
    }

    fn run(&self, born: Born, launcher: &Parent<'_>) -> c_int {
        match self.frame.start(born, &self.settings, self.cwd, launcher) {
            Err(code) => code,
            Ok(()) => {
                let errno = execute(&self.candidates, &self.argv, &self.envp);
                self.frame.failed(launcher, (Step::Exec, errno))
            }
        }
    }
}

/// Executes the first candidate that can be; returns the error that says most, as execvp(3) does.
fn execute(candidates: &[&CStr], argv: &Pointers<'_>, envp: &Pointers<'_>) -> Errno {
    let mut said = Errno::ENOENT;
    for program in candidates {
        // SAFETY: the program is a C string and both arrays are null-terminated arrays of C strings; all outlive the call.
        #[allow(unsafe_code)]
        unsafe {
            libc::execve(program.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr())
        };
        match Errno::last() {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => said = Errno::EACCES,
            other => return other,
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_that_says_more_than_absence_is_kept() {
        let run = |names: &[&CStr]| execute(names, &Pointers::new(names.to_vec()), &Pointers::new(vec![]));
        assert_eq!(run(&[c"/no/such", c"/etc/passwd/x"]), Errno::ENOENT);
        assert_eq!(run(&[c"/etc/passwd", c"/no/such"]), Errno::EACCES);
        assert_eq!(run(&[]), Errno::ENOENT);
    }
}
