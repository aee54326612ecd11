//! The values of options: what each may be, and what is said of one that it may not be.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use crate::count;

/// What `--max-line-bytes` may be. Below, a record is more name than line; above, one line is more memory
/// than a log tailer should take.
const MAX_LINE_BYTES: std::ops::RangeInclusive<u64> = 16..=1 << 30;

/// The longest time an option takes.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub fn max_line_bytes(text: &str) -> Result<NonZeroUsize, String> {
    let bytes = count::parse(text).map_err(|error| error.to_string())?;
    MAX_LINE_BYTES
        .contains(&bytes)
        .then(|| usize::try_from(bytes).ok().and_then(NonZeroUsize::new))
        .flatten()
        .ok_or_else(|| "a line's limit is at least 16 bytes and at most 1GiB".to_owned())
}

/// A plain number is seconds, as `sleep` takes them.
pub fn duration(text: &str) -> Result<Duration, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = is_plain.then(|| text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()));
    let parsed = match seconds {
        Some(seconds) => seconds,
        None => humantime::parse_duration(text).ok(),
    };
    match parsed {
        Some(time) if time <= LONGEST => Ok(time),
        Some(_) => Err("longer than a year".to_owned()),
        None => Err("not a time (a time looks like 5s, 500ms, 2m or, in seconds, 0.5)".to_owned()),
    }
}

pub fn duration_not_zero(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() {
        return Err("it cannot be turned off. For a longer time, give one like 1h".to_owned());
    }
    Ok(time)
}

pub fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    let port_alone = text.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port_alone.or_else(|_| text.parse()).map_err(|_| {
        "not an address (an address looks like 127.0.0.1:9600, [::1]:9600, or 0.0.0.0:9600 for everyone)"
            .to_owned()
    })
}
