//! A look at `/metrics`, as Prometheus takes it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use crate::PATIENCE;

/// One page of metrics.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// The page as it came, without the head of the answer.
    pub page: String,
}

impl Scrape {
    /// Asks for the page.
    ///
    /// # Panics
    /// Where it does not come, or is not whole.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the request is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in UTF-8");
        let (head, page) = answer.split_once("\r\n\r\n").expect("an answer with a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(page.ends_with("# EOF\n"), "cut short: {page}");
        Self { page: page.to_owned() }
    }

    /// The value of a series, as `name` or `name{label="value"}`; `None` where there is no such series.
    #[must_use]
    pub fn find(&self, series: &str) -> Option<f64> {
        let of_series = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.page.lines().find_map(of_series)
    }

    /// The value of a series of whole numbers.
    ///
    /// # Panics
    /// Where there is no such series.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters are whole and small"
    )]
    pub fn get(&self, series: &str) -> u64 {
        self.find(series).unwrap_or_else(|| panic!("no {series} in:\n{}", self.page)) as u64
    }

    /// The kernel program's events with this outcome.
    #[must_use]
    pub fn kernel_events(&self, outcome: &str) -> u64 {
        self.get(&format!("log_tail_kernel_events_total{{outcome=\"{outcome}\"}}"))
    }

    /// Every event that the kernel program saw was either submitted, coalesced or dropped.
    ///
    /// # Panics
    /// Where one is unaccounted for.
    pub fn assert_kernel_events_add_up(&self) {
        let [seen, submitted, coalesced, dropped] =
            ["seen", "submitted", "coalesced", "dropped"].map(|outcome| self.kernel_events(outcome));
        assert_eq!(
            seen,
            submitted + coalesced + dropped,
            "seen {seen}, submitted {submitted}, coalesced {coalesced}, dropped {dropped}"
        );
    }
}
