//! Filters run by an interpreter of the few instructions they consist of, against what they were compiled from.

use libc::{BPF_ABS, BPF_JA, BPF_JMP, BPF_W};
use proptest::prelude::*;

use super::super::syscalls::{self, Purpose};
use super::*;

const DENIED: u32 = SECCOMP_RET_ERRNO | EPERM as u32;

/// The data a filter sees, and what it says.
struct Call {
    number: u32,
    architecture: u32,
    halves: [u32; 12],
}

fn call(number: u32, halves: [u32; 12]) -> Call {
    Call {
        number,
        architecture: ARCHITECTURE,
        halves,
    }
}

/// The filter's answer.
fn run(filter: &Filter, call: &Call) -> u32 {
    let (mut accumulator, mut index, mut scratch, mut at) = (0_u32, 0, 0, 0);
    loop {
        let instruction = &filter.code[at];
        let k = instruction.k;
        let skip = |holds| usize::from(if holds { instruction.jt } else { instruction.jf });
        at += 1;
        match u32::from(instruction.code) {
            code if code == BPF_LD | BPF_W | BPF_ABS => {
                accumulator = match k {
                    NUMBER => call.number,
                    ARCHITECTURE_OFFSET => call.architecture,
                    offset => {
                        assert_eq!(offset % 4, 0);
                        call.halves[(offset - ARGUMENTS) as usize / 4]
                    }
                }
            }
            code if code == BPF_ALU | BPF_AND | BPF_K => accumulator &= k,
            code if code == BPF_ALU | BPF_LSH | BPF_X => accumulator <<= index,
            code if code == BPF_MISC | BPF_TAX => index = accumulator,
            code if code == BPF_LD | BPF_IMM => accumulator = k,
            code if code == BPF_ST => scratch = accumulator,
            code if code == BPF_LD | BPF_MEM => accumulator = scratch,
            code if code == BPF_JMP | BPF_JSET | BPF_K => at += skip(accumulator & k != 0),
            code if code == BPF_JMP | BPF_JEQ | BPF_K => at += skip(accumulator == k),
            code if code == BPF_JMP | BPF_JGE | BPF_K => at += skip(accumulator >= k),
            code if code == BPF_JMP | BPF_JA => at += k as usize,
            code if code == BPF_RET | BPF_K => return k,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn expected(verdicts: &BTreeMap<u32, Verdict>, call: &Call) -> u32 {
    let holds = |c: &Condition| c.values.contains(&(call.halves[usize::from(c.half)] & c.mask));
    match verdicts.get(&call.number) {
        Some(Verdict::Allow) => SECCOMP_RET_ALLOW,
        Some(Verdict::Kill) => SECCOMP_RET_KILL_PROCESS,
        Some(Verdict::AllowIf(any)) if any.iter().any(|all| all.iter().all(holds)) => SECCOMP_RET_ALLOW,
        _ => DENIED,
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let condition = (
        0..12_u8,
        prop_oneof![Just(u32::MAX), 0..8_u32],
        prop::collection::vec(0..4_u32, 0..3),
    )
        .prop_map(|(half, mask, values)| Condition { half, mask, values });
    let any = prop::collection::vec(prop::collection::vec(condition, 1..4), 1..4);
    prop_oneof![
        4 => Just(Verdict::Allow),
        1 => Just(Verdict::Kill),
        1 => any.prop_map(Verdict::AllowIf),
    ]
}

proptest! {
    #[test]
    fn a_filter_says_what_its_verdicts_say(
        verdicts in prop::collection::btree_map(0..200_u32, verdict(), 0..40),
        calls in prop::collection::vec((0..230_u32, prop::array::uniform12(0..4_u32)), 50),
    ) {
        let filter = Filter::compile(&verdicts).unwrap();
        for (number, halves) in calls {
            let call = call(number, halves);
            prop_assert_eq!(run(&filter, &call), expected(&verdicts, &call));
        }
    }
}

#[test]
fn the_filters_in_use_compile_and_are_short() {
    for purpose in [
        Purpose::Component,
        Purpose::ComponentWithTcp,
        Purpose::Interpreter,
        Purpose::Compiler,
    ] {
        let filter = Filter::compile(&syscalls::rules(purpose)).unwrap();
        // What it costs to install depends on it; one comparison after the other takes 470 for as many system calls.
        let most = if purpose == Purpose::ComponentWithTcp { 180 } else { 130 };
        assert!(filter.code.len() <= most, "{} instructions", filter.code.len());
    }
}

#[test]
fn another_architecture_is_killed_and_x32_denied() {
    let filter = Filter::compile(&syscalls::rules(Purpose::ComponentWithTcp)).unwrap();
    let read = libc::SYS_read as u32;
    assert_eq!(run(&filter, &call(read, [0; 12])), SECCOMP_RET_ALLOW);
    let other = Call {
        architecture: 0x4000_0003,
        ..call(read, [0; 12])
    };
    assert_eq!(run(&filter, &other), SECCOMP_RET_KILL_PROCESS);
    assert_eq!(run(&filter, &call(0x4000_0000 | read, [0; 12])), DENIED);
    assert_eq!(run(&filter, &call(u32::MAX, [0; 12])), DENIED);
}
