//! How events look: a line of text for people, a line of json for programs.

use std::{
    borrow::Cow,
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use clap::ValueEnum;
use serde::Serialize;

use super::{Because, Event, Line, Missing, Operation};
use crate::{
    output::{
        json::{Base64, rfc3339},
        writer::ByWhom,
    },
    record::Written,
};

/// What an event looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// A line for people
    Text,
    /// A json document in a line
    Json,
}

impl Show {
    /// Writes one line.
    pub(super) fn write(self, line: &Line, out: &mut impl Write) -> io::Result<()> {
        match (self, line) {
            (Self::Text, Line::Event(event)) => text(event, out),
            (Self::Json, Line::Event(event)) => json(event, out),
            (_, Line::Missing(missing)) => self.missing(*missing, out),
        }
    }

    fn missing(self, Missing { time, events, because }: Missing, out: &mut impl Write) -> io::Result<()> {
        let time = rfc3339(time);
        let (reason, is_exact, words) = match because {
            Because::RingFull => ("ring_full", true, "found no room in the ring"),
            Because::Skipped => ("skipped", false, "were skipped by the kernel"),
            Because::NameLost => ("name_lost", false, "were done to files whose names are missing"),
            Because::QueueFull => ("queue_full", false, "found no room in inotify's queue"),
        };
        match self {
            Self::Json => {
                writeln!(
                    out,
                    r#"{{"time":"{time}","missing":{events},"reason":"{reason}","exact":{is_exact}}}"#
                )
            }
            Self::Text => {
                let count = match because {
                    Because::RingFull => events.to_string(),
                    Because::Skipped | Because::NameLost => format!("at most {events}"),
                    Because::QueueFull => "unknown".to_owned(),
                };
                writeln!(out, "{time} MISSING   events: {count} {words}")
            }
        }
    }
}

fn text(event: &Event, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{} {:<9} ", rfc3339(event.time), event.operation.word())?;
    if event.operation == Operation::Rename {
        name(event.from.as_deref(), out)?;
        out.write_all(b" -> ")?;
    }
    name(event.path.as_deref(), out)?;
    if let Some(bytes) = &event.bytes {
        write!(out, " offset {} length {}", bytes.start, bytes.end - bytes.start)?;
    }
    match (event.size_before, event.size_after) {
        (Some(before), Some(after)) => write!(out, " size {before} -> {after}")?,
        (None, Some(after)) => write!(out, " size {after}")?,
        _ => {}
    }
    if let Some(mode) = event.mode {
        write!(out, " mode {mode:#x}")?;
    }
    if let Some(writer) = &event.writer {
        write!(out, " by {}[{}] uid {}", writer.comm.escape_debug(), writer.pid, writer.uid)?;
        if let Some(cgroup) = &writer.cgroup {
            out.write_all(b" in ")?;
            escaped(&cgroup.path, out)?;
        }
    }
    out.write_all(b"\n")
}

/// A name may hold anything, and a line is one line.
fn name(path: Option<&Path>, out: &mut impl Write) -> io::Result<()> {
    let Some(path) = path else { return out.write_all(b"(elsewhere)") };
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        escaped(chunk.valid(), out)?;
        write!(out, "{}", chunk.invalid().escape_ascii())?;
    }
    Ok(())
}

fn escaped(text: &str, out: &mut impl Write) -> io::Result<()> {
    for c in text.chars() {
        if c.is_control() || c == '\\' {
            write!(out, "{}", c.escape_default())?;
        } else {
            write!(out, "{c}")?;
        }
    }
    Ok(())
}

/// An event as it is written. The order of the fields is the order in the line.
#[derive(Serialize)]
struct Entry<'a> {
    /// When it was done.
    time: &'a str,
    op: Operation,
    /// `null` where it is not known, or in no observed directory any more.
    path: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<Base64<'a>>,
    /// Of a rename, unless it comes from a directory that is not observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_base64: Option<Base64<'a>>,
    /// `MAJOR:MINOR`, of the inode's own filesystem.
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<ByWhom<'a>>,
}

/// A path's bytes, where those are no text.
fn base64(path: &Path) -> Option<Base64<'_>> {
    path.to_str().is_none().then(|| Base64(path.as_os_str().as_bytes()))
}

fn json(event: &Event, out: &mut impl Write) -> io::Result<()> {
    let (path, from) = (event.path.as_deref(), event.from.as_deref());
    let written = event.writer.as_ref().map(|writer| Written::By(writer.clone()));
    // A container's shim writes its log; what else is done to it others do.
    let container = path.filter(|_| event.operation.writes()).unwrap_or(Path::new(""));
    let entry = Entry {
        time: &rfc3339(event.time),
        op: event.operation,
        path: path.map(Path::to_string_lossy),
        path_base64: path.and_then(base64),
        from: from.map(Path::to_string_lossy),
        from_base64: from.and_then(base64),
        dev: event.inode.map(|inode| format!("{}:{}", inode.major, inode.minor)),
        inode: event.inode.map(|inode| inode.number),
        offset: event.bytes.as_ref().map(|bytes| bytes.start),
        length: event.bytes.as_ref().map(|bytes| bytes.end - bytes.start),
        size_before: event.size_before,
        size_after: event.size_after,
        mode: event.mode,
        writer: written.as_ref().and_then(|written| ByWhom::of(written, container)),
    };
    serde_json::to_writer(&mut *out, &entry)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        path::PathBuf,
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use super::*;
    use crate::{events::Inode, observe::Writer};

    fn event() -> Event {
        let writer = Writer { pid: 7, tid: 8, uid: 33, comm: "nginx".into(), is_kernel: false, cgroup: None };
        Event {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_042),
            operation: Operation::Write,
            path: Some("/var/log/a.log".into()),
            from: None,
            inode: Some(Inode { major: 254, minor: 3, number: 42 }),
            bytes: Some(100..120),
            size_before: Some(100),
            size_after: Some(120),
            mode: None,
            writer: Some(Arc::new(writer)),
        }
    }

    fn shown(show: Show, line: &Line) -> String {
        let mut out = Vec::new();
        show.write(line, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_write_is_a_line() {
        let line = Line::Event(event());
        assert_eq!(
            shown(Show::Text, &line),
            "2023-11-14T22:13:20.000042Z write     /var/log/a.log offset 100 length 20 size 100 -> 120 \
             by nginx[7] uid 33\n"
        );
        assert_eq!(
            shown(Show::Json, &line),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.000042Z","op":"write","path":"/var/log/a.log","dev":"254:3","#,
                r#""inode":42,"offset":100,"length":20,"size_before":100,"size_after":120,"#,
                r#""writer":{"pid":7,"tid":8,"uid":33,"comm":"nginx"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let rename = Event {
            operation: Operation::Rename,
            from: Some("a".into()),
            path: None,
            bytes: None,
            size_before: None,
            size_after: None,
            inode: None,
            writer: None,
            ..event()
        };
        let line = Line::Event(rename);
        assert!(shown(Show::Text, &line).ends_with("rename    a -> (elsewhere)\n"));
        assert!(shown(Show::Json, &line).ends_with("\"op\":\"rename\",\"path\":null,\"from\":\"a\"}\n"));
    }

    #[test]
    fn a_name_breaks_no_line() {
        let path = PathBuf::from(OsStr::from_bytes(b"a\nb\\\xff\xc3\xa4"));
        let line = Line::Event(Event { path: Some(path), ..event() });
        assert!(shown(Show::Text, &line).contains(r" a\nb\\\xffä offset"), "{}", shown(Show::Text, &line));
        assert!(shown(Show::Json, &line).contains(r#""path_base64":"YQpiXP/DpA==""#));
    }

    #[test]
    fn where_events_are_missing_the_stream_says_so() {
        let line = |because| Line::Missing(Missing { time: SystemTime::UNIX_EPOCH, events: 3, because });
        let text = shown(Show::Text, &line(Because::RingFull));
        assert!(text.ends_with("MISSING   events: 3 found no room in the ring\n"), "{text}");
        let text = shown(Show::Text, &line(Because::Skipped));
        assert!(text.ends_with("events: at most 3 were skipped by the kernel\n"), "{text}");
        let text = shown(Show::Text, &line(Because::NameLost));
        assert!(text.ends_with("events: at most 3 were done to files whose names are missing\n"), "{text}");
        let json = shown(Show::Json, &line(Because::Skipped));
        assert!(json.ends_with("\"missing\":3,\"reason\":\"skipped\",\"exact\":false}\n"), "{json}");
    }
}
