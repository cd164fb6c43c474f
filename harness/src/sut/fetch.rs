//! Fetches key sets over HTTP, and leaves it to the policy what to make of the answers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyquake_core::{Jwks, Response, Time};
use keyquake_idp::{Clock, JwksLog};
use reqwest::{Certificate, Client, RequestBuilder, Url, redirect, retry};

use super::freshness::freshness;
use super::key::{PublicKey, key_set};

/// Fetches the key set once. Dropping what it returns gives the fetch up.
pub(super) type Fetch = Arc<dyn Fn() -> Fetching + Send + Sync>;

/// A fetch under way.
pub(super) type Fetching = Pin<Box<dyn Future<Output = Response<PublicKey>> + Send>>;

/// When the fetches of a fleet began and ended, as its caches saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetchLog(Arc<Mutex<Vec<TimedFetch>>>);

/// One fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedFetch {
    pub(crate) instance: u32,
    pub(crate) asked: Time,
    /// `None` if it was given up.
    pub(crate) received: Option<Time>,
}

impl FetchLog {
    /// The fetches so far, in the order of their beginning: as many as the IdP's own log holds.
    pub(crate) fn entries(&self) -> Vec<TimedFetch> {
        self.lock().clone()
    }

    /// Notes when this instance's fetches begin and end.
    pub(super) fn time(self, fetch: Fetch, instance: u32, clock: Clock) -> Fetch {
        Arc::new(move || {
            let entry = self.open(TimedFetch { instance, asked: clock.now(), received: None });
            let (log, fetching) = (self.clone(), fetch());
            Box::pin(async move {
                let response = fetching.await;
                if let Some(index) = entry
                    && let Some(timed) = log.lock().get_mut(index)
                {
                    timed.received = Some(clock.now());
                }
                response
            })
        })
    }

    fn open(&self, fetch: TimedFetch) -> Option<usize> {
        let mut fetches = self.lock();
        (fetches.len() < JwksLog::MAX_ENTRIES).then(|| {
            fetches.push(fetch);
            fetches.len() - 1
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<TimedFetch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches this URL with a client of its own, which pools connections. Over HTTPS it trusts this CA and no other.
///
/// The client neither follows redirects nor asks proxies, does not try again and never gives up: when a fetch has
/// lasted too long is for the cache to say.
///
/// # Errors
///
/// The system does not let the client be made.
pub(super) fn over_http(url: Url, ca: Option<Certificate>) -> Result<Fetch, reqwest::Error> {
    let client = Client::builder()
        .tls_certs_only(ca)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .pool_idle_timeout(None)
        .build()?;
    Ok(Arc::new(move || Box::pin(fetch(client.get(url.clone())))))
}

async fn fetch(request: RequestBuilder) -> Response<PublicKey> {
    let Ok(mut answer) = request.send().await else { return Response::unanswered() };
    Response {
        status: Some(answer.status().as_u16()),
        freshness: freshness(answer.headers()),
        keys: read_body(&mut answer).await.and_then(|body| key_set(&body).ok()),
    }
}

/// The body, unless it is cut off or longer than what anyone would look at.
async fn read_body(answer: &mut reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        if body.len() + chunk.len() > Jwks::MAX_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::time::Duration;

    use keyquake_core::{Algorithm, Freshness, Span};
    use keyquake_idp::{Guard, Idp, KeyRing, Provider, Settings, SigningKey, Timeline, Tls, serve};
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    /// Fetches from a server that reads a request, writes these bytes and closes the connection.
    async fn fetch_from(answer: impl AsRef<[u8]>) -> Response<PublicKey> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let fetching = over_http(url.parse().unwrap(), None).unwrap()();
        let serving = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            read_request(&mut connection).await;
            // Whoever has read enough may hang up before the end.
            let _ = connection.write_all(answer.as_ref()).await;
        };
        tokio::join!(fetching, serving).0
    }

    async fn read_request(connection: &mut TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(connection.read_u8().await.unwrap());
        }
        assert!(request.starts_with(b"GET /jwks.json HTTP/1.1\r\n"));
    }

    fn jwks() -> String {
        json!({ "keys": [SigningKey::generate(Algorithm::Es256).unwrap().public_jwk()] }).to_string()
    }

    fn with_length(head: &str, body: &str) -> String {
        format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_key_set_is_reported_with_its_status_and_freshness() {
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nage: 7";
        let response = fetch_from(with_length(head, &jwks())).await;
        assert_eq!(response.status, Some(200));
        let freshness =
            Freshness { max_age: Some(Span::from_secs(60)), age: Span::from_secs(7), no_cache: false };
        assert_eq!(response.freshness, freshness);
        assert_eq!(response.keys.map(|set| set.keys.len()), Some(1));
    }

    #[tokio::test]
    async fn a_key_set_that_comes_with_an_error_is_reported_too() {
        let response = fetch_from(with_length("HTTP/1.1 503 Service Unavailable", &jwks())).await;
        assert_eq!((response.status, response.keys.is_some()), (Some(503), true));
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let head = "HTTP/1.1 302 Found\r\nlocation: /elsewhere";
        let response = fetch_from(with_length(head, "")).await;
        assert_eq!((response.status, response.keys.is_some()), (Some(302), false));
    }

    #[tokio::test]
    async fn a_body_that_is_no_key_set_has_no_keys() {
        let whole = with_length("HTTP/1.1 200 OK", &jwks());
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", jwks());
        let too_long = format!("{endless}{}", " ".repeat(Jwks::MAX_BYTES));
        for (case, answer) in [
            ("html", with_length("HTTP/1.1 200 OK", "<html>")),
            ("cut off", whole[..whole.len() - 1].to_owned()),
            ("without end and too long", too_long),
        ] {
            let response = fetch_from(answer).await;
            assert_eq!((response.status, response.keys.is_some()), (Some(200), false), "{case}");
        }
        assert!(fetch_from(endless).await.keys.is_some());
    }

    /// In real time: a fetch that read on would wait for ever.
    #[tokio::test]
    async fn a_body_that_is_too_long_is_not_read_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            read_request(&mut connection).await;
            let body = " ".repeat(Jwks::MAX_BYTES + 1);
            let _ = connection.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes()).await;
            // The body has no end.
            pending::<()>().await;
        });
        let fetching = over_http(url, None).unwrap()();
        let response = timeout(Duration::from_secs(10), fetching).await.unwrap();
        assert_eq!((response.status, response.keys.is_some()), (Some(200), false));
    }

    #[tokio::test]
    async fn no_answer_is_unanswered() {
        for answer in ["", "HTTP/1.1 200 OK\r\ncache-con", "SSH-2.0-OpenSSH_9.2\r\n\r\n"] {
            let response = fetch_from(answer).await;
            assert_eq!((response.status, response.freshness), (None, Freshness::UNSAID), "{answer}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        assert_eq!(over_http(url, None).unwrap()().await.status, None);
    }

    #[tokio::test]
    async fn over_https_only_the_given_ca_is_trusted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url: Url = format!("https://{address}/.well-known/jwks.json").parse().unwrap();
        let clock = Clock::start_today(Span::ZERO, 1.0).unwrap();
        let timeline = Timeline::new(Vec::new(), Vec::new()).unwrap();
        let keys = KeyRing::generate(&timeline, Algorithm::Es256).unwrap();
        let settings = Settings {
            issuer: format!("https://{address}"),
            audience: "keyquake".into(),
            algorithm: Algorithm::Es256,
            token_lifetime: Span::from_secs(60),
            cache_control: None,
            seed: 1,
        };
        let idp = Idp::new(settings, timeline, keys, clock.now()).unwrap();
        let provider = Provider::new(idp, clock, Guard::new(address.ip(), None).unwrap());
        let made = || Tls::generate(clock.unix(clock.now()), &[]).unwrap();
        let ca = |tls: &Tls| Some(Certificate::from_pem(tls.ca_pem().as_bytes()).unwrap());
        let (tls, other) = (made(), made());
        let (own, foreign) = (ca(&tls), ca(&other));
        tokio::spawn(serve(listener, Some(tls), Arc::new(provider), pending()));

        let fetch = |ca| over_http(url.clone(), ca).unwrap()();
        let response = fetch(own).await;
        assert_eq!((response.status, response.keys.map(|set| set.keys.len())), (Some(200), Some(1)));
        for ca in [foreign, None] {
            assert_eq!(fetch(ca).await.status, None);
        }
    }
}
