//! What a client sees of faults: over real sockets where the connection matters, else by the routes alone.

use std::net::SocketAddr;

use keyquake_core::Jwks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::fault::{Endpoint, Fault, Scope};
use crate::idp::JwksLogEntry;

const JWKS: &str = "/.well-known/jwks.json";
const METADATA: &str = "/.well-known/openid-configuration";
/// By real time: much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn fault(endpoint: Endpoint, parts: Value) -> Fault {
    Fault::new(endpoint, serde_json::from_value(parts).unwrap())
}

fn begin(provider: &Provider, fault: Fault) -> FaultId {
    provider.with(|idp, now| idp.start_fault(now, fault, Span::INFINITE)).unwrap()
}

fn end(provider: &Provider, id: FaultId) {
    assert!(provider.with(|idp, now| idp.end_fault(now, id)));
}

fn last_logged(provider: &Provider) -> JwksLogEntry {
    provider.with(|idp, _| idp.jwks_log().entries().last().unwrap().clone())
}

/// A provider behind a port.
struct Served {
    provider: Arc<Provider>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

async fn served() -> Served {
    let provider = provider(vec![just_in_time(0)]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let server = serve(listener, None, Arc::clone(&provider), async { drop(stopped.await) });
    Served { provider, address, stop, server: tokio::spawn(server) }
}

impl Served {
    /// A connection on which something was asked.
    async fn ask(&self, method: &str, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// Waits until a request is held.
    async fn holds_a_request(&self) {
        let held = async {
            while self.provider.outlook.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, held).await.unwrap();
    }
}

/// Everything that comes, and how it ends.
async fn read(mut stream: TcpStream) -> (String, io::Result<usize>) {
    let mut bytes = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
    (String::from_utf8(bytes).unwrap(), end)
}

/// What must be seen: the status, a header, the length of the body, and how many of the two keys were sent.
type Seen = (u16, &'static str, &'static str, Length, usize);

enum Length {
    Exactly(usize),
    Whole,
    Half,
}

#[tokio::test]
async fn each_part_is_what_a_plain_client_sees() {
    use Length::{Exactly, Half, Whole};

    let served = served().await;
    let (healthy, _) = read(served.ask("GET", JWKS).await).await;
    let whole = healthy.split_once("\r\n\r\n").unwrap().1.len();
    let table: Vec<(Value, Seen)> = vec![
        (json!({ "status": 503 }), (503, "content-length", "0", Exactly(0), 0)),
        (json!({ "retry_after": "90s" }), (200, "retry-after", "90", Whole, 2)),
        (json!({ "headers": { "cache-control": "no-store" } }), (200, "cache-control", "no-store", Whole, 2)),
        (json!({ "headers": { "cache-control": "" } }), (200, "cache-control", "", Whole, 2)),
        (json!({ "body": "html" }), (200, "content-type", "text/html; charset=utf-8", Exactly(94), 0)),
        (json!({ "body": "empty" }), (200, "content-length", "0", Exactly(0), 0)),
        (json!({ "body": "empty_set" }), (200, "cache-control", "max-age=300", Exactly(11), 0)),
        (json!({ "body": "no_keys" }), (200, "cache-control", "max-age=300", Exactly(2), 0)),
        (json!({ "body": "truncated" }), (200, "content-type", "application/jwk-set+json", Half, 0)),
        (json!({ "body": "bom" }), (200, "content-type", "application/jwk-set+json", Exactly(whole + 3), 2)),
        (json!({ "keys": "wrong_set" }), (200, "cache-control", "max-age=300", Whole, 0)),
        (json!({ "keys": "swapped" }), (200, "cache-control", "max-age=300", Whole, 0)),
        (json!({ "keys": ["null"] }), (200, "cache-control", "max-age=300", Exactly(whole + 5), 2)),
        (json!({ "status": 503, "keys": ["null"] }), (503, "cache-control", "", Exactly(whole + 5), 2)),
        (json!({ "redirect": "/x" }), (302, "location", "/x", Exactly(0), 0)),
        (json!({ "drop": true }), (200, "content-type", "application/jwk-set+json", Half, 0)),
    ];
    for (parts, (status, name, value, length, keys)) in table {
        let id = begin(&served.provider, fault(Endpoint::Jwks, parts.clone()));
        let (answer, ended) = read(served.ask("GET", JWKS).await).await;
        assert!(ended.is_ok(), "{parts}: {ended:?}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{parts}: {head}");
        let header = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        assert_eq!(header.unwrap_or_default(), value, "{parts}: {head}");
        let expected = match length {
            Exactly(length) => length,
            Whole => whole,
            Half => whole / 2,
        };
        assert_eq!(body.len(), expected, "{parts}: {body}");
        let logged = last_logged(&served.provider);
        assert_eq!((logged.status, logged.keys.len()), (Some(status), keys), "{parts}");
        end(&served.provider, id);
    }
}

#[tokio::test]
async fn a_dropped_answer_announces_more_than_comes() {
    let served = served().await;
    begin(&served.provider, fault(Endpoint::Discovery, json!({ "drop": true })));
    let (answer, _) = read(served.ask("GET", METADATA).await).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(announced.parse::<usize>().unwrap() / 2, body.len());
}

#[tokio::test]
async fn a_reset_connection_brings_nothing_but_the_reset() {
    let served = served().await;
    begin(&served.provider, fault(Endpoint::Jwks, json!({ "reset": true })));
    for method in ["GET", "HEAD"] {
        let (bytes, end) = read(served.ask(method, JWKS).await).await;
        assert_eq!(
            (bytes.as_str(), end.unwrap_err().kind()),
            ("", io::ErrorKind::ConnectionReset),
            "{method}"
        );
    }
    let logged = last_logged(&served.provider);
    assert_eq!((logged.answered, logged.status, logged.keys.len()), (None, None, 0));
    let (metrics, _) = read(served.ask("GET", "/metrics").await).await;
    assert!(metrics.contains("keyquake_idp_jwks_requests_total{status=\"none\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn a_hanging_request_is_reset_when_the_fault_is_over() {
    let served = served().await;
    let id = begin(&served.provider, fault(Endpoint::Jwks, json!({ "hang": true })));
    let client = served.ask("GET", JWKS).await;
    served.holds_a_request().await;
    end(&served.provider, id);
    let (bytes, ended) = read(client).await;
    assert_eq!((bytes.as_str(), ended.unwrap_err().kind()), ("", io::ErrorKind::ConnectionReset));
    assert_eq!(last_logged(&served.provider).status, None);
}

#[tokio::test]
async fn a_client_that_goes_away_is_held_no_longer() {
    let served = served().await;
    for parts in [json!({ "hang": true }), json!({ "delay": "1h" })] {
        let id = begin(&served.provider, fault(Endpoint::Jwks, parts));
        let client = served.ask("GET", JWKS).await;
        served.holds_a_request().await;
        drop(client);
        timeout(PATIENCE, served.provider.outlook.closed()).await.unwrap();
        assert_eq!(last_logged(&served.provider).answered, None);
        end(&served.provider, id);
    }
}

#[tokio::test]
async fn held_requests_do_not_hold_up_a_shutdown() {
    let served = served().await;
    begin(&served.provider, fault(Endpoint::Jwks, json!({ "hang": true })));
    begin(&served.provider, fault(Endpoint::Discovery, json!({ "delay": "1h" })));
    let (hanging, delayed) = (served.ask("GET", JWKS).await, served.ask("GET", METADATA).await);
    while served.provider.outlook.receiver_count() < 2 {
        tokio::task::yield_now().await;
    }
    served.stop.send(()).unwrap();
    timeout(PATIENCE, served.server).await.unwrap().unwrap().unwrap();
    for client in [hanging, delayed] {
        assert_eq!(read(client).await.1.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_planned_fault_lets_go_at_its_end() {
    let provider = provider(Vec::new());
    let hang = fault(Endpoint::Jwks, json!({ "hang": true }));
    provider.with(|idp, now| idp.start_fault(now, hang, Span::from_secs(30))).unwrap();
    let timer = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { provider.keep_time().await }
    });
    let response = router(Arc::clone(&provider)).oneshot(fetch(JWKS)).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(provider.clock().now().as_secs_f64().round(), 30.0);
    timer.abort();
    assert_eq!(send(&provider, fetch(JWKS)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_answer_is_that_of_the_arrival() {
    let provider = provider(vec![just_in_time(2)]);
    begin(&provider, fault(Endpoint::Jwks, json!({ "delay": "3s" })));
    assert_eq!(kids(&provider).await, 1);
    let JwksLogEntry { at, answered, status, keys, .. } = last_logged(&provider);
    let waited = answered.unwrap().since(at).as_secs_f64();
    assert!((3.0..3.01).contains(&waited), "{waited}");
    assert_eq!((status, keys.len()), (Some(200), 1));
}

#[tokio::test(start_paused = true)]
async fn a_stale_set_is_that_of_a_while_ago() {
    let provider = provider(vec![just_in_time(10)]);
    begin(&provider, fault(Endpoint::Jwks, json!({ "stale": "4s" })));
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push((kids(&provider).await, last_logged(&provider).keys.len()));
        advance(Duration::from_secs(5)).await;
    }
    // Published at 10 s; the old key is removed at 15 s.
    assert_eq!(seen, [(1, 1), (1, 1), (1, 1), (2, 2), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn only_a_whole_document_is_known_by_its_tag() {
    let provider = provider(Vec::new());
    let conditional = |etag: &str| {
        let mut request = fetch(JWKS);
        request.headers_mut().insert(header::IF_NONE_MATCH, etag.parse().unwrap());
        request
    };
    let tag = send(&provider, fetch(JWKS)).await.header("etag").to_owned();
    for (parts, status) in [
        (json!({ "delay": "1s" }), 304),
        (json!({ "keys": "swapped" }), 200),
        (json!({ "body": "truncated" }), 200),
        (json!({ "status": 503, "body": "empty_set" }), 503),
    ] {
        let id = begin(&provider, fault(Endpoint::Jwks, parts.clone()));
        assert_eq!(send(&provider, conditional(&tag)).await.status, status, "{parts}");
        advance(Duration::from_millis(1)).await;
        end(&provider, id);
        advance(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_set_is_sound_and_verifies_nothing() {
    for parts in [json!({ "keys": "wrong_set" }), json!({ "keys": "swapped" })] {
        let provider = provider(Vec::new());
        begin(&provider, fault(Endpoint::Jwks, parts.clone()));
        let set = send(&provider, fetch(JWKS)).await.body;
        let known = Jwks::parse(&set).unwrap();
        assert_eq!((known.keys.len(), known.unusable.len()), (1, 0), "{parts}");
        let tokens = login(&provider, "grant_type=client_credentials&client_id=app").await.json();
        assert_eq!(witness::verify(&set, tokens["access_token"].as_str().unwrap()), None, "{parts}");
    }
}

#[tokio::test(start_paused = true)]
async fn chance_and_replicas_decide_whom_it_strikes() {
    let struck = async || {
        let provider = provider(Vec::new());
        let scope = Scope { probability: Some("50%".parse().unwrap()), replicas: None };
        begin(&provider, Fault { scope, ..Fault::status(Endpoint::Jwks, 503) });
        let mut statuses = Vec::new();
        for _ in 0..40 {
            // What happens at other endpoints moves nothing.
            send(&provider, fetch(METADATA)).await;
            statuses.push(send(&provider, fetch(JWKS)).await.status);
        }
        statuses
    };
    let first = struck().await;
    assert!(first.contains(&503) && first.contains(&200));
    assert_eq!(struck().await, first);

    let provider = provider(Vec::new());
    let body = r#"{"jwks":{"status":503},"discovery":{"status":500},"replicas":[0,3]}"#;
    let begun = send(&provider, request(Method::POST, "/admin/faults", JSON, body)).await;
    assert_eq!((begun.status, begun.json()), (201, json!({ "ids": [0, 1] })));
    advance(Duration::from_millis(1)).await;
    for (base, jwks, metadata) in
        [("", 200, 200), ("/instances/0", 503, 500), ("/instances/1", 200, 200), ("/instances/3", 503, 500)]
    {
        assert_eq!(send(&provider, fetch(&format!("{base}{JWKS}"))).await.status, jwks, "{base}");
        assert_eq!(send(&provider, fetch(&format!("{base}{METADATA}"))).await.status, metadata, "{base}");
    }
}

#[tokio::test]
async fn the_token_endpoint_breaks_the_same_way() {
    let served = served().await;
    begin(&served.provider, fault(Endpoint::Token, json!({ "reset": true })));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let form = "grant_type=client_credentials&client_id=app";
    let length = form.len();
    let head = format!(
        "POST /token HTTP/1.1\r\nhost: localhost\r\ncontent-type: {FORM}\r\ncontent-length: {length}\r\n\r\n{form}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (bytes, end) = read(stream).await;
    assert_eq!((bytes.as_str(), end.unwrap_err().kind()), ("", io::ErrorKind::ConnectionReset));
    let counts: Vec<_> = served.provider.with(|idp, _| idp.token_counts().iter().collect());
    assert_eq!(counts, [("client_credentials", None, 1)]);
}
