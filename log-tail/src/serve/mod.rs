//! What log-tail tells about itself while it runs.

pub mod http;
pub mod metrics;
