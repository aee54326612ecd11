//! Which events are shown: those that fit one value of each option that was given.

use super::{Event, Operation};
use crate::observe::Writer;

/// What `--pid`, `--comm`, `--uid`, `--cgroup` and `--op` say. Empty: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Processes, by their number in the initial pid namespace.
    pub pids: Vec<u32>,
    /// Names of threads, as ps(1) shows them in `comm`.
    pub comms: Vec<String>,
    /// Users, by their number in the initial user namespace.
    pub uids: Vec<u32>,
    /// Cgroups: paths below the root of the hierarchy. One stands for those below it, too.
    pub cgroups: Vec<String>,
    /// What is done.
    pub operations: Vec<Operation>,
}

impl Filter {
    /// An option that cannot be answered where nobody tells who does something.
    pub(super) fn needs_writer(&self) -> Option<&'static str> {
        let given = [
            ("--pid", !self.pids.is_empty()),
            ("--comm", !self.comms.is_empty()),
            ("--uid", !self.uids.is_empty()),
            ("--cgroup", !self.cgroups.is_empty()),
        ];
        given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }

    pub(super) fn asks_for(&self, event: &Event) -> Asked {
        let fits_writer = |writer: &Writer| {
            fits(&self.pids, |pid| *pid == writer.pid)
                && fits(&self.comms, |comm| *comm == writer.comm)
                && fits(&self.uids, |uid| *uid == writer.uid)
        };
        let writer = event.writer.as_deref();
        if !fits(&self.operations, |operation| *operation == event.operation)
            || !writer.map_or(self.needs_writer().is_none(), fits_writer)
        {
            return Asked::No;
        }
        match writer.map(|writer| writer.cgroup.as_ref()) {
            Some(None) if !self.cgroups.is_empty() => Asked::Unknown,
            Some(Some(cgroup)) if !fits(&self.cgroups, |wanted| lies_in(&cgroup.path, wanted)) => Asked::No,
            _ => Asked::Yes,
        }
    }
}

/// Whether an event is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Yes,
    No,
    /// Its writer's cgroup was gone before anybody could look it up.
    Unknown,
}

fn fits<T>(wanted: &[T], is: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(is)
}

fn lies_in(path: &str, wanted: &str) -> bool {
    let (path, wanted) = (path.trim_start_matches('/'), wanted.trim_matches('/'));
    if wanted.is_empty() {
        return true;
    }
    path.strip_prefix(wanted).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use super::*;
    use crate::observe::cgroup::Cgroup;

    fn event(operation: Operation, writer: Option<Writer>) -> Event {
        Event {
            time: SystemTime::UNIX_EPOCH,
            operation,
            path: None,
            from: None,
            inode: None,
            bytes: None,
            size_before: None,
            size_after: None,
            mode: None,
            writer: writer.map(Arc::new),
        }
    }

    fn writer() -> Writer {
        let cgroup = Some(Arc::new(Cgroup::at("/system.slice/cron.service".to_owned())));
        Writer { pid: 7, tid: 8, uid: 0, comm: "cron".into(), is_kernel: false, cgroup }
    }

    #[test]
    fn each_option_has_to_fit_with_one_of_its_values() {
        let ours = event(Operation::Write, Some(writer()));
        let both = |cgroup: &str| Filter {
            pids: vec![6, 7],
            comms: vec!["cron".into()],
            uids: vec![0],
            cgroups: vec![cgroup.into()],
            operations: vec![Operation::Truncate, Operation::Write],
        };
        for cgroup in ["/", "/system.slice", "/system.slice/", "system.slice", "/system.slice/cron.service"] {
            assert_eq!(both(cgroup).asks_for(&ours), Asked::Yes, "{cgroup}");
        }
        assert_eq!(both("/system.slice/cron").asks_for(&ours), Asked::No, "a name is whole");
        let others = [
            Filter { pids: vec![8], ..both("/") },
            Filter { operations: vec![Operation::Truncate], ..both("/") },
        ];
        for filter in others {
            assert_eq!(filter.asks_for(&ours), Asked::No, "{filter:?}");
        }
        assert_eq!(Filter::default().asks_for(&ours), Asked::Yes);
    }

    #[test]
    fn who_is_unknown_is_nobody_in_particular() {
        let unknown = event(Operation::Write, None);
        assert_eq!(Filter::default().asks_for(&unknown), Asked::Yes);
        let filter = Filter { uids: vec![0], ..Filter::default() };
        assert_eq!(filter.asks_for(&unknown), Asked::No);
        assert_eq!(filter.needs_writer(), Some("--uid"));
    }

    #[test]
    fn a_cgroup_that_is_gone_may_have_been_the_one() {
        let gone = event(Operation::Write, Some(Writer { cgroup: None, ..writer() }));
        let asked = |filter: Filter| filter.asks_for(&gone);
        let filter = Filter { cgroups: vec!["/system.slice".into()], ..Filter::default() };
        assert_eq!(asked(filter.clone()), Asked::Unknown);
        assert_eq!(asked(Filter { pids: vec![8], ..filter }), Asked::No);
        assert_eq!(asked(Filter::default()), Asked::Yes);
    }
}
