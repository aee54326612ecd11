use super::*;
use proptest::prelude::*;

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // One byte less than asked for, so that short reads are met.
        let from = usize::try_from(offset).unwrap().min(self.0.len());
        let length = (self.0.len() - from).min(buffer.len().div_ceil(2));
        buffer[..length].copy_from_slice(&self.0[from..from + length]);
        Ok(length)
    }
}

/// Gives a few bytes a read.
struct Slowly<'a>(&'a [u8]);

impl Read for Slowly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(777);
        self.0.read(&mut buffer[..length])
    }
}

fn print_of(content: &[u8], ends: &[usize], with_head: bool) -> Print {
    let mut print = Print::default();
    if with_head {
        print.note_head(content);
    }
    for end in ends {
        let end = (*end).min(content.len());
        print.note(end as u64, &content[..end]);
    }
    print
}

fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(|line| format!("line {line}\n").into_bytes()).collect()
}

#[test]
fn a_print_without_marks_owns_no_memory_and_is_of_nothing() {
    let mut print = Print::default();
    print.note(0, b"");
    print.note(0, b"before nothing");
    print.note(7, b"");
    print.note_head(b"");
    assert_eq!(print.marks.capacity(), 0);
    assert!(!print.is_of(&Bytes(b"anything"), 5).unwrap());
    assert!(!print.is_of_forward(&mut &b"anything"[..], 5).unwrap());
    assert_eq!(print.unchanged_to(&Bytes(b"anything"), 5).unwrap(), 0);
}

#[test]
fn marks_grow_sparser_toward_the_front_and_the_head_stays() {
    let mut print = Print::default();
    print.note_head(&[b'h'; 2000]);
    let mut end = 1024;
    for step in 0..200_000_u64 {
        end += 50 + step % 700;
        print.note(end, &[b'x'; 100]);
    }
    let marks = print.marks();
    assert!((LEFT_MARKS..=MOST_MARKS).contains(&marks.len()), "{}", marks.len());
    assert_eq!((marks[0].end, marks[0].length), (1024, 1024));
    assert_eq!(marks[marks.len() - 1].end, end);
    let distances: Vec<u64> = marks.iter().map(|mark| end - mark.end + 64).collect();
    for pair in distances[..distances.len() - 1].windows(2) {
        assert!(pair[0] < pair[1] * 3, "{distances:?}");
    }
}

#[test]
fn a_file_truncated_to_its_middle_goes_on_at_the_last_mark_before_it() {
    let content = lines(1000);
    let mut print = print_of(&content, &[2000, 4000, 6000, 8000], true);
    let mut regrown = content[..5000].to_vec();
    assert_eq!(print.unchanged_to(&Bytes(&regrown), 8000).unwrap(), 4000);
    regrown.extend(lines(1000));
    assert_eq!(print.unchanged_to(&Bytes(&regrown), 8000).unwrap(), 4000);
    assert_eq!(print.unchanged_to(&Bytes(&content), 7999).unwrap(), 6000);
    assert_eq!(print.unchanged_to(&Bytes(&regrown[3..]), 8000).unwrap(), 0);
    print.truncate_to(4000);
    assert!(print.is_of(&Bytes(&regrown), 4500).unwrap());
}

#[test]
fn a_mark_that_holds_by_chance_behind_a_changed_head_is_not_believed() {
    let content = [&b"first start\n"[..], &b"tick\n".repeat(1000)].concat();
    let print = print_of(&content, &[1000, 2000, 5000], true);
    let again = [&b"other start\n"[..], &b"tick\n".repeat(1000)].concat();
    assert_eq!(print.unchanged_to(&Bytes(&again), 5000).unwrap(), 0);
}

#[test]
fn the_longest_head_is_the_one_that_counts() {
    let content = lines(300);
    let mut print = Print::default();
    print.note_head(&content[..10]);
    print.note_head(&content[..5]);
    // It is made of whole lines, where there are any.
    let whole = content[..10].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    assert_eq!(print.head().map(|head| usize::from(print.marks[head].length)), Some(whole));
    print.note_head(&content);
    print.note(1024, &content[..1024]);
    assert_eq!(print.head().map(|head| print.marks[head].length), Some(1024));
    assert!(print.is_of(&Bytes(&content), 2000).unwrap());
}

#[test]
fn marks_that_no_content_can_have_are_left_out() {
    let mark = |end, length| Mark { end, length, hash: 1 };
    let mut garbage: Vec<Mark> = (0..100).map(|index| mark(10_000 - index * 90, 64)).collect();
    garbage.extend([
        mark(0, 0),
        mark(5, 0),
        mark(5, 6),
        mark(3000, 900),
        mark(u64::MAX, 64),
        mark(10_000, 3),
    ]);
    let print = Print::from_marks(garbage);
    assert_eq!(print.marks().len(), LEFT_MARKS);
    assert!(print.marks().windows(2).all(|pair| pair[0].end < pair[1].end));
    assert!(print.marks().iter().all(|mark| mark.is_possible()));
    let content = lines(2000);
    let noted = print_of(&content, &[100, 5000, 9000], true);
    assert_eq!(Print::from_marks(noted.marks().iter().rev().copied().collect()), noted);
}

#[test]
fn marks_farther_apart_than_a_step_are_found_in_one_forward_pass() {
    let content = lines(40_000);
    let print = print_of(&content, &[70_000, 70_010, 300_000, 300_040], true);
    let mut forward = Slowly(&content);
    assert!(print.is_of_forward(&mut forward, 350_000).unwrap());
    assert_eq!(content.len() - forward.0.len(), 350_000, "exactly so much is read");
    assert!(!print.is_of_forward(&mut Slowly(&content[..300_050]), 350_000).unwrap());
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    // Long runs of few different bytes, so that contents are alike by chance.
    let run = (prop_oneof![3 => Just(b'x'), 1 => any::<u8>()], 1_usize..80);
    prop::collection::vec(run, 1..150)
        .prop_map(|runs| runs.into_iter().flat_map(|(byte, length)| vec![byte; length]).collect())
}

proptest! {
    #[test]
    fn what_is_said_to_be_unchanged_has_the_bytes_it_had_at_every_mark(
        before in content(),
        ends in prop::collection::vec(0_usize..6000, 0..80),
        with_head in any::<bool>(),
        cut in 0_usize..6000,
        regrown in content(),
        at_most in 0_u64..7000,
    ) {
        let print = print_of(&before, &ends, with_head);
        prop_assert!(print.marks().len() <= MOST_MARKS);
        let cut = cut.min(before.len());
        let after = [&before[..cut], &regrown].concat();
        let unchanged = print.unchanged_to(&Bytes(&after), at_most).unwrap();
        prop_assert!(unchanged <= at_most);
        let common = before.iter().zip(&after).take_while(|(a, b)| a == b).count() as u64;
        for mark in print.marks().iter().filter(|mark| mark.end <= unchanged) {
            let piece = usize::try_from(mark.start()).unwrap()..usize::try_from(mark.end).unwrap();
            prop_assert_eq!(&before[piece.clone()], &after[piece]);
        }
        let certain = print.marks().iter().map(|mark| mark.end).filter(|end| *end <= common.min(at_most)).max();
        prop_assert!(unchanged >= certain.unwrap_or(0));
        prop_assert!(unchanged == 0 || print.is_of(&Bytes(&after), unchanged).unwrap());
    }

    #[test]
    fn a_copy_is_recognised_and_another_content_is_not(
        content in content(),
        mut ends in prop::collection::vec(0_usize..6000, 0..80),
        with_head in any::<bool>(),
        changed in 0_usize..6000,
        offset in 1_u64..7000,
    ) {
        ends.sort_unstable();
        let print = print_of(&content, &ends, with_head);
        let known = print.marks().first().is_some_and(|mark| mark.end <= offset);
        let expected = known && offset <= content.len() as u64;
        prop_assert_eq!(print.is_of(&Bytes(&content), offset).unwrap(), expected);
        prop_assert_eq!(print.is_of_forward(&mut Slowly(&content), offset).unwrap(), expected);
        let mut other = content.clone();
        let changed = changed.min(content.len() - 1);
        other[changed] ^= 1;
        let seen = print.up_to(offset).iter().any(|mark| (mark.start()..mark.end).contains(&(changed as u64)));
        prop_assert_eq!(print.is_of(&Bytes(&other), offset).unwrap(), expected && !seen);
        prop_assert_eq!(print.is_of_forward(&mut Slowly(&other), offset).unwrap(), expected && !seen);
    }

    #[test]
    fn marks_from_anywhere_are_taken_without_panic(
        marks in prop::collection::vec((any::<u64>(), any::<u16>(), any::<u64>()), 0..100),
        content in content(),
    ) {
        let marks = marks.into_iter().map(|(end, length, hash)| Mark { end, length, hash }).collect();
        let print = Print::from_marks(marks);
        print.is_of(&Bytes(&content), u64::MAX).unwrap_or(false);
        prop_assert_eq!(print.unchanged_to(&Bytes(&content[..0]), u64::MAX).unwrap(), 0);
    }
}
