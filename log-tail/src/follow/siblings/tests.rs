use super::*;
use std::{
    fs::FileTimes,
    io::Write as _,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

/// A directory with a followed `app.log`.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        place.write("app.log", b"live\n", 1_000_000);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("app.log")
    }

    fn write(&self, name: &str, content: &[u8], modified_ms: u64) {
        fs::write(self.path(name), content).unwrap();
        self.touch(name, modified_ms);
    }

    fn touch(&self, name: &str, modified_ms: u64) {
        // Not a whole second, whatever the milliseconds are.
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(modified_ms) + Duration::from_nanos(1);
        let file = File::options().write(true).open(self.path(name)).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }

    /// `false`, said aloud, where the tool is not installed.
    fn pack(&self, tool: &str, name: &str) -> bool {
        match Command::new(tool).args(["-q", "-f"]).arg(self.path(name)).status() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("skipped: {tool} is not installed");
                false
            }
            status => {
                assert!(status.unwrap().success());
                // zstd keeps the original.
                fs::remove_file(self.path(name)).ok();
                true
            }
        }
    }

    fn names(&self) -> Vec<String> {
        names(&rotated(&self.log()).unwrap())
    }

    fn find(&self, print: &Print, offset: u64) -> Option<(String, Vec<u8>)> {
        let found = find(&self.log(), print, offset, &|_| false).unwrap()?;
        let mut rest = Vec::new();
        match found.content {
            Content::Plain(file) => {
                rest.resize(usize::try_from(file.metadata().unwrap().len() - offset).unwrap(), 0);
                file.read_exact_at(&mut rest, offset).unwrap();
            }
            Content::Compressed(packed) => {
                let mut decoder = packed.decoder().unwrap();
                assert!(decoder.skip_to(offset).unwrap());
                decoder.read_to_end(&mut rest).unwrap();
            }
        }
        Some((names(&[found.sibling]).remove(0), rest))
    }
}

fn names(siblings: &[Sibling]) -> Vec<String> {
    siblings.iter().map(|sibling| sibling.path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

fn content(seed: usize) -> Vec<u8> {
    (0..5000).flat_map(|line| format!("{seed} {line}\n").into_bytes()).collect()
}

fn print_of(content: &[u8], offset: usize) -> Print {
    let mut print = Print::default();
    print.note_head(&content[..offset]);
    print.note(offset as u64, &content[..offset]);
    print
}

#[test]
fn only_regular_files_named_like_generations_are_listed_and_the_oldest_comes_first() {
    let place = Place::new();
    place.write("app.log.1", b"b", 3000);
    place.write("app.log.2.gz", b"a", 2000);
    place.write("app.log.old", b"c", 2500);
    place.write("app.log.swp", b"x", 2500);
    fs::create_dir(place.path("app.log.3")).unwrap();
    std::os::unix::fs::symlink(place.path("app.log.1"), place.path("app.log.4")).unwrap();
    fs::hard_link(place.log(), place.path("app.log.5")).unwrap();
    fs::hard_link(place.path("app.log.old"), place.path("app.old.log")).unwrap();
    assert_eq!(place.names(), ["app.log.2.gz", "app.log.old", "app.log.1"]);
    let siblings = rotated(&place.log()).unwrap();
    assert_eq!(siblings[0].compressed, Some(Kind::Gzip));
    assert_eq!(siblings[2].modified_ns, 3_000_000_001);
    assert_eq!(names(newer_than(&siblings, &siblings[0])), ["app.log.old", "app.log.1"]);
    assert!(newer_than(&siblings, &siblings[2]).is_empty());
}

#[test]
fn a_missing_directory_and_a_missing_name_have_what_is_there() {
    assert!(rotated(Path::new("/nonexistent/app.log")).unwrap().is_empty());
    let place = Place::new();
    place.write("app.log.1", b"b", 3000);
    fs::remove_file(place.log()).unwrap();
    assert_eq!(place.names(), ["app.log.1"]);
}

#[test]
fn in_one_tick_a_higher_number_is_older_where_nothing_says_otherwise() {
    let place = Place::new();
    for number in [1, 10, 2] {
        place.write(&format!("app.log.{number}"), b"x", 3000);
    }
    place.write("app.log.3", b"x", 3003);
    assert_eq!(place.names(), ["app.log.10", "app.log.3", "app.log.2", "app.log.1"]);
}

#[test]
fn in_one_tick_a_higher_number_is_newer_where_the_other_times_say_that_numbers_grow() {
    let place = Place::new();
    for (number, modified_ms) in [(7, 1000), (8, 2000), (9, 3000), (10, 3000), (11, 3000), (12, 5000)] {
        place.write(&format!("app.log.{number}"), b"x", modified_ms);
    }
    assert_eq!(
        place.names(),
        ["app.log.7", "app.log.8", "app.log.9", "app.log.10", "app.log.11", "app.log.12"]
    );
}

#[test]
fn dates_are_ascending_within_a_tick_and_a_later_time_goes_before_them() {
    let place = Place::new();
    place.write("app.log-20260103", b"x", 1000);
    place.write("app.log-20260102", b"x", 3000);
    place.write("app.log-20260101", b"x", 3000);
    assert_eq!(place.names(), ["app.log-20260103", "app.log-20260101", "app.log-20260102"]);
}

#[test]
fn times_of_whole_seconds_leave_the_order_to_the_numbers() {
    let place = Place::new();
    place.write("app.log.2", b"a\n", 10_900);
    place.write("app.log.1", b"b\n", 10_950);
    if place.pack("bzip2", "app.log.1") {
        assert_eq!(place.names(), ["app.log.2", "app.log.1.bz2"]);
    }
}

#[test]
fn a_generation_that_is_there_plain_and_compressed_is_listed_and_found_once() {
    let place = Place::new();
    place.write("app.log.1", &content(1), 3000);
    if !place.pack("gzip", "app.log.1") {
        return;
    }
    let packed = fs::read(place.path("app.log.1.gz")).unwrap();
    place.write("app.log.1", &content(1), 3000);
    for (packed, modified_ms) in [(&packed[..], 3000), (&packed[..packed.len() / 2], 9000), (b"", 9000)] {
        place.write("app.log.1.gz", packed, modified_ms);
        assert_eq!(place.names(), ["app.log.1"]);
        let found = place.find(&print_of(&content(1), 1000), 1000).unwrap();
        assert_eq!(found, ("app.log.1".to_owned(), content(1)[1000..].to_vec()));
    }
    place.write("app.log.1.gz", &packed, 2000);
    assert_eq!(place.names(), ["app.log.1.gz", "app.log.1"], "it was left from an earlier generation");
}

#[test]
fn the_file_that_was_being_read_is_found_by_content_whatever_it_is_called() {
    let place = Place::new();
    for (number, name) in ["app.log.1", "app-20260101.log", "app.log.old"].iter().enumerate() {
        place.write(name, &content(number), 1000 * number as u64);
    }
    for (number, name) in ["app.log.1", "app-20260101.log", "app.log.old"].iter().enumerate() {
        let wanted = content(number);
        let (found, rest) = place.find(&print_of(&wanted, 2000), 2000).unwrap();
        assert_eq!((found.as_str(), rest), (*name, wanted[2000..].to_vec()));
        let beyond = wanted.len() as u64 + 1;
        assert_eq!(place.find(&print_of(&wanted, 2000), beyond), None, "too short");
    }
    assert_eq!(place.find(&print_of(&content(9), 2000), 2000), None);
    assert_eq!(place.find(&Print::default(), 0), None);
}

#[test]
fn of_two_copies_the_plain_and_newer_one_is_taken_and_those_that_are_followed_are_not() {
    let place = Place::new();
    place.write("app.log.2", &content(1), 1000);
    place.write("app.log.1", &content(1), 2000);
    let print = print_of(&content(1), 500);
    assert_eq!(place.find(&print, 500).unwrap().0, "app.log.1");
    let followed = Identity::of(&fs::metadata(place.path("app.log.1")).unwrap());
    let found = find(&place.log(), &print, 500, &|identity| identity == followed).unwrap().unwrap();
    assert_eq!(names(&[found.sibling]), ["app.log.2"]);
    if place.pack("gzip", "app.log.1") {
        assert_eq!(place.find(&print, 500).unwrap().0, "app.log.2");
    }
}

#[test]
fn a_compressed_generation_is_found_and_read_on_at_the_offset() {
    for (tool, suffix) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz"), ("bzip2", "bz2")] {
        let place = Place::new();
        place.write("app.log.2", &content(2), 2000);
        place.write("app.log.1", &content(1), 3000);
        if !place.pack(tool, "app.log.1") || !place.pack(tool, "app.log.2") {
            continue;
        }
        assert_eq!(place.names(), [format!("app.log.2.{suffix}"), format!("app.log.1.{suffix}")]);
        for offset in [1, 3000, content(2).len()] {
            let (found, rest) = place.find(&print_of(&content(2), offset), offset as u64).unwrap();
            assert_eq!((found, rest), (format!("app.log.2.{suffix}"), content(2)[offset..].to_vec()));
        }
    }
}

#[test]
fn a_half_written_compressed_file_is_not_taken_although_it_reaches_the_offset() {
    let place = Place::new();
    place.write("app.log.1", &content(1), 3000);
    if !place.pack("gzip", "app.log.1") {
        return;
    }
    let file = File::options().write(true).open(place.path("app.log.1.gz")).unwrap();
    file.set_len(file.metadata().unwrap().len() - 8).unwrap();
    assert_eq!(place.find(&print_of(&content(1), 1000), 1000), None);
    let mut file = File::options().append(true).open(place.path("app.log.1.gz")).unwrap();
    file.write_all(b"garbage").unwrap();
    assert_eq!(place.find(&print_of(&content(1), 1000), 1000), None);
}

#[test]
fn a_sibling_that_may_not_be_read_is_named_where_no_other_is_the_one() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root may read everything");
        return;
    }
    let place = Place::new();
    place.write("app.log.1", &content(1), 3000);
    fs::set_permissions(place.path("app.log.1"), fs::Permissions::from_mode(0o000)).unwrap();
    let error = find(&place.log(), &print_of(&content(1), 9), 9, &|_| false).unwrap_err();
    assert!(error.to_string().contains("app.log.1'"), "{error}");
    place.write("app.log.2", &content(1), 2000);
    assert_eq!(place.find(&print_of(&content(1), 9), 9).unwrap().0, "app.log.2");
}

#[test]
fn the_siblings_of_what_a_symbolic_link_points_to_count_too() {
    let place = Place::new();
    fs::create_dir(place.path("real")).unwrap();
    place.write("real/there.log", b"live\n", 9000);
    place.write("real/there.log.1", b"x", 2000);
    place.write("link.log.1", b"x", 1000);
    let link = place.path("link.log");
    std::os::unix::fs::symlink("real/there.log", &link).unwrap();
    assert_eq!(names(&rotated(&link).unwrap()), ["link.log.1", "there.log.1"]);
    fs::remove_file(place.path("real/there.log")).unwrap();
    assert_eq!(names(&rotated(&link).unwrap()), ["link.log.1", "there.log.1"], "the link dangles");
}

#[test]
fn one_that_is_written_to_although_the_next_one_came_is_older_than_that() {
    for (older, newer) in
        [("app.log.2", "app.log.1"), ("app.log-20260101", "app.log-20260102"), ("app.log.9", "app.log.8")]
    {
        let place = Place::new();
        for name in [older, newer, older] {
            let mut file = File::options().create(true).append(true).open(place.path(name)).unwrap();
            file.write_all(b"x\n").unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(place.names(), [older, newer]);
        // Restored, they were all born at once, and in any order.
        for (name, seconds) in [(newer, 2000), (older, 1000)] {
            fs::remove_file(place.path(name)).unwrap();
            place.write(name, b"x\n", seconds);
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(place.names(), [older, newer]);
    }
    // Numbers that grow, the first one written to still.
    let place = Place::new();
    let names = ["app.log.1", "app.log.2", "app.log.3"];
    for name in [names[0], names[1], names[2], names[0]] {
        let mut file = File::options().create(true).append(true).open(place.path(name)).unwrap();
        file.write_all(b"x\n").unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(place.names(), names);
}

#[test]
fn after_a_generation_was_compressed_those_that_are_newer_are_still_known() {
    let place = Place::new();
    place.write("app.log.2", &content(2), 2000);
    place.write("app.log.1", &content(1), 3000);
    let before = rotated(&place.log()).unwrap();
    if place.pack("gzip", "app.log.2") {
        let after = rotated(&place.log()).unwrap();
        assert_eq!(names(newer_than(&after, &before[0])), ["app.log.1"]);
    }
}

#[test]
fn where_all_names_are_shifted_a_listing_that_was_still_has_all() {
    const FILES: usize = 20;
    let place = Place::new();
    for number in 1..=FILES {
        place.write(&format!("app.log.{number}"), &content(7), 1000);
    }
    let at = |number: usize| place.path(&format!("app.log.{number}"));
    let rename = |from, to| fs::rename(at(from), at(to)).unwrap();
    let is_over = AtomicBool::new(false);
    let (still, moving) = thread::scope(|scope| {
        scope.spawn(|| {
            // Never down again: while it is listed once, that would be as if nothing had moved.
            for times in (0..900).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                (1..=FILES).rev().for_each(|number| rename(times + number, times + number + 1));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let listed = (0..2000).map(|_| Listed::of(&place.log()).unwrap());
        let listed = listed.partition::<Vec<Listed>, _>(Listed::stands);
        is_over.store(true, Ordering::Relaxed);
        listed
    });
    let has_all = |listed: &&Listed| listed.siblings.len() == FILES;
    assert_eq!(still.iter().filter(has_all).count(), still.len());
    assert!(!still.is_empty() && !moving.iter().all(|listed| has_all(&listed)), "it was looked at in time");
}
