//! `cargo bench -p log-tail`: the modules that every byte and every hint goes through, each alone, out of the page cache.

use std::{fs::File, io::Write as _};

use divan::{Bencher, black_box, counter::BytesCount};
use log_tail::hot::{self, Block, Encoder};

fn main() {
    divan::main();
}

const LINE: &[u8] =
    b"2026-11-22T13:37:00.000000Z node-7 app[4242]: request 0000000007 GET /api/v1/items 200 in 12 ms from 10.0.0.7\n";
/// As many lines as are read at once.
const LINES: usize = (256 << 10) / LINE.len();

fn block() -> (Block, BytesCount) {
    (Block::new(LINE.repeat(LINES)), BytesCount::new(LINES * LINE.len()))
}

#[divan::bench]
fn cut_into_lines(bencher: Bencher) {
    let (block, bytes) = block();
    bencher.counter(bytes).bench(|| black_box(&block).lines());
}

#[divan::bench]
fn encode_text(bencher: Bencher) {
    let ((block, bytes), mut encoder) = (block(), Encoder::text());
    bencher.counter(bytes).bench_local(|| encoder.encode(black_box(&block)));
}

#[divan::bench]
fn encode_json(bencher: Bencher) {
    let ((block, bytes), mut encoder) = (block(), Encoder::json());
    bencher.counter(bytes).bench_local(|| encoder.encode(black_box(&block)));
}

#[divan::bench]
fn read_file(bencher: Bencher) {
    let mut file = tempfile::tempfile().expect("a file");
    let content = LINE.repeat(LINES * 40);
    file.write_all(&content).expect("written");
    bencher.counter(BytesCount::of_slice(&content)).bench(|| read(&file));
}

fn read(file: &File) -> usize {
    hot::read(file).expect("read")
}

#[divan::bench]
fn decode_hint(bencher: Bencher) {
    // An append: kind 1, little-endian.
    let mut hint = [0; 128];
    hint[0] = 1;
    assert!(hot::is_record(&hint));
    bencher.bench(|| hot::is_record(black_box(&hint)));
}
