//! What an issuer can do to a service that asks for its keys: the fetch ends at the moment of the policy at the
//! latest, whatever comes, and takes no more memory than the policy of the core allows.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use keyquake_core::{Algorithm, Jwks, Policy, Span, Time, UnixTime};
use keyquake_idp::{Clock, Signer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use super::testing::{jwks, settings, signer, token};
use super::{Replica, Settings};

/// More than the buffers of two sockets take.
const BUFFERED: usize = 32 << 20;

/// A replica before an issuer of its own, both at second zero.
struct Scene {
    replica: Arc<Replica>,
    clock: Clock,
    issuer: TcpListener,
}

impl Scene {
    async fn new(policy: Policy) -> Self {
        let issuer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", issuer.local_addr().unwrap());
        let clock = Clock::start(Span::ZERO, 1.0, UnixTime(1_700_000_000)).unwrap();
        let settings = Settings { policy, ..settings(&url, Algorithm::Es256, clock) };
        Self { replica: Replica::new(settings).unwrap(), clock, issuer }
    }

    /// The next connection of the replica, its request not yet read.
    async fn connection(&self) -> TcpStream {
        self.issuer.accept().await.unwrap().0
    }

    /// What becomes of a request with a token of this key.
    async fn answer(&self, key: &Signer) -> (u16, String) {
        let request = Request::get("/api").header("authorization", format!("Bearer {}", token(key)));
        let request = request.body(Body::empty()).unwrap();
        let (head, body) = self.replica.router().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.into()).unwrap())
    }
}

fn unavailable() -> (u16, String) {
    (503, "jwks_unavailable".to_owned())
}

/// Writes these bytes again and again until the other side hangs up, and says how many it took.
async fn pour(connection: &mut TcpStream, head: &str, drop: &[u8], most: usize) -> usize {
    let mut poured = head.len();
    connection.write_all(head.as_bytes()).await.unwrap();
    while poured < most && connection.write_all(drop).await.is_ok() {
        poured += drop.len();
    }
    poured
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_is_given_up_at_the_moment_of_the_policy() {
    let scene = Scene::new(Policy { fetch_timeout: Span::from_secs(30), ..Policy::default() }).await;
    let trickle = async {
        let mut connection = scene.connection().await;
        connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"keys\":[").await.unwrap();
        let mut bytes = 0;
        while connection.write_all(b" ").await.is_ok() {
            bytes += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        bytes
    };
    let key = signer(Algorithm::Es256);
    let request = async {
        let answer = scene.answer(&key).await;
        (answer, scene.clock.now())
    };
    let (bytes, (answer, at)) = tokio::join!(trickle, request);
    assert_eq!((answer, at), (unavailable(), Time::ZERO + Span::from_secs(30)));
    assert!((30..40).contains(&bytes), "it trickled until it was given up: {bytes} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_the_fetch_at_once_and_the_next_one_works() {
    let policy = Policy { failure_backoff: Span::ZERO, ..Policy::default() };
    let key = signer(Algorithm::Es256);
    for before in
        ["", "HTTP/1.1 200 OK\r\nconte", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":["]
    {
        let scene = Scene::new(policy.clone()).await;
        let reset = async {
            let mut connection = scene.connection().await;
            connection.write_all(before.as_bytes()).await.unwrap();
            connection.set_zero_linger().unwrap();
        };
        let ((), answer) = tokio::join!(reset, scene.answer(&key));
        assert_eq!(answer, unavailable(), "{before}");

        let deliver = async {
            let mut connection = scene.connection().await;
            let body = jwks(&[&key]);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            connection.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
            connection
        };
        let (_open, answer) = tokio::join!(deliver, scene.answer(&key));
        assert_eq!(answer.0, 200, "{before}");
        // Up to a tick: nothing waited for a time-out.
        assert!(scene.clock.now() < Time::ZERO + Span::from_millis(100), "{before}");
    }
}

const GIGABYTE: usize = 1 << 30;

/// How each case begins its answer, and what it says again and again.
fn endless_answers() -> [(&'static str, String, Vec<u8>); 4] {
    let blanks = vec![b' '; 1 << 16];
    let chunk = [format!("{:x}\r\n", blanks.len()).as_bytes(), &blanks, b"\r\n"].concat();
    let header = [b"x-long: ", blanks.as_slice(), b"\r\n"].concat();
    [
        (
            "of stated length",
            format!("HTTP/1.1 200 OK\r\ncontent-length: {GIGABYTE}\r\n\r\n"),
            blanks.clone(),
        ),
        ("in chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), chunk),
        ("until the end", "HTTP/1.1 200 OK\r\n\r\n".to_owned(), blanks),
        ("as headers", "HTTP/1.1 200 OK\r\n".to_owned(), header),
    ]
}

/// In real time: data that is on its way makes no paused clock wait.
#[tokio::test]
async fn of_a_gigabyte_only_the_bound_is_read() {
    let key = signer(Algorithm::Es256);
    for (case, head, drop) in endless_answers() {
        let scene = Scene::new(Policy { fetch_timeout: Span::from_secs(60), ..Policy::default() }).await;
        let gigabyte = async {
            let mut connection = scene.connection().await;
            pour(&mut connection, &head, &drop, GIGABYTE).await
        };
        let (poured, answer) = tokio::join!(gigabyte, scene.answer(&key));
        assert_eq!(answer, unavailable(), "{case}");
        // What was never sent was never held.
        assert!((Jwks::MAX_BYTES / 2..BUFFERED).contains(&poured), "{case}: {poured} bytes");
    }
}

#[tokio::test]
async fn of_a_hundred_thousand_keys_the_bound_is_looked_at() {
    const COUNT: usize = 100_000;
    let key = signer(Algorithm::Es256);
    let first = serde_json::to_string(key.key.public_jwk()).unwrap();
    let small = format!("{{\"keys\":[{first}{}]}}", ",{}".repeat(COUNT - 1));
    let large = format!("{{\"keys\":[{first}{}]}}", format!(",{first}").repeat(COUNT - 1));
    assert!(small.len() < Jwks::MAX_BYTES && large.len() > Jwks::MAX_BYTES);
    for (body, expected) in [(small, (200, "accepted".to_owned())), (large, unavailable())] {
        let scene = Scene::new(Policy { fetch_timeout: Span::from_secs(60), ..Policy::default() }).await;
        let deliver = async {
            let mut connection = scene.connection().await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            connection.write_all(head.as_bytes()).await.unwrap();
            // Whoever has read enough hangs up.
            let _ = connection.write_all(body.as_bytes()).await;
            connection
        };
        let (mut connection, answer) = tokio::join!(deliver, scene.answer(&key));
        assert_eq!(answer, expected);
        if expected != unavailable() {
            assert!(connection.read_u8().await.is_ok(), "the request");
        }
    }
}

/// How much more memory a replica may ever have taken after the worst answers than after a good one.
#[cfg(target_os = "linux")]
const MOST_GROWTH: usize = 8 << 20;

/// The system tells the peak of a whole process, so this runs in one of its own.
#[cfg(target_os = "linux")]
#[test]
fn no_answer_makes_memory_grow() {
    let itself = std::env::current_exe().unwrap();
    let alone = ["--ignored", "--exact", "--nocapture", "sut::hostile::the_peak_of_this_process_stays"];
    let output = std::process::Command::new(itself).args(alone).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{output:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "`no_answer_makes_memory_grow` runs it in a process of its own"]
async fn the_peak_of_this_process_stays() {
    let key = signer(Algorithm::Es256);
    let first = serde_json::to_vec(key.key.public_jwk()).unwrap();
    let head = "HTTP/1.1 200 OK\r\n\r\n{\"keys\":[".to_owned();
    let keys = [first, b",".to_vec()].concat().repeat(100);
    let mut answers = endless_answers().to_vec();
    // 100,000 keys are 17 MB: what is left of the gigabyte would not change a thing.
    answers.push(("as keys", head.clone(), keys));
    answers.push(("as keys that say nothing", head, b"{},".repeat(30_000)));
    let mut peaks = Vec::new();
    for (case, head, drop) in [("good", good_answer(&key), Vec::new())].into_iter().chain(answers) {
        let scene = Scene::new(Policy { fetch_timeout: Span::from_secs(60), ..Policy::default() }).await;
        let poured = async {
            let mut connection = scene.connection().await;
            let most = if drop.is_empty() { 0 } else { GIGABYTE };
            pour(&mut connection, &head, &drop, most).await;
        };
        let ((), answer) = tokio::join!(poured, scene.answer(&key));
        assert_eq!(answer.0, if case == "good" { 200 } else { 503 }, "{case}");
        peaks.push((case, peak()));
    }
    let growth = peaks[peaks.len() - 1].1 - peaks[0].1;
    assert!(growth < MOST_GROWTH, "{peaks:?}");
}

#[cfg(target_os = "linux")]
fn good_answer(key: &Signer) -> String {
    let body = String::from_utf8(jwks(&[key])).unwrap();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The most memory that this process ever had, in bytes.
#[cfg(target_os = "linux")]
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}
