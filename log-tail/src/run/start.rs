//! The start of a run: the backend, the names, the state and the output, and what is said of them.

use std::{ffi::OsStr, path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{Loop, pace::Pace, sweeps::Sweeps};
use crate::{
    choose::{self, Chosen},
    cli::{OutputFormat, Settings},
    follow::{FollowSettings, Follower, check_pattern, processor_time},
    observe::{
        Backend, Readiness,
        ebpf::load::{LoadOptions, Telling},
        mounts::Mounts,
    },
    output::{Format, Queue, json::Json, stdout::Stdout, text::Text},
    say::say,
    serve::{http, metrics::Metrics},
    state::Progress,
};

/// Bytes made into json at once: empty lines grow most, to some 150 bytes each.
const JSON_PART_BYTES: usize = 64 << 10;

impl Loop {
    pub(super) fn start(settings: &Settings) -> anyhow::Result<Self> {
        let stdout = Stdout::new().context("looking at standard output")?;
        let signals = [
            signal(SignalKind::interrupt()).context("listening for SIGINT")?,
            signal(SignalKind::terminate()).context("listening for SIGTERM")?,
        ];
        let metrics = Arc::new(Metrics::new());
        let (ask, scrapes) = mpsc::channel(16);
        if let Some(address) = settings.metrics {
            let listener = http::bind(address)?;
            if let Ok(address) = listener.local_addr() {
                say(format_args!("metrics at http://{address}/metrics"));
            }
            tokio::spawn(http::serve(listener, ask));
        }
        let chosen = if settings.follow {
            Some(choose::choose(settings.backend, load_options(settings))?)
        } else {
            None
        };
        let (observer, because, unseen) = match chosen {
            Some(Chosen { observer, instead_because, unseen }) => (Some(observer), instead_because, unseen),
            None => (None, None, Vec::new()),
        };
        let backend = observer.as_ref().map(|observer| observer.backend());
        let readiness = match &observer {
            Some(observer) => Some(Readiness::of(observer.as_ref()).context("waiting for hints")?),
            None => None,
        };
        let mounts = settings.follow.then(Mounts::new).transpose();
        let mounts = mounts.unwrap_or_else(|error| {
            say(format_args!(
                "cannot tell when something is mounted (/proc/self/mountinfo: {error}); the sweep will"
            ));
            None
        });
        let follow = FollowSettings {
            start: settings.start,
            max_line_bytes: settings.max_line_bytes,
            rotate_wait: settings.rotate_wait,
        };
        let mut follower = Follower::new(follow, observer);
        let mut progress = None;
        if let Some(dir) = &settings.state_dir {
            let output = stdout.file().context("looking at standard output")?;
            let (started, said) = Progress::start(dir, settings.state_retention, output, &mut follower)?;
            if let Some(said) = said {
                say(said);
            }
            progress = Some(started);
        }
        let before = processor_time();
        let refused = add_names(&mut follower, settings)?;
        follower.begin();
        let sweeps = Sweeps::new(settings.sweep, processor_time().saturating_sub(before));
        if let Some(progress) = &mut progress {
            progress.register(&mut follower);
        }
        let several = settings.names.len() > 1 || settings.names.iter().any(|name| is_followed_pattern(name));
        let format: Box<dyn Format> = match settings.format {
            OutputFormat::Text => Box::new(Text::new(settings.headers.are_shown(several))),
            OutputFormat::Json => Box::new(Json::new(settings.max_line_bytes)),
        };
        let mut started = Self {
            follower,
            readiness,
            mounts,
            format,
            queue: Queue::default(),
            stdout,
            blocked: false,
            rest: None,
            part_bytes: match settings.format {
                OutputFormat::Text => usize::MAX,
                OutputFormat::Json => JSON_PART_BYTES,
            },
            progress,
            metrics,
            scrapes,
            signals,
            sweeps,
            hints: Vec::new(),
            undrained: false,
            pace: Pace::new(settings.low_latency),
            waiting_ns: Vec::new(),
            stopping: !settings.follow,
            trouble: refused > 0,
        };
        started.say_notices();
        if refused == settings.names.len() {
            anyhow::bail!("nothing to follow");
        }
        if let Some(backend) = backend {
            started.announce(backend, because.as_deref(), &unseen);
        }
        Ok(started)
    }

    fn announce(&self, backend: Backend, because: Option<&str>, unseen: &[String]) {
        self.metrics.set_backend(backend);
        for unseen in unseen {
            say(format_args!("this kernel does not let the kernel program see {unseen}; the sweep will"));
        }
        let files = self.follower.file_count();
        let plural = if files == 1 { "" } else { "s" };
        let reason = because.map(|because| format!("; ebpf: {because}")).unwrap_or_default();
        say(format_args!("following {files} file{plural} (backend: {backend}{reason})"));
    }
}

fn load_options(settings: &Settings) -> LoadOptions {
    let telling = match settings.format {
        OutputFormat::Json => Telling::HintsAndWriters,
        OutputFormat::Text => Telling::Hints,
    };
    LoadOptions {
        log_level: settings.kernel_log,
        ring_bytes: settings.ring_bytes,
        every_hint: settings.every_hint,
        measure_cost: settings.measure_cost,
        ..LoadOptions::new(choose::room(settings.names.len()), telling)
    }
}

/// Follows every name; says what each that cannot be followed is. Returns how many were refused for good.
fn add_names(follower: &mut Follower, settings: &Settings) -> anyhow::Result<usize> {
    let mut refused = 0;
    for name in &settings.names {
        let path = Path::new(name);
        if is_followed_pattern(name) {
            let matched = follower.add_pattern(path)?;
            if matched == 0 && settings.follow {
                say(format_args!("nothing matches '{}' yet; waiting for files to appear", path.display()));
            } else if matched == 0 {
                say(format_args!("nothing matches '{}'", path.display()));
                refused += 1;
            }
        } else if let Err(error) = follower.add_name(path) {
            refused += usize::from(!settings.follow || !error.may_change());
            say(if settings.follow { error.to_string() } else { error.at_once() });
        }
    }
    Ok(refused)
}

/// A name with wildcards is a pattern, unless a file has exactly that name.
fn is_followed_pattern(name: &OsStr) -> bool {
    check_pattern(Path::new(name)).unwrap_or(true)
}
