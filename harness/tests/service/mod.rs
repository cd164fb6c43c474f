//! A small service that takes bearer tokens, and its bad moods.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;

/// How long a slow one takes to start.
pub(crate) const SLOW: Duration = Duration::from_millis(200);

/// How long a brusque one thinks, which lets nobody finish.
const ANSWER: Duration = Duration::from_millis(100);

struct Service {
    mode: String,
    /// How many tokens it has seen, and with how many it dies.
    seen: AtomicU32,
    dies_at: Option<u32>,
    keys: Mutex<BTreeMap<String, Jwk>>,
}

/// Serves, or fails to.
pub(crate) fn run(mode: &str) {
    match mode {
        "breaks" => fail("cannot read eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"),
        "goes" => return println!("it was in {}", std::env::current_dir().unwrap().display()),
        "unlucky" if is_first_time() => fail("Address already in use"),
        "chatty" => (0..100_000).for_each(|_| println!("{}", "blah ".repeat(20))),
        "litters" | "stays" => litter(),
        "slow" | "brusque" => {
            let (_kept, never) = channel::<()>();
            let _ = never.recv_timeout(SLOW);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(mode));
}

/// Says why it ends, as services do.
#[expect(clippy::exit, reason = "services end like this, from wherever they are")]
fn fail(why: &str) {
    println!("{why}");
    std::process::exit(3);
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn is_first_time() -> bool {
    let mark = Path::new(&variable("HOME_OF_TEST")).join(variable("KEYQUAKE_REPLICA"));
    let is_first = !mark.exists();
    std::fs::write(mark, "").unwrap();
    is_first
}

/// Starts what leaves the process group and lives on.
fn litter() {
    use std::os::unix::process::CommandExt;
    drop(Command::new("sleep").arg("1000").process_group(0).spawn().unwrap());
}

async fn serve(mode: &str) {
    if mode == "mute" {
        pending::<()>().await;
    }
    let port = if mode == "deaf" { 0 } else { variable("PORT").parse().unwrap() };
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    match mode {
        "holds" => return greet(listener, b"").await,
        "babbles" => return greet(listener, b"220 mail.example ESMTP\r\n").await,
        _ => {}
    }
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let (stays, is_brusque) = (mode == "stays", mode == "brusque");
    let shutdown = async move {
        terminate.recv().await;
        if stays {
            pending::<()>().await;
        }
        if is_brusque {
            fail("not my fault if somebody waits");
        }
    };
    let is_first = std::env::var("KEYQUAKE_REPLICA").is_ok_and(|replica| replica == "0");
    let dies_at = match mode {
        "dies" => Some(40),
        "first dies" if is_first => Some(40),
        "each dies once" if is_first_time() => Some(if is_first { 10 } else { 75 }),
        _ => None,
    };
    let service = Service { mode: mode.to_owned(), seen: AtomicU32::new(0), dies_at, keys: Mutex::default() };
    let app = Router::new().route("/api", get(api)).route("/healthz", get(health));
    // Where nothing is, it is not ready.
    let nowhere = || async { StatusCode::SERVICE_UNAVAILABLE };
    let app = match std::env::var("BASE") {
        Ok(base) => Router::new().nest(&base, app),
        Err(_) => app,
    };
    let app = app.fallback(nowhere).with_state(Arc::new(service));
    axum::serve(listener, app).with_graceful_shutdown(shutdown).await.unwrap();
}

/// Speaks something else than HTTP.
async fn greet(listener: TcpListener, greeting: &[u8]) {
    let mut guests = Vec::new();
    while let Ok((mut guest, _)) = listener.accept().await {
        guest.write_all(greeting).await.unwrap();
        guests.push(guest);
    }
}

async fn health(State(service): State<Arc<Service>>) -> StatusCode {
    if service.mode == "sick" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
}

async fn api(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    let seen = service.seen.fetch_add(1, Ordering::Relaxed);
    if service.dies_at.is_some_and(|most| seen > most) {
        fail("out of something");
    }
    if service.mode == "brusque" {
        tokio::time::sleep(ANSWER).await;
    }
    if service.mode == "login" {
        return (StatusCode::FOUND, [(LOCATION, "/login")]).into_response();
    }
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match token {
        Some(token) if service.accepts(token).await => "hello".into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

impl Service {
    /// Fetches the key set whenever it meets a key that it does not know.
    async fn accepts(&self, token: &str) -> bool {
        let Ok(Some(kid)) = decode_header(token).map(|header| header.kid) else { return false };
        let mut keys = self.keys.lock().await;
        let is_eager = self.mode == "first is eager" && variable("KEYQUAKE_REPLICA") == "0";
        if is_eager || !keys.contains_key(&kid) {
            let Ok(set) = fetch().await else { return false };
            keys.extend(set.keys.into_iter().filter_map(|key| Some((key.common.key_id.clone()?, key))));
        }
        let Some(key) = keys.get(&kid).and_then(|key| DecodingKey::from_jwk(key).ok()) else { return false };
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[variable("ISSUER")]);
        validation.set_audience(&[variable("AUDIENCE")]);
        decode::<serde_json::Value>(token, &key, &validation).is_ok()
    }
}

async fn fetch() -> Result<JwkSet, Box<dyn std::error::Error + Send + Sync>> {
    let ca = std::env::var("CA")
        .map(|file| reqwest::Certificate::from_pem(&std::fs::read(file).unwrap()).unwrap());
    let client = reqwest::Client::builder().no_proxy().tls_certs_only(ca).build()?;
    Ok(serde_json::from_slice(&client.get(variable("JWKS_URL")).send().await?.bytes().await?)?)
}
