//! Where every truncation is told, in its order among the copies: an observer that tells what a script does to a
//! followed file, as the kernel program would.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    rc::Rc,
};

use super::*;
use crate::observe::{Answer, Backend, Change, DirectoryId, Hint, Interest, ObserveError, Observer, Reach};

type Act = Box<dyn FnOnce(&mut Script)>;

/// What is told of one file and its directory.
struct Script {
    log: PathBuf,
    directory: Option<DirectoryId>,
    file: Option<FileId>,
    hints: Vec<Hint>,
    cut_off_bytes: u64,
    truncated_to: Option<u64>,
    /// What is done when the reader asks for hints for the first time after it has answered a truncation.
    meanwhile: Option<Act>,
    is_answered: bool,
}

impl Script {
    fn write(&mut self, text: &str) {
        File::options().append(true).open(&self.log).unwrap().write_all(text.as_bytes()).unwrap();
        self.hints.extend(self.file.map(|file| Hint::Appended { file, time_ns: None }));
    }

    fn copy_and_truncate(&mut self, to: &Path) {
        fs::copy(&self.log, to).unwrap();
        let name = to.file_name().unwrap().to_owned();
        let came = |directory| Hint::Entry { directory, name, change: Change::Came };
        self.hints.extend(self.directory.map(came));
        let size = fs::metadata(&self.log).unwrap().len();
        self.cut_off_bytes += size;
        if size > 0 {
            self.truncated_to = Some(0);
        }
        File::options().write(true).open(&self.log).unwrap().set_len(0).unwrap();
        let cut_off_bytes = self.cut_off_bytes;
        self.hints.extend(self.file.map(|file| Hint::Truncated { file, cut_off_bytes }));
    }
}

/// Tells what the script does.
struct Told {
    script: Rc<RefCell<Script>>,
    /// Never readable.
    readiness: File,
}

impl Observer for Told {
    fn backend(&self) -> Backend {
        Backend::Ebpf
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }

    fn follow_file(&mut self, id: FileId, file: BorrowedFd<'_>, _: Reach) -> Result<(), ObserveError> {
        let path =
            fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
        let mut script = self.script.borrow_mut();
        if path == script.log {
            script.file = Some(id);
        }
        Ok(())
    }

    fn leave_file(&mut self, _: FileId) {}

    fn follow_directory(
        &mut self,
        id: DirectoryId,
        path: &Path,
        _: BorrowedFd<'_>,
        _: Interest,
    ) -> Result<(), ObserveError> {
        let mut script = self.script.borrow_mut();
        if Some(path) == script.log.parent() {
            script.directory = Some(id);
        }
        Ok(())
    }

    fn leave_directory(&mut self, _: DirectoryId) {}

    fn answer(&mut self, id: FileId, _: u64) -> Answer {
        let mut script = self.script.borrow_mut();
        if script.file != Some(id) {
            return Answer::default();
        }
        let truncated_to = script.truncated_to.take();
        script.is_answered |= truncated_to.is_some();
        Answer { rung: true, truncated_to, cut_off_bytes: script.cut_off_bytes, ..Answer::default() }
    }

    fn tells_truncations(&self) -> bool {
        true
    }

    fn drain(&mut self, hints: &mut Vec<Hint>) -> io::Result<bool> {
        let mut script = self.script.borrow_mut();
        if script.is_answered
            && let Some(act) = script.meanwhile.take()
        {
            act(&mut script);
        }
        hints.append(&mut script.hints);
        Ok(false)
    }
}

fn following_told(log: &Path) -> (Follower, Rc<RefCell<Script>>) {
    let script = Rc::new(RefCell::new(Script {
        log: log.to_owned(),
        directory: None,
        file: None,
        hints: Vec::new(),
        cut_off_bytes: 0,
        truncated_to: None,
        meanwhile: None,
        is_answered: false,
    }));
    let told = Told { script: Rc::clone(&script), readiness: tempfile::tempfile().unwrap() };
    let settings = FollowSettings {
        start: Start::FromByte(1),
        max_line_bytes: NonZeroUsize::new(1024).unwrap(),
        rotate_wait: Duration::ZERO,
    };
    let mut follower = Follower::new(settings, Some(Box::new(told)));
    follower.add_name(log).unwrap();
    follower.begin();
    (follower, script)
}

/// Reads all there is, and gives it with the bytes that were reported lost.
fn read(follower: &mut Follower) -> (String, u64) {
    let (mut text, mut lost) = (String::new(), 0);
    loop {
        let mut hints = Vec::new();
        follower.observer().unwrap().drain(&mut hints).unwrap();
        let is_over = hints.is_empty();
        follower.take(&mut hints);
        while let Some(item) = follower.next_item() {
            match item {
                Item::Block(block) => text.push_str(std::str::from_utf8(&block.bytes).unwrap()),
                Item::Lost(told) => lost += told.bytes,
                Item::Back(_) => {}
            }
        }
        if is_over {
            return (text, lost);
        }
    }
}

#[test]
fn a_content_that_came_and_went_while_copies_of_the_one_before_were_looked_for_is_read_from_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (log, [first, second, _]) = names(dir.path());
    fs::write(&log, "one\n").unwrap();
    let (mut follower, script) = following_told(&log);
    assert_eq!(read(&mut follower), ("one\n".to_owned(), 0));
    script.borrow_mut().copy_and_truncate(&first);
    script.borrow_mut().meanwhile = Some(Box::new(move |script| {
        script.write("two\n");
        script.copy_and_truncate(&second);
        script.write("three\n");
    }));
    assert_eq!(read(&mut follower), ("two\nthree\n".to_owned(), 0));
    assert!(script.borrow().meanwhile.is_none());
}

#[test]
fn what_was_cut_off_before_it_was_copied_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, [first, second, _]) = names(dir.path());
    fs::write(&log, "one\n").unwrap();
    let (mut follower, script) = following_told(&log);
    assert_eq!(read(&mut follower), ("one\n".to_owned(), 0));
    script.borrow_mut().write("two\n");
    script.borrow_mut().copy_and_truncate(&first);
    fs::remove_file(&first).unwrap();
    assert_eq!(read(&mut follower), (String::new(), 4));
    script.borrow_mut().write("three\n");
    script.borrow_mut().copy_and_truncate(&second);
    script.borrow_mut().write("four\n");
    assert_eq!(read(&mut follower), ("three\nfour\n".to_owned(), 0));
}

#[test]
fn an_empty_file_that_is_truncated_again_and_again_takes_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (log, [first, ..]) = names(dir.path());
    fs::write(&log, "one\n").unwrap();
    let (mut follower, script) = following_told(&log);
    assert_eq!(read(&mut follower), ("one\n".to_owned(), 0));
    for _ in 0..9 {
        script.borrow_mut().copy_and_truncate(&first);
        assert_eq!(read(&mut follower), (String::new(), 0));
    }
    let file = script.borrow().file.unwrap();
    assert!(follower.file(file).unwrap().passing.copied_before.len() <= 1);
}
