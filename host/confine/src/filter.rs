//! From verdicts on system calls to a seccomp filter that is short.
//!
//! Every run of a component installs one, and what that costs is the kernel's translation into machine code: a third of a
//! microsecond for each instruction. The library at hand, seccompiler, compares the number with one system call after the other,
//! five instructions each, and installing its filter takes longer than the rest of the sandbox together. So the code is made here
//! (the library still installs it): one word of 32 bits for 32 system calls, and comparisons only for the few that are killed or
//! whose arguments matter.

mod code;

use std::collections::BTreeMap;

use libc::{
    BPF_ALU, BPF_AND, BPF_IMM, BPF_JEQ, BPF_JGE, BPF_JSET, BPF_K, BPF_LD, BPF_LSH, BPF_MEM, BPF_MISC, BPF_RET, BPF_ST,
    BPF_TAX, BPF_X, ENOSYS, EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS,
};
use nix::unistd::getpid;
use seccompiler::sock_filter;

use self::code::{Code, Label, NEXT};
use super::ConfineError;

/// What happens to a system call. One without a verdict is denied: it fails with `EPERM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is carried out.
    Allow,
    /// It is carried out if for any of these lists, none of them empty, all conditions hold; else denied.
    AllowIf(Vec<Vec<Condition>>),
    /// It fails with `ENOSYS`, for what a library then does without for good.
    Missing,
    /// The process is killed by SIGSYS.
    Kill,
}

/// A condition on half an argument, which is all that one instruction compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which half of which argument: 0 is the lower half of the first, 1 its upper half, 2 the lower half of the second.
    pub half: u8,
    /// The bits that count.
    pub mask: u32,
    /// What they may be.
    pub values: Vec<u32>,
}

/// Stands for the number of the process, which is known only when the filter is installed. It is no process's number.
pub(super) const OWN_PID: u32 = u32::MAX;

/// A filter for this machine's system calls.
#[derive(Debug)]
pub(super) struct Filter {
    code: Vec<sock_filter>,
}

/// `linux/audit.h`: the machine, 64 bits, little-endian.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 62 | 0xc000_0000;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 183 | 0xc000_0000;

/// Offsets in `struct seccomp_data`. The lower half of an argument comes first on these machines.
const NUMBER: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Where every path ends, or goes on when the system call is not simply allowed.
struct Ends {
    deny: Label,
    allow: Label,
    missing: Label,
    kill: Label,
    others: Label,
}

impl Filter {
    /// The verdicts by number of the system call. Fails when there are too many.
    pub fn compile(verdicts: &BTreeMap<u32, Verdict>) -> Result<Self, ConfineError> {
        let mut code = Code::default();
        let ends = Ends {
            deny: code.new_label(),
            allow: code.new_label(),
            missing: code.new_label(),
            kill: code.new_label(),
            others: code.new_label(),
        };
        // Of no use, but Linux from 5.11 on follows a filter for each number of both of the machine's interfaces as long as it consists of loads and
        // comparisons, to see which it always allows. It finds none here, and this instruction keeps it from looking, which takes longer than all
        // the rest of the installation.
        code.plain(BPF_MISC | BPF_TAX, 0);
        code.load(ARCHITECTURE_OFFSET);
        // Another architecture has other numbers.
        code.jump(BPF_JEQ, ARCHITECTURE, NEXT, ends.kill);
        code.load(NUMBER);
        // Also the numbers of the x32 interface, which are high ones.
        let beyond = verdicts.keys().last().map_or(0, |last| last + 1);
        code.jump(BPF_JGE, beyond, ends.deny, NEXT);
        // The first word of scratch memory gets the bit of the number, counted within its word.
        code.plain(BPF_ALU | BPF_AND | BPF_K, 31);
        code.plain(BPF_MISC | BPF_TAX, 0);
        code.plain(BPF_LD | BPF_IMM, 1);
        code.plain(BPF_ALU | BPF_LSH | BPF_X, 0);
        code.plain(BPF_ST, 0);
        code.load(NUMBER);
        find_word(&mut code, &ends, &allowed_words(verdicts, beyond), 0);

        code.label(ends.others);
        code.load(NUMBER);
        let mut checks: Vec<(Label, &[Vec<Condition>])> = vec![];
        for (number, verdict) in verdicts {
            match verdict {
                Verdict::Allow => {}
                Verdict::Missing => code.jump(BPF_JEQ, *number, ends.missing, NEXT),
                Verdict::Kill => code.jump(BPF_JEQ, *number, ends.kill, NEXT),
                Verdict::AllowIf(any) => {
                    let same = checks.iter().find(|(_, check)| check == any);
                    let at = same.map_or_else(|| code.new_label(), |(at, _)| *at);
                    if same.is_none() {
                        checks.push((at, any));
                    }
                    code.jump(BPF_JEQ, *number, at, NEXT);
                }
            }
        }
        code.go(ends.deny);
        for (at, any) in checks {
            code.label(at);
            check(&mut code, &ends, any);
        }
        code.label(ends.deny);
        code.plain(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM as u32);
        code.label(ends.missing);
        code.plain(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS as u32);
        code.label(ends.allow);
        code.plain(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        code.label(ends.kill);
        code.plain(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
        Ok(Self { code: code.assemble()? })
    }

    /// Installs it for the calling thread.
    pub fn install(&self) -> Result<(), seccompiler::Error> {
        seccompiler::apply_filter(&self.of_this_process())
    }

    /// Installs it for all threads that the process has.
    pub fn install_for_all_threads(&self) -> Result<(), seccompiler::Error> {
        seccompiler::apply_filter_all_threads(&self.of_this_process())
    }

    fn of_this_process(&self) -> Vec<sock_filter> {
        let mut code = self.code.clone();
        let pid = getpid().as_raw() as u32;
        for instruction in &mut code {
            if code::compares_with(instruction, OWN_PID) {
                instruction.k = pid;
            }
        }
        code
    }
}

/// One bit for each number below `beyond`: whether it is simply allowed.
fn allowed_words(verdicts: &BTreeMap<u32, Verdict>, beyond: u32) -> Vec<u32> {
    let mut words = vec![0; beyond.div_ceil(32) as usize];
    for (number, verdict) in verdicts {
        if *verdict == Verdict::Allow {
            words[*number as usize / 32] |= 1 << (number % 32);
        }
    }
    words
}

/// Finds the word of the loaded number, which is one of these, and allows what has its bit set. The first word is the
/// `index`th of all.
fn find_word(code: &mut Code, ends: &Ends, words: &[u32], index: u32) {
    match words {
        // Without a bit set there is nothing to look at.
        _ if words.iter().all(|word| *word == 0) => code.go(ends.others),
        [word] => {
            code.plain(BPF_LD | BPF_MEM, 0);
            code.jump(BPF_JSET, *word, ends.allow, ends.others);
        }
        _ => {
            let (lower, upper) = words.split_at(words.len() / 2);
            let middle = index + lower.len() as u32;
            let at_upper = code.new_label();
            code.jump(BPF_JGE, middle * 32, at_upper, NEXT);
            find_word(code, ends, lower, index);
            code.label(at_upper);
            find_word(code, ends, upper, middle);
        }
    }
}

/// Allows if all conditions of any list hold.
fn check(code: &mut Code, ends: &Ends, any: &[Vec<Condition>]) {
    for (at, all) in any.iter().enumerate() {
        let is_last = at + 1 == any.len();
        let not_these = if is_last { ends.deny } else { code.new_label() };
        for (at, condition) in all.iter().enumerate() {
            let holds = if at + 1 == all.len() {
                ends.allow
            } else {
                code.new_label()
            };
            code.load(ARGUMENTS + 4 * u32::from(condition.half));
            if condition.mask != u32::MAX {
                code.plain(BPF_ALU | BPF_AND | BPF_K, condition.mask);
            }
            match condition.values.split_last() {
                Some((last, others)) => {
                    others.iter().for_each(|value| code.jump(BPF_JEQ, *value, holds, NEXT));
                    code.jump(BPF_JEQ, *last, holds, not_these);
                }
                None => code.go(not_these),
            }
            if holds != ends.allow {
                code.label(holds);
            }
        }
        if not_these != ends.deny {
            code.label(not_these);
        }
    }
    // Nothing may fall through into the conditions of another system call.
    if any.last().is_none_or(Vec::is_empty) {
        code.go(ends.deny);
    }
}

#[cfg(test)]
mod tests;
