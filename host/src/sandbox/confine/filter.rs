//! From verdicts on system calls to a seccomp filter: a search tree in BPF.
//!
//! The library at hand, seccompiler, compares the number with one system call after the other, five instructions each. That runs
//! well, but installing it does not: the kernel evaluates a new filter once for each of its 460 system calls, to know those that
//! are always allowed, and translates it into machine code. With a tree that halves the numbers the same list installs in a sixth
//! of the time (60 instead of 300 microseconds), and every run of a component pays it. So the code is made here; the library
//! still installs it.

use std::collections::BTreeMap;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, EPERM, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS,
};
use nix::unistd::getpid;
use seccompiler::sock_filter;

/// What happens to a system call. One without a verdict is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is carried out.
    Allow,
    /// It is carried out if for any of these lists all conditions hold; else denied.
    AllowIf(Vec<Vec<Condition>>),
    /// The process is killed by SIGSYS.
    Kill,
}

/// A condition on half an argument, which is all that one instruction compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which half of which argument: 0 is the lower half of the first, 1 its upper half, 2 the lower half of the second.
    pub half: u8,
    /// The bits that count.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

/// Stands for the number of the process, which is known only when the filter is installed. It is no process's number.
pub(super) const OWN_PID: u32 = u32::MAX;

/// A filter for this machine's system calls.
#[derive(Debug)]
pub(super) struct Filter {
    code: Vec<sock_filter>,
}

const ALLOW: sock_filter = statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
const DENY: sock_filter = statement(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM as u32);
const KILL: sock_filter = statement(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);

/// `linux/audit.h`: the machine, 64 bits, little-endian.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 62 | 0xc000_0000;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 183 | 0xc000_0000;

/// Offsets in `struct seccomp_data`. The lower half of an argument comes first on these machines.
const NUMBER: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGUMENTS: u32 = 16;

/// More than the kernel has system calls, as of today; only how well the tree is balanced depends on it.
const SYSTEM_CALLS: u32 = 512;

impl Filter {
    /// The verdicts by number of the system call.
    pub fn compile(verdicts: &BTreeMap<u32, Verdict>) -> Self {
        let mut code = vec![
            load(ARCHITECTURE_OFFSET),
            jump(BPF_JEQ, ARCHITECTURE, 1, 0),
            // Another architecture has other numbers.
            KILL,
            load(NUMBER),
        ];
        code.extend(search(&leaves(verdicts), SYSTEM_CALLS));
        Self { code }
    }

    /// Installs it for the calling thread.
    pub fn install(&self) -> Result<(), seccompiler::Error> {
        let mut code = self.code.clone();
        let pid = getpid().as_raw() as u32;
        for instruction in &mut code {
            if u32::from(instruction.code) == BPF_JMP | BPF_JEQ | BPF_K && instruction.k == OWN_PID {
                instruction.k = pid;
            }
        }
        seccompiler::apply_filter(&code)
    }
}

/// What is done for all numbers from `from` up to the next leaf.
struct Leaf {
    from: u32,
    code: Vec<sock_filter>,
}

/// Neighbours with the same code are one leaf. The last one holds all higher numbers, those of the x32 interface too: denied.
fn leaves(verdicts: &BTreeMap<u32, Verdict>) -> Vec<Leaf> {
    let beyond = verdicts.keys().last().map_or(0, |last| last + 1);
    let mut leaves: Vec<Leaf> = vec![];
    for from in 0..=beyond {
        let code = code_of(verdicts.get(&from));
        if leaves.last().is_none_or(|last| last.code != code) {
            leaves.push(Leaf { from, code });
        }
    }
    leaves
}

fn code_of(verdict: Option<&Verdict>) -> Vec<sock_filter> {
    match verdict {
        None => vec![DENY],
        Some(Verdict::Allow) => vec![ALLOW],
        Some(Verdict::Kill) => vec![KILL],
        Some(Verdict::AllowIf(any)) => {
            let mut code: Vec<_> = any.iter().flat_map(|all| allow_if(all)).collect();
            code.push(DENY);
            code
        }
    }
}

/// Allows if all hold, else goes on behind.
fn allow_if(all: &[Condition]) -> Vec<sock_filter> {
    let mut code = vec![ALLOW];
    for condition in all.iter().rev() {
        let mut with = vec![load(ARGUMENTS + 4 * u32::from(condition.half))];
        if condition.mask != u32::MAX {
            with.push(statement(BPF_ALU | BPF_AND | BPF_K, condition.mask));
        }
        // A handful of conditions: far from 255.
        with.push(jump(BPF_JEQ, condition.value, 0, code.len() as u8));
        with.extend(code);
        code = with;
    }
    code
}

/// Code that finds the leaf of the loaded number, which is below `end` unless it is very rare. Halves the range of numbers rather
/// than the list of leaves: what is asked for most, by the kernel itself at installation, is each number once.
fn search(leaves: &[Leaf], end: u32) -> Vec<sock_filter> {
    let [first, rest @ ..] = leaves else {
        return vec![DENY];
    };
    let middle = first.from.midpoint(end);
    let Some(nearest) = (0..rest.len()).min_by_key(|at| rest[*at].from.abs_diff(middle)) else {
        return first.code.clone();
    };
    let (lower, upper) = leaves.split_at(nearest + 1);
    let split = upper[0].from;
    let lower = search(lower, split);
    let mut code = match u8::try_from(lower.len()) {
        Ok(over) => vec![jump(BPF_JGE, split, over, 0)],
        // Only an unconditional jump reaches farther.
        Err(_) => vec![jump(BPF_JGE, split, 0, 1), statement(BPF_JMP | BPF_JA, lower.len() as u32)],
    };
    code.extend(lower);
    code.extend(search(upper, end));
    code
}

/// All operations are below 2^16.
const fn statement(operation: u32, k: u32) -> sock_filter {
    sock_filter {
        code: operation as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

const fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

/// Compares what was loaded with `k`, and skips so many instructions.
const fn jump(comparison: u32, k: u32, if_so: u8, if_not: u8) -> sock_filter {
    sock_filter {
        code: (BPF_JMP | comparison | BPF_K) as u16,
        jt: if_so,
        jf: if_not,
        k,
    }
}

#[cfg(test)]
mod tests;
