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

    pub(super) fn keeps(&self, event: &Event) -> bool {
        let fits_writer = |writer: &Writer| {
            let cgroup = writer.cgroup.as_ref().map(|cgroup| cgroup.path.as_str());
            fits(&self.pids, |pid| *pid == writer.pid)
                && fits(&self.comms, |comm| *comm == writer.comm)
                && fits(&self.uids, |uid| *uid == writer.uid)
                && fits(&self.cgroups, |wanted| cgroup.is_some_and(|path| lies_in(path, wanted)))
        };
        fits(&self.operations, |operation| *operation == event.operation)
            && event.writer.as_deref().map_or(self.needs_writer().is_none(), fits_writer)
    }
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
            assert!(both(cgroup).keeps(&ours), "{cgroup}");
        }
        assert!(!both("/system.slice/cron").keeps(&ours), "a name is whole");
        assert!(!Filter { pids: vec![8], ..both("/") }.keeps(&ours));
        assert!(!Filter { operations: vec![Operation::Truncate], ..both("/") }.keeps(&ours));
        assert!(Filter::default().keeps(&ours));
    }

    #[test]
    fn who_is_unknown_is_nobody_in_particular() {
        let unknown = event(Operation::Write, None);
        assert!(Filter::default().keeps(&unknown));
        let filter = Filter { uids: vec![0], ..Filter::default() };
        assert!(!filter.keeps(&unknown));
        assert_eq!(filter.needs_writer(), Some("--uid"));
    }
}
