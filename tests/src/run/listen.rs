//! What a run prints, heard line by line: of one that is killed, a torn last line is none.

use std::{
    io::Read as _,
    process::ChildStdout,
    thread::{self, JoinHandle},
};

/// Hands on the whole lines that come, without their newlines, all that came at once together. The thread ends with the
/// output.
///
/// # Panics
/// In the thread, where `take` does.
pub fn listen(
    mut stdout: ChildStdout,
    mut take: impl FnMut(&mut dyn Iterator<Item = &[u8]>) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let (mut buffer, mut open) = (vec![0; 1 << 16], Vec::new());
        loop {
            let read = stdout.read(&mut buffer).expect("a pipe");
            if read == 0 {
                return;
            }
            open.extend_from_slice(&buffer[..read]);
            let whole = open.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            let lines = open[..whole].split_inclusive(|byte| *byte == b'\n');
            take(&mut lines.map(|line| &line[..line.len() - 1]));
            open.drain(..whole);
        }
    })
}
