//! The page of metrics and the health check, over HTTP.
//!
//! Promises: nothing a client does costs more than one of 64 places for 15 seconds, and no client waits for
//! another while there are places. Each connection answers one request, so that no idle one holds a place.
//! There is no TLS and no password: what is shown is counted, never read from a log.

use std::{
    convert::Infallible,
    fmt, io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

/// `OpenMetrics` 1.0: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Where to send a page of metrics that was asked for. The event loop makes it, for it alone knows what is
/// to be read still.
pub type PageRequest = oneshot::Sender<String>;

/// The system does not let this address be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics on '{address}': {error}{}", advice(error))]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program serves there (`ss -ltnp` names it): choose another port, or port 0 for any free one"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE: choose a higher one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine has no such address (`ip address` lists them): 0.0.0.0:PORT serves on every one"
        }
        _ => "",
    }
}

/// Opens the address; port 0 for any free one.
///
/// # Errors
/// [`BindError`].
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let refused = |error| BindError { address, error };
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

/// What a client may cost.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at once. Further ones wait in the kernel's queue.
    connections: usize,
    /// From the connection to the end of the request's headers.
    headers: Duration,
    /// From the request to the event loop's answer.
    page: Duration,
    /// The whole connection, so that one who does not read what he asked for is let go too.
    connection: Duration,
}

impl Limits {
    const DEFAULT: Self = Self {
        connections: 64,
        headers: Duration::from_secs(5),
        page: Duration::from_secs(5),
        connection: Duration::from_secs(15),
    };
}

/// Serves until it is dropped, which ends its connections too. Each page asked for is asked for in `pages`.
///
/// Call it inside a tokio runtime with I/O and time. Only an error of the listener itself ends it.
pub async fn serve(listener: TcpListener, pages: mpsc::Sender<PageRequest>) -> io::Result<Infallible> {
    serve_within(Limits::DEFAULT, listener, pages).await
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    pages: mpsc::Sender<PageRequest>,
) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= limits.connections {
            connections.join_next().await;
        }
        // Those that have ended would otherwise be kept until there is no place left.
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(answer(limits, stream, pages.clone()));
            }
            // The client was gone before it was met.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Descriptors or memory are spent. That passes, but not by asking again at once.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Answers one request. Whatever goes wrong is the client's to notice.
async fn answer(limits: Limits, stream: TcpStream, pages: mpsc::Sender<PageRequest>) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let pages = &pages;
        async move { Ok::<_, Infallible>(route(request.method(), request.uri().path(), limits, pages).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = timeout(limits.connection, connection).await;
}

async fn route(
    method: &Method,
    path: &str,
    limits: Limits,
    pages: &mpsc::Sender<PageRequest>,
) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "nothing can be changed here: use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => {
            let Some(page) = page(limits.page, pages).await else {
                let why = format_args!("log-tail did not answer within {:?}: ask again\n", limits.page);
                let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
                return response;
            };
            respond(StatusCode::OK, OPENMETRICS, page)
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        _ => text(StatusCode::NOT_FOUND, "nothing here: /metrics has the metrics, /healthz says ok\n"),
    }
}

/// `None` where the event loop does not answer in time, or at all.
async fn page(within: Duration, pages: &mpsc::Sender<PageRequest>) -> Option<String> {
    let answer = async {
        let (request, answer) = oneshot::channel();
        pages.send(request).await.ok()?;
        answer.await.ok()
    };
    timeout(within, answer).await.ok().flatten()
}

fn text(status: StatusCode, body: impl fmt::Display) -> Response<Full<Bytes>> {
    respond(status, TEXT, body.to_string())
}

fn respond(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests;
