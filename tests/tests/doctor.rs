//! `log-tail doctor` says what this kernel allows, and what it says is what happens.

use std::fs;

use log_tail_tests::{
    backend::{chosen_here, skip},
    prelude::*,
    run::binary,
    ways::places::{Kind, Place as WaysPlace},
};
use nix::unistd::Uid;
use serde_json::Value;

fn doctor_json(finished: &Finished) -> Value {
    finished.assert_exit(0);
    serde_json::from_slice(&finished.stdout).expect("a json document")
}

#[test]
fn the_table_names_the_backend_of_each_file_and_why() {
    let place = Place::new();
    let (there, missing) = (place.path("there.log"), place.path("missing.log"));
    create(&there, "");
    let finished = LogTail::bare().arg("doctor").arg(&there).arg(&missing).run();
    let text = finished.assert_exit(0).text();
    let (backend, because) = chosen_here();
    let line_of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name) || line.contains(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no line about {name}:\n{text}"))
    };
    assert!(line_of("backend").ends_with(backend.word()), "{text}");
    for path in [&there, &missing] {
        let line = line_of(path.to_str().unwrap());
        assert!(line.contains(backend.word()), "{line}");
        assert!(because.iter().all(|because| line.contains(because)), "{line} does not say {because:?}");
    }
    if let Some(because) = because {
        assert!(line_of("kernel program").contains(because), "{text}");
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(line_of("kernel").ends_with(release.trim()), "{text}");
}

#[test]
fn what_it_says_in_json_is_what_happens() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let json = doctor_json(&LogTail::bare().args(["doctor", "--json"]).arg(&log).run());
    let (backend, because) = chosen_here();
    assert_eq!(json["backend"], backend.word());
    assert_eq!(json["ebpf_refused"].as_str(), because.as_deref());
    assert_eq!(json["kernel"], fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
    let btf = fs::metadata("/sys/kernel/btf/vmlinux").map(|metadata| metadata.len()).ok();
    assert_eq!(json["btf_bytes"].as_u64(), btf);
    let path = &json["paths"][0];
    assert_eq!((path["path"].as_str(), path["backend"].as_str()), (log.to_str(), Some(backend.word())));

    let hooks = json["hooks"].as_array().expect("a list of hooks");
    let mut attached = 0;
    for hook in hooks {
        // Attached, or a reason why not.
        let is_attached = hook["attached"].as_bool().expect("yes or no");
        assert_eq!(is_attached, hook["reason"].is_null(), "{hook}");
        attached += u32::from(is_attached);
    }
    assert_eq!(attached > 0, *backend == Backend::Ebpf, "{hooks:#?}");
    if *backend == Backend::Ebpf {
        let vfs_write = hooks.iter().find(|hook| hook["function"] == "vfs_write").expect("named");
        assert_eq!(vfs_write["attached"], true);
    }
}

#[test]
fn a_user_without_rights_is_told_so() {
    if !Uid::effective().is_root() {
        eprintln!("skipping doctor for another user: the tests do not run as root");
        return;
    }
    let place = Place::new();
    let copy = place.path("log-tail");
    fs::copy(binary(), &copy).unwrap();
    let json = doctor_json(&LogTail::bare_at(&copy).as_nobody().args(["doctor", "--json"]).run());
    assert_eq!(json["backend"], "inotify");
    assert!(json["ebpf_refused"].as_str().is_some_and(|reason| !reason.is_empty()), "{json}");
    assert_eq!(json["capabilities"].as_array().map(Vec::len), Some(0), "{json}");
}

#[test]
fn the_kernel_programs_cost_is_measured_or_said_not_to_be() {
    let place = Place::new();
    let log = place.path("app.log");
    create(&log, "");
    let measure = || LogTail::bare().args(["doctor", "--json", "--cost=2s"]).arg(&log);
    let (backend, because) = chosen_here();
    if *backend != Backend::Ebpf {
        let finished = measure().run();
        let because = because.as_deref().expect("a reason");
        finished.assert_exit(1).assert_says(&["cost cannot be measured here", because]);
        return;
    }
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let finished = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                append(&log, "a line\n");
            }
        });
        let finished = measure().run();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        finished
    });
    let costs = doctor_json(&finished);
    assert!(costs["seconds"].as_f64().expect("a number") >= 2.0, "{costs}");
    let hooks = costs["hooks"].as_array().expect("a list");
    let of = |function: &str| {
        let found = hooks.iter().find(|hook| hook["function"] == function && hook["attached_by"] == "fexit");
        let found = found.unwrap_or_else(|| panic!("no {function}: {costs}"));
        (found["calls"].as_u64().expect("a number"), found["nanoseconds"].as_u64().expect("a number"))
    };
    let (calls, nanoseconds) = of("vfs_write");
    assert!(calls > 100 && nanoseconds > calls, "{calls} calls, {nanoseconds} ns");
    assert_eq!(of("vfs_fallocate"), (0, 0), "nobody does that here");
}

#[test]
fn a_cost_of_no_file_or_no_time_is_refused() {
    let place = Place::new();
    let missing = place.path("missing.log");
    LogTail::bare().args(["doctor", "--cost=0s"]).run().assert_exit(2).assert_says(&["--cost"]);
    if chosen_here().0 == Backend::Ebpf {
        let finished = LogTail::bare().args(["doctor", "--cost=1s"]).arg(&missing).run();
        finished.assert_exit(1).assert_says(&["cannot follow", "missing.log", "No such file"]);
    }
}

#[test]
fn what_goes_unseen_on_an_overlay_is_said() {
    let (lower, upper) = (Place::new(), Place::new());
    let overlay = match WaysPlace::new(Kind::Overlay, lower.dir(), upper.dir()) {
        Ok(overlay) => overlay,
        Err(error) => return skip(&format!("no overlay can be set up here: {error}")),
    };
    let (log, plain) = (overlay.written().join("app.log"), lower.path("app.log"));
    create(&log, "");
    create(&plain, "");
    let json = doctor_json(&LogTail::bare().args(["doctor", "--json"]).arg(&log).arg(&plain).run());
    let unseen = |n: usize| json["paths"][n]["unseen"].as_str();
    assert!(unseen(0).is_some_and(|unseen| unseen.contains("upper layer")), "{json:#}");
    assert_eq!(unseen(1), None, "{json:#}");
    let text = LogTail::bare().arg("doctor").arg(&log).run().assert_exit(0).text();
    assert!(text.contains("follow the file there"), "{text}");
}
