//! A real client on a real socket.

use std::{future::Future, time::Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Long enough never to be reached in a test that passes.
const NEVER: Duration = Duration::from_secs(60);

const PATIENT: Limits = Limits { connections: 64, headers: NEVER, page: NEVER, connection: NEVER };

/// Runs `test` against a server, on one thread as in the real thing. The test is given the server's address
/// and the requests for pages that reach the event loop.
fn with_server<F: Future<Output = ()>>(
    limits: Limits,
    test: impl FnOnce(SocketAddr, mpsc::Receiver<PageRequest>) -> F,
) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::channel(1);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        tokio::select! {
            ended = serve_within(limits, listener, sender) => panic!("{ended:?}"),
            done = timeout(NEVER, test(address, requests)) => done.expect("the test hung"),
        }
    });
}

/// Sends `request` and reads until the server closes the connection.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

async fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}

/// Answers each request with a page that tells how many were asked for.
async fn answer_pages(mut requests: mpsc::Receiver<PageRequest>) {
    let mut count = 0;
    while let Some(request) = requests.recv().await {
        count += 1;
        let _ = request.send(format!("pages {count}\n# EOF\n"));
    }
}

#[test]
fn metrics_come_from_the_event_loop_as_openmetrics() {
    with_server(PATIENT, async |address, requests| {
        tokio::spawn(answer_pages(requests));
        for count in 1..=2 {
            let response = get(address, "/metrics").await;
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            assert!(
                response
                    .contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
                "{response}"
            );
            assert!(response.ends_with(&format!("\r\n\r\npages {count}\n# EOF\n")), "{response}");
        }
    });
}

#[test]
fn a_query_does_not_hide_the_metrics_and_head_gets_no_body() {
    with_server(PATIENT, async |address, requests| {
        tokio::spawn(answer_pages(requests));
        let response = get(address, "/metrics?name=x").await;
        assert!(response.ends_with("# EOF\n"), "{response}");
        let response = exchange(address, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\n"), "{response}");
    });
}

#[test]
fn health_is_ok_even_while_no_page_comes() {
    with_server(PATIENT, async |address, _requests| {
        let response = get(address, "/healthz").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\nok\n"), "{response}");
    });
}

#[test]
fn another_path_is_told_which_paths_there_are() {
    with_server(PATIENT, async |address, _requests| {
        for path in ["/", "/metrics/", "/favicon.ico"] {
            let response = get(address, path).await;
            assert!(response.starts_with("HTTP/1.1 404 Not Found\r\n"), "{response}");
            assert!(response.contains("/metrics") && response.contains("/healthz"), "{response}");
            assert_eq!(response.split_once("\r\n\r\n").unwrap().1.lines().count(), 1, "{response}");
        }
    });
}

#[test]
fn another_method_is_refused_and_told_which_are_allowed() {
    with_server(PATIENT, async |address, _requests| {
        let response =
            exchange(address, "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{response}");
        assert!(response.contains("allow: GET, HEAD\r\n"), "{response}");
    });
}

#[test]
fn a_request_that_is_not_http_is_refused() {
    with_server(PATIENT, async |address, _requests| {
        let response = exchange(address, "\x16\x03\x01 hello\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    });
}

#[test]
fn an_event_loop_that_does_not_answer_in_time_is_unavailable() {
    let limits = Limits { page: Duration::from_millis(50), ..PATIENT };
    // The requests are kept, unanswered: the second one does not even get into the queue.
    with_server(limits, async |address, _requests| {
        for _ in 0..2 {
            let response = get(address, "/metrics").await;
            assert!(response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{response}");
            assert!(response.ends_with("log-tail did not answer within 50ms: ask again\n"), "{response}");
        }
    });
}

#[test]
fn an_event_loop_that_is_gone_is_unavailable_at_once() {
    with_server(PATIENT, async |address, requests| {
        drop(requests);
        let start = Instant::now();
        let response = get(address, "/metrics").await;
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert!(start.elapsed() < NEVER / 2);
    });
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody_else() {
    with_server(PATIENT, async |address, _requests| {
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /heal").await.unwrap();
        assert!(get(address, "/healthz").await.ends_with("ok\n"));
        slow.write_all(b"thz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut response = String::new();
        slow.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("ok\n"), "{response}");
        silent.shutdown().await.unwrap();
    });
}

#[test]
fn a_client_that_does_not_send_its_request_in_time_is_let_go() {
    let limits = Limits { headers: Duration::from_millis(50), ..PATIENT };
    with_server(limits, async |address, _requests| {
        for sent in ["", "GET /healthz HTTP/1.1\r\nHost: local"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            // Closed or reset: either way it is over.
            let _ = stream.read_to_end(&mut rest).await;
            assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
        }
    });
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let limits = Limits { connections: 1, connection: Duration::from_millis(200), ..PATIENT };
    with_server(limits, async |address, mut requests| {
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        // More than the buffers of both sockets hold.
        requests.recv().await.unwrap().send("x".repeat(64 << 20)).unwrap();
        assert!(get(address, "/healthz").await.ends_with("ok\n"), "the only place is free again");
        drop(deaf);
    });
}

#[test]
fn more_clients_than_there_are_places_wait_for_one() {
    let limits = Limits { connections: 2, ..PATIENT };
    with_server(limits, async |address, mut requests| {
        let ask = |path| tokio::spawn(async move { get(address, path).await });
        let metrics = [ask("/metrics"), ask("/metrics")];
        let held = [requests.recv().await.unwrap(), requests.recv().await.unwrap()];
        let third = ask("/healthz");
        // The server has had every chance to meet the third client by the time a fourth is connected.
        let fourth = TcpStream::connect(address).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!third.is_finished(), "there was a place for a third client");
        drop(fourth);
        for request in held {
            request.send("# EOF\n".to_owned()).unwrap();
        }
        assert!(third.await.unwrap().ends_with("ok\n"));
        for response in metrics {
            assert!(response.await.unwrap().ends_with("# EOF\n"));
        }
    });
}

#[test]
fn an_address_in_use_is_named_with_what_to_do() {
    let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let message = bind(address).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot serve metrics on '{address}': ")), "{message}");
    assert!(message.contains("choose another port"), "{message}");
}

#[test]
fn an_address_of_another_machine_is_named_with_what_to_do() {
    // TEST-NET-1, which no machine has: RFC 5737.
    let message = bind("192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
    assert!(message.contains("this machine has no such address"), "{message}");
}
