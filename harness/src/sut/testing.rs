//! A replica on a stage: the test is its issuer, its clients and its key set endpoint.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use keyquake_core::{Algorithm, Freshness, Policy, Response, Span, UnixTime};
use keyquake_idp::{Clock, Forgery, KeyId, Mint, Signer, SigningKey, TokenId, TokenKind, TokenRequest};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::key::{PublicKey, key_set};
use super::{Capacity, FetchLog, Replica, Settings};

const ISSUER: &str = "http://issuer.test";
const AUDIENCE: &str = "keyquake";
const START: UnixTime = UnixTime(1_700_000_000);

/// A fetch that waits for its answer; closed when it was given up.
pub(super) type PendingFetch = oneshot::Sender<Response<PublicKey>>;

pub(super) struct Stage {
    pub(super) replica: Arc<Replica>,
    pub(super) clock: Clock,
    fetches: mpsc::UnboundedReceiver<PendingFetch>,
}

/// An answer, as far as clients care.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) challenge: Option<String>,
    pub(super) replica: Option<String>,
}

impl Stage {
    /// A replica for ES256 tokens with a cold cache, at second zero.
    pub(super) fn new(policy: Policy) -> Self {
        Self::with_capacity(policy, None)
    }

    /// The same with only so many places.
    pub(super) fn with_capacity(policy: Policy, capacity: Option<Capacity>) -> Self {
        let clock = Clock::start(Span::ZERO, 1.0, START).unwrap();
        let (fetch, fetches) = mpsc::unbounded_channel();
        let fetch = Arc::new(move || {
            let (pending, answer) = oneshot::channel();
            fetch.send(pending).unwrap();
            let answer = async { answer.await.unwrap_or(Response::unanswered()) };
            Box::pin(answer) as super::fetch::Fetching
        });
        let settings = settings("http://unused.test", Algorithm::Es256, clock);
        let replica = Replica::with_fetch(Settings { policy, capacity, ..settings }, fetch).unwrap();
        Self { replica, clock, fetches }
    }

    /// The next fetch, once it has started and whoever else is there waits for it too.
    pub(super) async fn next_fetch(&mut self) -> PendingFetch {
        let fetch = self.fetches.recv().await.unwrap();
        settle().await;
        fetch
    }

    /// Whether there was a fetch that was not asked for with [`Stage::next_fetch`].
    pub(super) fn has_fetched(&mut self) -> bool {
        self.fetches.try_recv().is_ok()
    }

    pub(super) fn get(&self, path: &str, headers: &[(&str, &str)]) -> JoinHandle<Reply> {
        self.send(Method::GET, path, headers)
    }

    /// Sends a request with these headers. It is under way at once, whether or not its answer is waited for.
    pub(super) fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> JoinHandle<Reply> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.replica.router().oneshot(request.body(Body::empty()).unwrap());
        tokio::spawn(async { read(answer.await.unwrap()).await })
    }

    pub(super) fn api(&self, token: &str) -> JoinHandle<Reply> {
        self.get("/api", &[("authorization", &format!("Bearer {token}"))])
    }
}

pub(super) fn settings(jwks_url: &str, algorithm: Algorithm, clock: Clock) -> Settings {
    Settings {
        replica: 7,
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        algorithm,
        jwks_url: jwks_url.parse().unwrap(),
        ca: None,
        policy: Policy::default(),
        capacity: None,
        jitter_seed: 1,
        clock,
        fetch_log: FetchLog::default(),
    }
}

/// Lets everything happen that needs no time; the clock is paused.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn read(response: axum::response::Response) -> Reply {
    let (head, body) = response.into_parts();
    let text = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let body = body.collect().await.unwrap().to_bytes();
    Reply {
        status: head.status.as_u16(),
        body: String::from_utf8(body.into()).unwrap(),
        challenge: text("www-authenticate"),
        replica: text("x-keyquake-replica"),
    }
}

/// A fresh key.
pub(super) fn signer(algorithm: Algorithm) -> Signer {
    Signer { id: KeyId::FIRST, key: Arc::new(SigningKey::generate(algorithm).unwrap()) }
}

/// Another key of the same name.
pub(super) fn namesake(signer: &Signer) -> Signer {
    let key = SigningKey::generate(signer.key.algorithm()).unwrap();
    Signer { id: signer.id, key: Arc::new(key.with_kid(signer.key.kid().clone())) }
}

pub(super) fn jwks(signers: &[&Signer]) -> Vec<u8> {
    let keys: Vec<_> = signers.iter().map(|signer| signer.key.public_jwk()).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// The answer of an endpoint that publishes these keys.
pub(super) fn delivery(signers: &[&Signer]) -> Response<PublicKey> {
    let keys = key_set(&jwks(signers)).unwrap();
    Response { status: Some(200), freshness: Freshness::UNSAID, keys: Some(keys) }
}

/// An access token of second zero.
pub(super) fn token(signer: &Signer) -> String {
    mint().mint(signer, &request(TokenKind::Access { scope: String::new() })).token
}

/// An ID token of second zero.
pub(super) fn id_token(signer: &Signer, nonce: Option<&str>) -> String {
    mint().mint(signer, &request(TokenKind::Id { nonce: nonce.map(Into::into) })).token
}

/// An access token with something wrong.
pub(super) fn forged(signer: &Signer, forgery: Forgery) -> String {
    mint().forge(signer, &request(TokenKind::Access { scope: String::new() }), forgery).token
}

fn mint() -> Mint {
    Mint::new(ISSUER, AUDIENCE, Span::from_secs(3_600))
}

fn request(kind: TokenKind) -> TokenRequest {
    TokenRequest { kind, subject: "session-1".into(), client: AUDIENCE.into(), issued: START, id: TokenId(1) }
}
