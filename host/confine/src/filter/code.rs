//! Classic BPF with labels instead of distances.

use libc::{BPF_ABS, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_W};
use seccompiler::sock_filter;

use super::super::ConfineError;

/// A place in the code. Jumps lead forward only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// The instruction behind a jump.
pub(super) const NEXT: Label = Label(usize::MAX);

/// Code that is being written.
#[derive(Debug, Default)]
pub(super) struct Code {
    instructions: Vec<Instruction>,
    /// By label: the index of the instruction that it stands before; 0 until it is placed, where no jump leads.
    places: Vec<usize>,
}

#[derive(Debug)]
struct Instruction {
    operation: u32,
    k: u32,
    jump: Option<(Label, Label)>,
}

impl Code {
    /// A label that is still to be placed.
    pub fn new_label(&mut self) -> Label {
        self.places.push(0);
        Label(self.places.len() - 1)
    }

    /// Places a label before the next instruction.
    pub fn label(&mut self, label: Label) {
        self.places[label.0] = self.instructions.len();
    }

    /// An instruction that does not jump.
    pub fn plain(&mut self, operation: u32, k: u32) {
        self.push(operation, k, None);
    }

    /// Loads the word at this offset of the data.
    pub fn load(&mut self, offset: u32) {
        self.plain(BPF_LD | BPF_W | BPF_ABS, offset);
    }

    /// Compares what was loaded with `k`.
    pub fn jump(&mut self, comparison: u32, k: u32, if_so: Label, if_not: Label) {
        self.push(BPF_JMP | comparison | BPF_K, k, Some((if_so, if_not)));
    }

    /// Goes on elsewhere.
    pub fn go(&mut self, to: Label) {
        self.push(BPF_JMP | BPF_JA, 0, Some((to, to)));
    }

    fn push(&mut self, operation: u32, k: u32, jump: Option<(Label, Label)>) {
        self.instructions.push(Instruction { operation, k, jump });
    }

    /// Fails when a jump would go over more than 255 instructions, or backwards.
    pub fn assemble(&self) -> Result<Vec<sock_filter>, ConfineError> {
        let distance = |from: usize, to: Label| match to {
            NEXT => Some(0),
            Label(label) => self.places[label].checked_sub(from + 1),
        };
        let instructions = self.instructions.iter().enumerate();
        let assembled = instructions.map(|(at, instruction)| {
            let (mut k, mut jt, mut jf) = (instruction.k, 0, 0);
            if let Some((if_so, if_not)) = instruction.jump {
                let so = distance(at, if_so)?;
                if instruction.operation == BPF_JMP | BPF_JA {
                    k = u32::try_from(so).ok()?;
                } else {
                    jt = u8::try_from(so).ok()?;
                    jf = u8::try_from(distance(at, if_not)?).ok()?;
                }
            }
            Some(sock_filter {
                // Operations are below 2^16.
                code: instruction.operation as u16,
                jt,
                jf,
                k,
            })
        });
        assembled
            .collect::<Option<_>>()
            .ok_or(ConfineError::FilterTooLarge(self.instructions.len()))
    }
}

/// Whether an assembled instruction asks for equality with `k`.
pub(super) fn compares_with(instruction: &sock_filter, k: u32) -> bool {
    u32::from(instruction.code) == BPF_JMP | BPF_JEQ | BPF_K && instruction.k == k
}
