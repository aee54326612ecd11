//! The command line: every option there is, what it means, and what it is when nobody says anything.
//!
//! Whatever comes out of here is typed and in range; nothing after this looks at an option's text again. The
//! comments on the options are the help that `--help` prints.

mod arguments;
mod observe;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use log::LevelFilter;

pub use self::observe::Observe;
use self::{
    arguments::{check_names, with_obsolete_count},
    observe::ObserveArgs,
};
use crate::follow::Start;

/// What the program was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Follow files.
    Follow(Settings),
    /// Say what this machine allows.
    Doctor(Doctor),
    /// Show every event.
    Observe(Observe),
    /// Say or forget how far files were read.
    State(State),
}

/// How to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Settings {
    /// Names and globs, as given: at least one, none of them empty. Not always UTF-8.
    pub names: Vec<OsString>,
    /// Where the files that are there at the beginning start.
    pub start: Start,
    /// Whether to go on after the files' ends; otherwise they are read to their ends, and that is all.
    pub follow: bool,
    /// When files are named in text output.
    pub headers: Headers,
    /// What a record looks like.
    pub format: OutputFormat,
    /// How to learn of changes.
    pub backend: Backend,
    /// Where to serve metrics, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// The longest line that comes out in one piece, its newline not counted.
    pub max_line_bytes: NonZeroUsize,
    /// How long a file that has lost its name is read on.
    pub rotate_wait: Duration,
    /// Where to remember how far each file was read, if anywhere.
    pub state_dir: Option<PathBuf>,
    /// How long files that no longer exist are remembered.
    pub state_retention: Duration,
    /// How often every file is looked at without a hint, where that is said. Never zero.
    pub sweep: Option<Duration>,
    /// What the kernel program tells about itself.
    pub kernel_log: LevelFilter,
    /// Look for hints without going to sleep, for a while after each.
    pub low_latency: bool,
    /// Size of the ring in bytes, for tests of its overflow.
    pub ring_bytes: Option<u32>,
    /// Whether the kernel program gives a hint for each write, for tests.
    pub every_hint: bool,
    /// Whether what the kernel program costs is measured and shown as metrics.
    pub measure_cost: bool,
}

/// When text output names the file that the bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// `--verbose`
    Always,
    /// Neither: where there may be more than one file.
    WhenSeveral,
    /// `--quiet`
    Never,
}

impl Headers {
    /// Whether to print headers, given that there are or may come to be `several` files.
    #[must_use]
    pub fn are_shown(self, several: bool) -> bool {
        match self {
            Self::Always => true,
            Self::WhenSeveral => several,
            Self::Never => false,
        }
    }
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// The bytes exactly as they were written
    Text,
    /// A line of json for every line: time, path, dev, inode, offset, length, and the line
    Json,
}

/// Where to start in a file, for those who do not think in lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// All that is there
    Beginning,
    /// Only what is written from now on
    End,
}

/// How to learn that a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// eBPF where this kernel lets us, inotify elsewhere
    Auto,
    /// A kernel program that sees every write; an error where it cannot be loaded
    Ebpf,
    /// inotify, although eBPF may be there
    Inotify,
}

/// Follow files by their names, however they are rotated, and print what is appended.
///
/// The kernel says when there is something to read, so nothing polls. Every line comes out once, in order,
/// exactly as it was written. A file that is not there yet is waited for.
#[derive(Debug, Parser)]
#[command(
    name = "log-tail",
    bin_name = "log-tail",
    version,
    override_usage = "log-tail [OPTIONS] PATH|GLOB...\n       log-tail doctor [--json] [PATH]...\n       \
                      log-tail observe [OPTIONS] PATH|GLOB|DIR...\n       \
                      log-tail state --state-dir DIR list|show|forget",
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Cli {
    #[command(subcommand)]
    subcommand: Option<Sub>,

    /// Files to follow, or globs in quotes
    ///
    /// A glob in quotes, like '/var/log/app/*.log', goes on matching files that appear later. A file called
    /// "doctor" is ./doctor, and so are "observe" and "state".
    #[arg(value_name = "PATH|GLOB")]
    names: Vec<OsString>,

    /// Start with the last N lines of each file; +N starts at line N, so +1 is the whole file
    ///
    /// N may have a multiplier: 2K is 2048. -N instead of -n N is understood as the first argument.
    #[arg(
        short = 'n',
        long,
        value_name = "[+]N",
        default_value = "10",
        value_parser = Start::from_lines,
        allow_hyphen_values = true,
        overrides_with_all = ["bytes", "from"]
    )]
    lines: Start,

    /// Start with the last N bytes of each file; +N starts at byte N
    #[arg(
        short = 'c',
        long,
        value_name = "[+]N",
        value_parser = Start::from_bytes,
        allow_hyphen_values = true,
        overrides_with_all = ["lines", "from"]
    )]
    bytes: Option<Start>,

    /// Never print headers that name the file
    #[arg(short, long, visible_alias = "silent", overrides_with = "verbose")]
    quiet: bool,

    /// Always print headers that name the file, not only where there are several
    #[arg(short, long, overrides_with = "quiet")]
    verbose: bool,

    /// Accepted from habit: log-tail always follows, and always by name
    #[arg(short = 'F', visible_short_alias = 'f', conflicts_with = "no_follow")]
    follow: bool,

    /// Read every file to its end, then exit
    #[arg(long)]
    no_follow: bool,

    /// What a record looks like
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,

    /// How to learn that a file has changed
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,

    /// Serve Prometheus metrics over HTTP at this address, like 127.0.0.1:9600
    ///
    /// A port alone is that port on 127.0.0.1. Nothing protects this address: whoever reaches it can read
    /// the metrics.
    #[arg(long, value_name = "[IP:]PORT", value_parser = values::metrics_address)]
    metrics: Option<SocketAddr>,

    /// Have the kernel measure what the kernel program costs, and show it among the metrics, hook by hook
    ///
    /// While that is measured, every call of any BPF program on this machine takes some 20 ns longer.
    #[arg(long, requires = "metrics")]
    measure_cost: bool,

    /// A longer line comes out in pieces of this size, so that it never fills the memory
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = values::max_line_bytes)]
    max_line_bytes: NonZeroUsize,

    /// How long a rotated file that somebody still has open for writing holds back the file that came after it
    ///
    /// Until nobody has it open any more, its lines come first. After this time, both are read side by side.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    rotate_wait: Duration,

    /// Remember in this directory how far each file was read, and go on from there after a restart
    ///
    /// What was rotated meanwhile is read first, also where it was compressed. Where the directory knows a
    /// file, --from, -n and -c do not count. It is made where it is missing; only one log-tail can use it at
    /// a time.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// How long files that no longer exist are remembered in the state directory
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = values::duration, requires = "state_dir")]
    state_retention: Duration,

    /// Where to start in files that were never seen before: instead of -n +1 and -n 0
    ///
    /// A file that came while log-tail was down is one of those, unless it followed one by rotation.
    #[arg(long, value_name = "WHERE", value_enum, overrides_with_all = ["lines", "bytes"])]
    from: Option<From>,

    /// How often to look at every file unasked, to find out whether the kernel forgot to say something
    ///
    /// What is found only this way is delivered, and counted as `log_tail_missed_hints_total`.
    ///
    /// [default: 60s; where that would take more than a thousandth of a processor, down to every 10m]
    #[arg(long, value_name = "TIME", value_parser = values::duration_not_zero)]
    sweep: Option<Duration>,

    /// Stay awake for 2 ms after each hint, so that a line that comes meanwhile is told without waking anybody
    ///
    /// Keeps one processor busy as long as lines come more often than that.
    #[arg(long)]
    low_latency: bool,

    /// What the kernel program logs about itself on standard error: off, error, warn, info, debug
    ///
    /// "warn" tells when hints were dropped, "debug" every rename and removal it sees.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    kernel_log: LevelFilter,

    /// Size of the kernel program's ring, in bytes: a power of two, at least 4096
    #[arg(long, value_name = "BYTES", hide = true)]
    ring_bytes: Option<u32>,

    /// Have the kernel program give a hint for each write, also while one is on its way
    #[arg(long, hide = true)]
    every_hint: bool,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Say what this kernel allows, and which backend each file would get and why
    Doctor(Doctor),

    /// Show every single event: what is done to files, where, and by whom
    ///
    /// Nothing is coalesced, and nothing is read. Where events are missing, a line says how many.
    Observe(ObserveArgs),

    /// Say how far files were read, or forget it
    State(StateArgs),
}

/// What to examine.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Doctor {
    /// Print json instead of a table
    #[arg(long)]
    pub json: bool,

    /// Measure instead what the kernel program takes of the processors on this machine as it is, with
    /// the PATHs followed [default: 5s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "5s",
        value_parser = values::duration_not_zero)]
    pub cost: Option<Duration>,

    /// Files to say the backend of
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
}

/// What to do with a state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The directory.
    pub state_dir: PathBuf,
    /// What to do with it.
    pub action: StateAction,
}

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
struct StateArgs {
    /// The directory that was given to log-tail with --state-dir
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,

    #[command(subcommand)]
    action: StateAction,
}

/// What to do with what a state directory knows.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum StateAction {
    /// A line for every file that is known
    List {
        /// Print json instead of a table
        #[arg(long)]
        json: bool,
    },
    /// All that is known of the files that bore a name
    Show {
        /// The name that is followed, as `list` prints it
        path: PathBuf,
        /// Print json instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Forget names: log-tail starts with them as if it had never seen them
    ///
    /// No log-tail may be using the directory. If one of the names is not known, none is forgotten.
    Forget {
        /// Names that are followed, as `list` prints them
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
}

impl Invocation {
    /// Reads the command line, the program's name first.
    ///
    /// # Errors
    /// A usage error (exit status 2), or the text that `--help` or `--version` asked for (exit status 0):
    /// [`clap::Error::exit`] prints either where it belongs.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let Cli {
            subcommand,
            names,
            lines,
            bytes,
            quiet,
            verbose,
            follow: _,
            no_follow,
            format,
            backend,
            metrics,
            max_line_bytes,
            rotate_wait,
            state_dir,
            state_retention,
            from,
            sweep,
            kernel_log,
            low_latency,
            ring_bytes,
            every_hint,
            measure_cost,
        } = Cli::try_parse_from(with_obsolete_count(args))?;
        match subcommand {
            Some(Sub::Doctor(doctor)) => return Ok(Self::Doctor(doctor)),
            Some(Sub::Observe(observe)) => {
                check_names(&observe.names)?;
                return Ok(Self::Observe(observe.into()));
            }
            Some(Sub::State(state)) => return Self::of_state(state),
            None => {}
        }
        check_names(&names)?;
        let headers = match (quiet, verbose) {
            (true, _) => Headers::Never,
            (_, true) => Headers::Always,
            (false, false) => Headers::WhenSeveral,
        };
        Ok(Self::Follow(Settings {
            names,
            start: match from {
                Some(From::Beginning) => Start::FromByte(1),
                Some(From::End) => Start::LastLines(0),
                None => bytes.unwrap_or(lines),
            },
            follow: !no_follow,
            headers,
            format,
            backend,
            metrics,
            max_line_bytes,
            rotate_wait,
            state_dir,
            state_retention,
            sweep,
            kernel_log,
            low_latency,
            ring_bytes,
            every_hint,
            measure_cost,
        }))
    }

    /// Clap takes an option on either side of a subcommand only where it is not required.
    fn of_state(StateArgs { state_dir, action }: StateArgs) -> Result<Self, clap::Error> {
        match state_dir {
            Some(state_dir) => Ok(Self::State(State { state_dir, action })),
            None => Err(Cli::command().error(
                ErrorKind::MissingRequiredArgument,
                "no state directory. Name the one that was given to log-tail, as in: \
                 log-tail state list --state-dir /var/lib/log-tail",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
