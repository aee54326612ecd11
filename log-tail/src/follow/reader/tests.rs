use super::*;
use proptest::prelude::*;
use std::{io::Write, os::unix::fs::FileExt};

fn reader(max: usize) -> Reader {
    Reader::new(NonZeroUsize::new(max).unwrap())
}

fn block(offset: u64, bytes: &'static [u8], ending: Ending) -> Step {
    Step::Block { offset, bytes: Bytes::from_static(bytes), ending }
}

#[test]
fn a_line_waits_for_its_newline() {
    let mut file = tempfile::tempfile().unwrap();
    let (mut reader, mut position) = (reader(100), Position::at(0));
    file.write_all(b"one\ntw").unwrap();
    assert_eq!(
        reader.step(Input::File(&file), &mut position, || false).unwrap(),
        block(0, b"one\n", Ending::Newline)
    );
    assert_eq!(reader.step(Input::File(&file), &mut position, || false).unwrap(), Step::EndOfFile);
    assert_eq!((position.handed_on(), position.read_to()), (4, 6));
    file.write_all(b"o\n").unwrap();
    assert_eq!(
        reader.step(Input::File(&file), &mut position, || false).unwrap(),
        block(4, b"two\n", Ending::Newline)
    );
}

#[test]
fn a_line_without_end_comes_in_pieces_and_memory_stays_bounded() {
    let file = tempfile::tempfile().unwrap();
    let long = vec![b'x'; 3 << 20];
    file.write_all_at(&long, 0).unwrap();
    let (mut reader, mut position) = (reader(1 << 20), Position::at(0));
    let mut total = 0;
    loop {
        match reader.step(Input::File(&file), &mut position, || false).unwrap() {
            Step::Block { bytes, ending, .. } => {
                assert_eq!(ending, Ending::Piece);
                assert!(bytes.len() < (1 << 20) + BLOCK_BYTES * 2);
                total += bytes.len();
            }
            Step::Held => {}
            Step::EndOfFile | Step::Changed | Step::Rewritten => break,
        }
    }
    assert_eq!(total + position.held_bytes(), long.len());
    assert!(position.held_bytes() < 1 << 20);
}

#[test]
fn what_was_read_while_the_file_changed_is_read_again() {
    let mut file = tempfile::tempfile().unwrap();
    let (mut reader, mut position) = (reader(100), Position::at(0));
    file.write_all(b"one\ntw").unwrap();
    for _ in 0..2 {
        assert_eq!(reader.step(Input::File(&file), &mut position, || true).unwrap(), Step::Changed);
        assert_eq!((position.handed_on(), position.read_to()), (0, 0));
    }
    assert_eq!(
        reader.step(Input::File(&file), &mut position, || false).unwrap(),
        block(0, b"one\n", Ending::Newline)
    );
    file.write_all(b"o\n").unwrap();
    position.goes_on();
    assert_eq!(reader.step(Input::File(&file), &mut position, || true).unwrap(), Step::Changed);
    assert_eq!((position.handed_on(), position.read_to()), (4, 6), "the held bytes are as they were");
}

#[test]
fn a_file_that_was_written_anew_past_the_old_offset_is_noticed() {
    let mut file = tempfile::tempfile().unwrap();
    let (mut reader, mut position) = (reader(100), Position::at(0));
    file.write_all(b"one\ntw").unwrap();
    assert_eq!(
        reader.step(Input::File(&file), &mut position, || false).unwrap(),
        block(0, b"one\n", Ending::Newline)
    );
    for anew in [&b"ONE\ntwo\nthree\n"[..], b"one\nt"] {
        file.set_len(0).unwrap();
        file.write_all_at(anew, 0).unwrap();
        position.goes_on();
        assert_eq!(
            reader.step(Input::File(&file), &mut position, || false).unwrap(),
            Step::Rewritten,
            "{anew:?}"
        );
        assert_eq!((position.handed_on(), position.read_to()), (4, 6));
    }
}

/// It was truncated, and somebody found out how far it is unchanged; before reading goes on there, it is truncated again.
#[test]
fn a_file_that_is_truncated_again_while_somebody_looks_is_noticed() {
    const LINES: &[u8] = b"line 1\nline 2\nline 3\n";
    let file = tempfile::tempfile().unwrap();
    let mut print = Print::default();
    print.note(LINES.len() as u64, LINES);
    for (again, is_changed) in [(&b"LINE 1\nLINE 2\nLINE 3\n"[..], true), (b"line 1\n", true), (LINES, false)]
    {
        file.set_len(0).unwrap();
        file.write_all_at(again, 0).unwrap();
        let mut known = Position { trail: Trail::of_at_most(10), ..Position::at(14) };
        known.trail.note(0, LINES);
        for mut position in [known, Position::known(LINES.len() as u64, print.clone())] {
            position = position.primed(&file);
            let step = reader(100).step(Input::File(&file), &mut position, || false).unwrap();
            assert_eq!(step == Step::Rewritten, is_changed, "{again:?}: {step:?}");
        }
    }
}

/// Each read that finds nothing costs as much as one that finds a line.
#[test]
fn where_a_read_was_not_filled_the_end_is_known_without_another_one() {
    let mut file = tempfile::tempfile().unwrap();
    let (mut reader, mut position) = (reader(100), Position::at(0));
    file.write_all(b"one\n").unwrap();
    let one = reader.step(Input::File(&file), &mut position, || false).unwrap();
    assert_eq!(one, block(0, b"one\n", Ending::Newline));
    file.write_all(b"two\n").unwrap();
    assert_eq!(reader.step(Input::File(&file), &mut position, || false).unwrap(), Step::EndOfFile);
    // It is hinted at, or looked at again.
    let two = reader.step(Input::File(&file), &mut position, || false).unwrap();
    assert_eq!(two, block(4, b"two\n", Ending::Newline));
}

#[test]
fn a_stream_is_read_like_a_file() {
    let (mut reader, mut position) = (reader(100), Position::at(10));
    let mut stream = &b"one\ntwo"[..];
    assert_eq!(
        reader.step(Input::Stream(&mut stream), &mut position, || false).unwrap(),
        block(10, b"one\n", Ending::Newline)
    );
    assert_eq!(reader.step(Input::Stream(&mut stream), &mut position, || false).unwrap(), Step::EndOfFile);
    assert_eq!(position.give_up_rest(), Some((14, Bytes::from_static(b"two"))));
}

proptest! {
    #[test]
    fn the_context_is_the_last_bytes_read(reads in proptest::collection::vec(0_usize..100, 1..8)) {
        let (mut context, mut all) = (Context::default(), Vec::new());
        for (n, length) in reads.into_iter().enumerate() {
            let read = vec![u8::try_from(n).unwrap(); length];
            all.extend_from_slice(&read);
            context.set(&read);
        }
        prop_assert_eq!(context.get(), &all[all.len().saturating_sub(CONTEXT_BYTES)..]);
    }
}

#[test]
fn the_rest_is_given_up_once() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"rest").unwrap();
    let (mut reader, mut position) = (reader(100), Position::at(0));
    assert_eq!(reader.step(Input::File(&file), &mut position, || false).unwrap(), Step::Held);
    assert_eq!(position.give_up_rest(), Some((0, Bytes::from_static(b"rest"))));
    assert_eq!(position.give_up_rest(), None);
    assert_eq!(position.handed_on(), 4);
}

proptest! {
    #[test]
    fn however_it_is_written_every_byte_comes_once_and_in_order(
        writes in proptest::collection::vec("[a-c\n]{0,30}", 0..20),
        max in 1_usize..40,
    ) {
        every_byte_comes_once(&writes, max)?;
    }

    #[test]
    fn lines_of_any_length_come_once_and_in_order(
        lengths in proptest::collection::vec((0..COPIED_BYTES * 3, any::<bool>()), 0..8),
        max in 1..COPIED_BYTES * 5,
    ) {
        let write = |(length, ends): (usize, bool)| "x".repeat(length) + if ends { "\n" } else { "" };
        every_byte_comes_once(&lengths.into_iter().map(write).collect::<Vec<_>>(), max)?;
    }
}

fn every_byte_comes_once(writes: &[String], max: usize) -> Result<(), TestCaseError> {
    let mut file = tempfile::tempfile().unwrap();
    let (mut reader, mut position) = (reader(max), Position::at(0));
    let mut out = Vec::new();
    for write in writes {
        file.write_all(write.as_bytes()).unwrap();
        loop {
            match reader.step(Input::File(&file), &mut position, || false).unwrap() {
                Step::Block { offset, bytes, ending } => {
                    prop_assert_eq!(offset, out.len() as u64);
                    prop_assert_eq!(ending == Ending::Newline, bytes.ends_with(b"\n"));
                    out.extend_from_slice(&bytes);
                }
                Step::Held => {}
                Step::EndOfFile | Step::Changed | Step::Rewritten => break,
            }
        }
    }
    out.extend(position.give_up_rest().map(|(_, rest)| rest).unwrap_or_default());
    prop_assert_eq!(out, writes.concat().into_bytes());
    Ok(())
}

#[test]
fn reserved_room_is_written_line_by_line() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let (mut reader, mut position) = (reader(100), Position::at(0));
    let mut next = |expected| {
        assert_eq!(reader.step(Input::File(&file), &mut position, || false).unwrap(), expected);
        (position.read_to(), position.looked_to())
    };
    assert_eq!(next(Step::EndOfFile), (0, 1 << 20));
    file.write_all_at(b"one\ntw", 0).unwrap();
    assert_eq!(next(block(0, b"one\n", Ending::Newline)), (6, 1 << 20));
    assert_eq!(next(Step::EndOfFile), (6, 1 << 20));
    file.write_all_at(b"o\n", 6).unwrap();
    assert_eq!(next(block(4, b"two\n", Ending::Newline)), (8, 1 << 20));
    file.set_len(8).unwrap();
    assert_eq!(next(Step::EndOfFile), (8, 8));
}

#[test]
fn a_hole_that_a_writer_left_behind_is_no_text() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(b"one\n", 1 << 20).unwrap();
    file.write_all_at(b"two\n", 2 << 20).unwrap();
    let (mut reader, mut position) = (reader(100), Position::at(0));
    let mut next = || reader.step(Input::File(&file), &mut position, || false).unwrap();
    assert_eq!(next(), Step::Held);
    assert_eq!(next(), block(1 << 20, b"one\n", Ending::Newline));
    assert_eq!(next(), Step::Held);
    assert_eq!(next(), block(2 << 20, b"two\n", Ending::Newline));
    assert_eq!(next(), Step::EndOfFile);
}
