use super::*;
use crate::follow::FollowSettings;
use std::{num::NonZeroUsize, time::Duration};

#[test]
fn an_offset_of_a_content_that_is_no_more_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    std::fs::write(&path, "0123456789\n").unwrap();
    let settings = FollowSettings {
        start: Start::FromByte(1),
        max_line_bytes: NonZeroUsize::new(1024).unwrap(),
        rotate_wait: Duration::ZERO,
    };
    let mut follower = Follower::new(settings, None);
    follower.remember(Vec::new(), 7);
    follower.add_name(&path).unwrap();
    let offset = |follower: &mut Follower, acknowledged| {
        follower.checkpoint(7, acknowledged).map(|known| known.offset)
    };
    assert_eq!(offset(&mut follower, 11), Some(11));
    // Truncated twice before the output has taken what was read before that.
    follower.memory.went_back(7, 6);
    follower.memory.went_back(7, 4);
    assert_eq!(offset(&mut follower, 11), Some(4));
    follower.back_acknowledged(7);
    assert_eq!(offset(&mut follower, 9), Some(4), "the second one is still on its way");
    follower.back_acknowledged(7);
    assert_eq!(offset(&mut follower, 9), Some(9));
}
