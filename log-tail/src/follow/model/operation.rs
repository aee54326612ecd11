//! Operations: what writers, rotators, the reader's event loop and its fate do, one at a time.

use proptest::prelude::*;

/// One of the followed names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Log {
    A,
    B,
}

impl Log {
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a.log",
            Self::B => "b.log",
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The name of an earlier generation.
    pub fn generation(self, number: usize) -> String {
        format!("{}.{number}", self.name())
    }
}

/// How many generations a rotation keeps.
pub const GENERATIONS: usize = 3;

/// One step of the schedule. What does not apply, such as a rename of a name that nobody bears, does nothing.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// A writer opens the name, creates it where it is missing, appends whole lines, and closes it. It first
    /// writes the rest of a line that was left half.
    Append(Log, u8),
    /// The same, but the last line is left half.
    AppendHalf(Log),
    /// A writer opens the name, or creates it, and holds on to it.
    Open(Log),
    /// One of the writers that hold on appends lines, wherever its file is by now.
    Write(usize, u8),
    /// It leaves a line half.
    WriteHalf(usize),
    Close(usize),
    /// An empty file, where the name is free.
    Create(Log),
    /// `.2` becomes `.3`, `.1` becomes `.2`, the name becomes `.1`.
    Shift(Log),
    /// The name becomes `.1`, which is replaced.
    Rename(Log),
    /// The name becomes the other followed name, which is replaced.
    Move(Log),
    /// `.1` comes back to the name, which is replaced.
    Restore(Log),
    /// The name goes to a directory that nobody watches.
    Leave(Log),
    /// A new file with a line in it is renamed to the name.
    Replace(Log),
    Delete(Log),
    /// `.1` is removed.
    DeleteOld(Log),
    /// To so many hundredths of the size; 0 most often.
    Truncate(Log, u8),
    /// `.1` and `.2` are shifted, the name is copied to `.1`, and truncated.
    CopyTruncate(Log),
    /// A second name, which nobody follows.
    Link(Log),
    /// The reader takes the hints, and reads so many items at most.
    Look(u8),
    /// The reader takes the hints, and reads all there is to read.
    LookAll,
    /// Time passes until the reader's next deadline.
    Wait,
    /// What was acknowledged is committed; the output has not acknowledged the last so many items.
    Commit(u8),
    /// The reader dies; the next look starts another.
    Crash,
}

fn log() -> impl Strategy<Value = Log> {
    prop_oneof![3 => Just(Log::A), 1 => Just(Log::B)]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        12 => (log(), 1..=3_u8).prop_map(|(log, lines)| Operation::Append(log, lines)),
        4 => log().prop_map(Operation::AppendHalf),
        4 => log().prop_map(Operation::Open),
        5 => (0..4_usize, 1..=2_u8).prop_map(|(writer, lines)| Operation::Write(writer, lines)),
        2 => (0..4_usize).prop_map(Operation::WriteHalf),
        4 => (0..4_usize).prop_map(Operation::Close),
        2 => log().prop_map(Operation::Create),
        6 => log().prop_map(Operation::Shift),
        3 => log().prop_map(Operation::Rename),
        2 => log().prop_map(Operation::Move),
        2 => log().prop_map(Operation::Restore),
        1 => log().prop_map(Operation::Leave),
        2 => log().prop_map(Operation::Replace),
        2 => log().prop_map(Operation::Delete),
        2 => log().prop_map(Operation::DeleteOld),
        3 => (log(), prop_oneof![2 => Just(0_u8), 1 => 1..100_u8])
            .prop_map(|(log, to)| Operation::Truncate(log, to)),
        4 => log().prop_map(Operation::CopyTruncate),
        2 => log().prop_map(Operation::Link),
        6 => (0..4_u8).prop_map(Operation::Look),
        10 => Just(Operation::LookAll),
        3 => Just(Operation::Wait),
        5 => prop_oneof![2 => Just(0_u8), 1 => 1..4_u8].prop_map(Operation::Commit),
        3 => Just(Operation::Crash),
    ]
}

/// What is followed, and what happens.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// `*.log` is followed, not each name.
    pub pattern: bool,
    pub operations: Vec<Operation>,
}

pub fn schedule() -> impl Strategy<Value = Schedule> {
    (any::<bool>(), prop::collection::vec(operation(), 1..50))
        .prop_map(|(pattern, operations)| Schedule { pattern, operations })
}
