//! What a scrape sees.

use super::*;

fn page(metrics: &Metrics) -> String {
    let page = metrics.encode();
    eprintln!("{page}");
    page
}

fn assert_lines(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|found| found == *line), "no line `{line}`");
    }
}

#[test]
fn every_series_but_the_backend_is_there_from_the_start() {
    let page = page(&Metrics::new());
    assert_lines(
        &page,
        &[
            concat!("log_tail_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "log_tail_read_bytes_total 0",
            "log_tail_read_lines_total 0",
            "log_tail_files 0",
            "log_tail_lag_bytes 0",
            "log_tail_write_to_deliver_seconds_count 0",
            "log_tail_wakeups_total 0",
            "log_tail_hints_total{kind=\"append\"} 0",
            "log_tail_hints_total{kind=\"overflow\"} 0",
            "log_tail_kernel_events_total{outcome=\"seen\"} 0",
            "log_tail_kernel_events_total{outcome=\"dropped\"} 0",
            "log_tail_kernel_events_skipped_total 0",
            "log_tail_rotations_total{kind=\"unlink\"} 0",
            "log_tail_missed_hints_total 0",
            "log_tail_lost_bytes_total{reason=\"truncated\"} 0",
            "log_tail_lost_bytes_total{reason=\"removed\"} 0",
            "log_tail_missed_files_total 0",
            "log_tail_sweeps_total 0",
            "log_tail_state_commits_total{outcome=\"durable\"} 0",
            "log_tail_state_commits_total{outcome=\"failed\"} 0",
            "log_tail_state_commit_age_seconds 0",
        ],
    );
    assert!(!page.contains("backend_info"));
}

#[test]
fn every_family_has_its_type_its_unit_and_a_help_text() {
    let metrics = Metrics::new();
    metrics.set_backend(Backend::Ebpf);
    let page = page(&metrics);
    let families = [
        ("build", "info"),
        ("backend", "info"),
        ("read_bytes", "counter"),
        ("read_lines", "counter"),
        ("files", "gauge"),
        ("lag_bytes", "gauge"),
        ("write_to_deliver_seconds", "histogram"),
        ("wakeups", "counter"),
        ("hints", "counter"),
        ("state_commits", "counter"),
        ("state_commit_age_seconds", "gauge"),
        ("kernel_events", "counter"),
        ("kernel_events_skipped", "counter"),
        ("rotations", "counter"),
        ("missed_hints", "counter"),
        ("lost_bytes", "counter"),
        ("missed_files", "counter"),
        ("sweeps", "counter"),
    ];
    for (name, kind) in families {
        assert_lines(&page, &[&format!("# TYPE log_tail_{name} {kind}")]);
        assert!(page.contains(&format!("# HELP log_tail_{name} ")), "no help for {name}");
    }
    assert_lines(
        &page,
        &[
            "# UNIT log_tail_read_bytes bytes",
            "# UNIT log_tail_lag_bytes bytes",
            "# UNIT log_tail_write_to_deliver_seconds seconds",
        ],
    );
    let types = page.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(types, families.len(), "a family is not in this test's list");
}

#[test]
fn the_page_ends_as_openmetrics_says_and_every_sample_is_a_number() {
    let page = page(&Metrics::new());
    assert!(page.ends_with("\n# EOF\n"));
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("log_tail_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn what_is_counted_is_shown() {
    let metrics = Metrics::new();
    metrics.read_bytes.add(100);
    metrics.read_bytes.add(1);
    metrics.read_lines.set(7);
    metrics.files.set(3);
    metrics.lag_bytes.set(1 << 40);
    metrics.rotations(RotationKind::Replace).add(1);
    metrics.rotations(RotationKind::Truncate).set(4);
    metrics.set_backend(Backend::Stat);
    metrics.set_backend(Backend::Inotify);
    let page = page(&metrics);
    assert_lines(
        &page,
        &[
            "log_tail_read_bytes_total 101",
            "log_tail_read_lines_total 7",
            "log_tail_files 3",
            "log_tail_lag_bytes 1099511627776",
            "log_tail_rotations_total{kind=\"replace\"} 1",
            "log_tail_rotations_total{kind=\"truncate\"} 4",
            "log_tail_backend_info{backend=\"inotify\"} 1",
        ],
    );
    assert_eq!(page.matches("backend_info{").count(), 1, "the earlier backend is gone");
}

#[test]
fn the_kernels_counters_replace_what_was_there() {
    let metrics = Metrics::new();
    metrics.set_kernel_events(Counters { seen: 10, submitted: 3, coalesced: 6, dropped: 1 });
    metrics.set_kernel_events(Counters { seen: 12, submitted: 4, coalesced: 7, dropped: 1 });
    assert_lines(
        &page(&metrics),
        &[
            "log_tail_kernel_events_total{outcome=\"seen\"} 12",
            "log_tail_kernel_events_total{outcome=\"submitted\"} 4",
            "log_tail_kernel_events_total{outcome=\"coalesced\"} 7",
            "log_tail_kernel_events_total{outcome=\"dropped\"} 1",
        ],
    );
}

#[test]
fn hints_and_lost_bytes_are_taken_over_from_where_they_are_counted() {
    let metrics = Metrics::new();
    metrics.hints(HintKind::Append).set(2);
    metrics.lost_bytes(Reason::Truncated).set(107);
    metrics.lost_bytes(Reason::Removed).set(10);
    let page = page(&metrics);
    assert_lines(
        &page,
        &[
            "log_tail_hints_total{kind=\"append\"} 2",
            "log_tail_lost_bytes_total{reason=\"truncated\"} 107",
            "log_tail_lost_bytes_total{reason=\"removed\"} 10",
        ],
    );
    assert_eq!(page.matches("log_tail_hints_total{").count(), HintKind::ALL.len());
}

#[test]
fn a_delivery_falls_into_the_bucket_of_its_time() {
    let metrics = Metrics::new();
    metrics.delivered_after(Duration::from_nanos(1_500));
    metrics.delivered_after(Duration::from_secs(60));
    let page = page(&metrics);
    let bucket = |bound: f64| {
        page.lines()
            .filter_map(|line| line.strip_prefix("log_tail_write_to_deliver_seconds_bucket{le=\""))
            .filter_map(|line| line.split_once("\"} "))
            .find(|(le, _)| le.parse::<f64>().unwrap() >= bound)
            .map(|(_, count)| count.to_owned())
            .unwrap()
    };
    assert_eq!(bucket(1e-6), "0");
    assert_eq!(bucket(1.9e-6), "1");
    assert_eq!(bucket(8.0), "1", "the longest is over 8 s");
    assert_eq!(bucket(f64::INFINITY), "2");
}

#[test]
fn counting_goes_on_while_the_page_is_made() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..1000).for_each(|_| metrics.hints(HintKind::Overflow).add(1)));
        scope.spawn(|| (0..100).for_each(|_| assert!(metrics.encode().ends_with("# EOF\n"))));
    });
    assert_lines(&metrics.encode(), &["log_tail_hints_total{kind=\"overflow\"} 1000"]);
}
