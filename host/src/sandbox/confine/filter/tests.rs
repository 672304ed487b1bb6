//! Filters run by an interpreter of the few instructions they consist of, against what they were compiled from.

use proptest::prelude::*;

use super::super::syscalls;
use super::*;

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

/// Returns the filter's answer and how many instructions it took.
fn run(filter: &Filter, call: &Call) -> (u32, usize) {
    let (mut accumulator, mut at, mut steps) = (0, 0, 0);
    loop {
        let instruction = &filter.code[at];
        let k = instruction.k;
        let skip = |holds| usize::from(if holds { instruction.jt } else { instruction.jf });
        at += 1;
        steps += 1;
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
            code if code == BPF_JMP | BPF_JEQ | BPF_K => at += skip(accumulator == k),
            code if code == BPF_JMP | BPF_JGE | BPF_K => at += skip(accumulator >= k),
            code if code == BPF_JMP | BPF_JA => at += k as usize,
            code if code == BPF_RET | BPF_K => return (k, steps),
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn expected(verdicts: &BTreeMap<u32, Verdict>, call: &Call) -> u32 {
    let holds = |c: &Condition| call.halves[usize::from(c.half)] & c.mask == c.value;
    match verdicts.get(&call.number) {
        Some(Verdict::Allow) => ALLOW.k,
        Some(Verdict::Kill) => KILL.k,
        Some(Verdict::AllowIf(any)) if any.iter().any(|all| all.iter().all(holds)) => ALLOW.k,
        _ => DENY.k,
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let condition = (0..12_u8, prop_oneof![Just(u32::MAX), 0..8_u32], 0..4_u32).prop_map(|(half, mask, value)| Condition { half, mask, value });
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
        verdicts in prop::collection::btree_map(0..60_u32, verdict(), 0..24),
        calls in prop::collection::vec((0..70_u32, prop::array::uniform12(0..4_u32)), 50),
    ) {
        let filter = Filter::compile(&verdicts);
        for (number, halves) in calls {
            let call = call(number, halves);
            prop_assert_eq!(run(&filter, &call).0, expected(&verdicts, &call));
        }
    }
}

#[test]
fn the_filters_in_use_compile_and_are_short() {
    for network in [false, true] {
        let filter = Filter::compile(&syscalls::rules(network));
        let steps: usize = (0..460).map(|number| run(&filter, &call(number, [0; 12])).1).sum();
        // What the kernel does to install it; 470 instructions and 100,000 steps with one comparison after the other.
        assert!(filter.code.len() < 400, "{} instructions", filter.code.len());
        assert!(steps < 460 * 11, "{steps} steps");
    }
}

#[test]
fn another_architecture_is_killed_and_x32_denied() {
    let filter = Filter::compile(&syscalls::rules(true));
    let read = libc::SYS_read as u32;
    assert_eq!(run(&filter, &call(read, [0; 12])).0, ALLOW.k);
    let other = Call {
        architecture: 0x4000_0003,
        ..call(read, [0; 12])
    };
    assert_eq!(run(&filter, &other).0, KILL.k);
    assert_eq!(run(&filter, &call(0x4000_0000 | read, [0; 12])).0, DENY.k);
    assert_eq!(run(&filter, &call(u32::MAX, [0; 12])).0, DENY.k);
}
