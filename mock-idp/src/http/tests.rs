//! The routes, without a port; time is tokio's and moved by hand.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, header};
use http_body_util::BodyExt;
use keyquake_core::{Algorithm, Span, UnixTime};
use serde_json::Value;
use tokio::time::advance;
use tower::ServiceExt;

use super::*;
use crate::idp::Settings;
use crate::rotation::{Rotation, Style};
use crate::testing::{decode_part, ring, witness};
use crate::timeline::Timeline;

mod faults;
mod tls;

const EPOCH: UnixTime = UnixTime(1_700_000_000);
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

fn provider_with(rotations: Vec<Rotation>, guard: Guard) -> Arc<Provider> {
    let timeline = Timeline::new(rotations, Vec::new()).unwrap();
    let keys = ring(&timeline);
    let settings = Settings {
        issuer: "http://127.0.0.1:8400".into(),
        audience: "keyquake".into(),
        algorithm: Algorithm::Es256,
        token_lifetime: Span::from_secs(600),
        cache_control: Some("max-age=300".into()),
        seed: 7,
    };
    let clock = Clock::start(Span::ZERO, 1.0, EPOCH).unwrap();
    let idp = Idp::new(settings, timeline, keys, clock.now()).unwrap();
    Arc::new(Provider::new(idp, clock, guard))
}

fn loopback() -> Guard {
    Guard::new(Ipv4Addr::LOCALHOST.into(), None).unwrap()
}

fn provider(rotations: Vec<Rotation>) -> Arc<Provider> {
    provider_with(rotations, loopback())
}

fn just_in_time(seconds: i64) -> Rotation {
    let plain = Rotation::new(Time::from_nanos(seconds * 1_000_000_000), Style::JustInTime);
    Rotation { retention: Span::from_secs(5), ..plain }
}

/// A request as a well-behaved client on this machine sends it.
fn request(method: Method, path: &str, media_type: &str, body: &str) -> Request {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "127.0.0.1:8400")
        .header(header::CONTENT_TYPE, media_type)
        .body(Body::from(body.to_owned()))
        .unwrap()
}

fn fetch(path: &str) -> Request {
    request(Method::GET, path, JSON, "")
}

fn with_header(mut request: Request, name: header::HeaderName, value: &'static str) -> Request {
    request.headers_mut().insert(name, header::HeaderValue::from_static(value));
    request
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

async fn send(provider: &Arc<Provider>, request: Request) -> Answer {
    let (parts, body) = router(Arc::clone(provider)).oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

async fn login(provider: &Arc<Provider>, form: &str) -> Answer {
    send(provider, request(Method::POST, "/token", FORM, form)).await
}

async fn kids(provider: &Arc<Provider>) -> usize {
    send(provider, fetch("/.well-known/jwks.json")).await.json()["keys"].as_array().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn the_key_set_is_cacheable_and_conditional() {
    let provider = provider(vec![just_in_time(10)]);
    let first = send(&provider, fetch("/.well-known/jwks.json")).await;
    assert_eq!((first.status, first.header("content-type")), (200, "application/jwk-set+json"));
    assert_eq!(first.header("cache-control"), "max-age=300");
    let conditional = |etag: &str| {
        let mut request = fetch("/.well-known/jwks.json");
        request.headers_mut().append(header::IF_NONE_MATCH, "\"other\"".parse().unwrap());
        request.headers_mut().append(header::IF_NONE_MATCH, etag.parse().unwrap());
        request
    };
    let known = send(&provider, conditional(first.header("etag"))).await;
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, first.header("etag")));
    advance(Duration::from_secs(10)).await;
    let rotated = send(&provider, conditional(first.header("etag"))).await;
    assert_eq!((rotated.status, rotated.json()["keys"].as_array().unwrap().len()), (200, 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_of_an_instance_is_logged_as_its_own() {
    let provider = provider(Vec::new());
    let own = send(&provider, fetch("/instances/3/.well-known/jwks.json")).await;
    let plain = send(&provider, fetch("/.well-known/jwks.json")).await;
    assert_eq!(own.body, plain.body);
    let instances: Vec<_> = provider.with(|idp, _| {
        idp.jwks_log().entries().iter().map(|entry| (entry.instance, entry.answered)).collect()
    });
    assert_eq!(instances, [(Some(3), Some(Time::ZERO)), (None, Some(Time::ZERO))]);
    for path in ["/instances/x/.well-known/jwks.json", "/instances/-1/.well-known/jwks.json"] {
        assert_eq!(send(&provider, fetch(path)).await.status, 400, "{path}");
    }
    let metadata = send(&provider, fetch("/instances/3/.well-known/openid-configuration")).await.json();
    assert_eq!(metadata["jwks_uri"], "http://127.0.0.1:8400/instances/3/.well-known/jwks.json");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_signed_by_the_key_of_the_moment() {
    let provider = provider(vec![just_in_time(10)]);
    let form = "grant_type=client_credentials&client_id=app&scope=openid+read&nonce=n-1";
    let mut signers = Vec::new();
    for _ in 0..2 {
        let answer = login(&provider, form).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
        let body = answer.json();
        assert_eq!((&body["token_type"], &body["expires_in"]), (&"Bearer".into(), &600.into()));
        let set = send(&provider, fetch("/.well-known/jwks.json")).await.body;
        let access = witness::verify(&set, body["access_token"].as_str().unwrap()).unwrap();
        assert_eq!((&access["sub"], &access["scope"]), (&"app".into(), &"openid read".into()));
        let id = witness::verify(&set, body["id_token"].as_str().unwrap()).unwrap();
        assert_eq!((&id["nonce"], &id["azp"]), (&"n-1".into(), &"app".into()));
        signers.push(decode_part(body["access_token"].as_str().unwrap(), 0)["kid"].clone());
        advance(Duration::from_secs(10)).await;
    }
    assert_ne!(signers[0], signers[1]);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_brings_a_new_token_for_the_same_login() {
    let provider = provider(Vec::new());
    let first = login(&provider, "grant_type=client_credentials&client_id=app&scope=read").await.json();
    assert!(first.get("id_token").is_none());
    advance(Duration::from_secs(100)).await;
    let refresh = first["refresh_token"].as_str().unwrap();
    let again = login(&provider, &format!("grant_type=refresh_token&refresh_token={refresh}")).await.json();
    let claims = decode_part(again["access_token"].as_str().unwrap(), 1);
    assert_eq!(
        (&claims["sub"], &claims["scope"], &claims["iat"]),
        (&"app".into(), &"read".into(), &(EPOCH.0 + 100).into())
    );
    assert_eq!(again["refresh_token"], first["refresh_token"]);
}

#[tokio::test(start_paused = true)]
async fn token_errors_are_those_of_the_rfc() {
    let provider = provider(Vec::new());
    let long = format!("grant_type=client_credentials&client_id={}", "a".repeat(20_000));
    let table = [
        ("", 400, "invalid_request"),
        ("grant_type=", 400, "invalid_request"),
        ("grant_type=client_credentials&grant_type=client_credentials", 400, "invalid_request"),
        ("grant_type=password&username=a", 400, "unsupported_grant_type"),
        ("grant_type=client_credentials", 401, "invalid_client"),
        ("grant_type=refresh_token", 400, "invalid_request"),
        ("grant_type=refresh_token&refresh_token=x.y", 400, "invalid_grant"),
        (long.as_str(), 413, "invalid_request"),
    ];
    for (form, status, code) in table {
        let answer = login(&provider, form).await;
        assert_eq!((answer.status, &answer.json()["error"]), (status, &code.into()), "{form:.60}");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let json = send(&provider, request(Method::POST, "/token", JSON, "{}")).await;
    assert_eq!((json.status, &json.json()["error"]), (415, &"invalid_request".into()));
}

#[tokio::test(start_paused = true)]
async fn clients_name_themselves_by_basic_authentication_too() {
    let provider = provider(Vec::new());
    let plain = request(Method::POST, "/token", FORM, "grant_type=client_credentials");
    // app:secret
    let answer = send(&provider, with_header(plain, header::AUTHORIZATION, "Basic YXBwOnNlY3JldA==")).await;
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(decode_part(&token, 1)["client_id"], "app");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_without_replacement_ends_all_signing() {
    let provider = provider(Vec::new());
    let rotate = request(Method::POST, "/admin/rotate", JSON, r#"{"style":"revoke","replace":false}"#);
    let answer = send(&provider, rotate).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "key": null })));
    advance(Duration::from_millis(1)).await;
    let refused = login(&provider, "grant_type=client_credentials&client_id=app").await;
    assert_eq!((refused.status, refused.json()["error_description"].clone()), (503, "no active key".into()));
    assert_eq!(kids(&provider).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_by_hand_shows_at_once() {
    let provider = provider(Vec::new());
    let rotate = |body: &str| request(Method::POST, "/admin/rotate", JSON, body);
    let answer = send(&provider, rotate(r#"{"style":"overlap","lead":"10s","retention":"5s"}"#)).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "key": "key-2" })));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push((kids(&provider).await, provider.with(|idp, now| idp.standing(now).active_key().unwrap())));
        advance(Duration::from_secs(5)).await;
    }
    let [first, second] = ["key-1", "key-2"].map(|label| label.parse().unwrap());
    assert_eq!(seen, [(2, first), (2, first), (2, second), (1, second)]);
    send(&provider, rotate(r#"{"style":"just-in-time"}"#)).await;
    let retention = provider.with(|idp, _| {
        let life = *idp.timeline().life(second).unwrap();
        life.removed.since(life.retired)
    });
    assert_eq!(retention, Span::from_secs(600 + 300));
}

#[tokio::test(start_paused = true)]
async fn what_means_nothing_is_refused_with_a_reason() {
    let provider = provider(Vec::new());
    let table = [
        ("/admin/rotate", r#"{"style":"overlap"}"#, 422, "style `overlap` needs a `lead` greater than zero"),
        ("/admin/rotate", r#"{"style":"sideways"}"#, 422, "unknown variant `sideways`"),
        ("/admin/rotate", r#"{"style":"rekey","led":"1s"}"#, 422, "unknown field `led`"),
        ("/admin/rotate", "{", 400, "EOF"),
        ("/admin/faults", "{}", 422, "the fault names no endpoint"),
        ("/admin/faults", r#"{"jwks":{}}"#, 422, "the fault changes nothing"),
        ("/admin/faults", r#"{"jwks":{"status":99}}"#, 422, "status `99`"),
        ("/admin/faults", r#"{"jwks":{"status":503},"for":"5"}"#, 422, "needs a unit"),
        ("/admin/faults", r#"{"jwks":{"status":503},"for":"0s"}"#, 422, "ends before it begins"),
        ("/admin/faults", r#"{"jwks":{"hang":true,"status":503}}"#, 422, "`hang` and `status` contradict"),
        ("/admin/faults", r#"{"jwks":{"status":503},"probability":"0%"}"#, 422, "leaves nobody"),
        (
            "/admin/faults",
            r#"{"jwks":{"reset":true},"token":{"drop":true},"replicas":[1]}"#,
            422,
            "`replicas`",
        ),
    ];
    for (path, body, status, reason) in table {
        let answer = send(&provider, request(Method::POST, path, JSON, body)).await;
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, status, "{body}");
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(provider.with(|idp, _| idp.timeline().events().len()), 0);
}

#[tokio::test(start_paused = true)]
async fn faults_break_one_endpoint_until_they_are_ended() {
    let provider = provider(Vec::new());
    let body = r#"{"jwks":{"status":503,"retry_after":"90s"}}"#;
    let begun = send(&provider, request(Method::POST, "/admin/faults", JSON, body)).await;
    assert_eq!((begun.status, begun.json()), (201, json!({ "ids": [0] })));
    let broken = send(&provider, fetch("/.well-known/jwks.json")).await;
    assert_eq!((broken.status, broken.header("retry-after"), broken.body.len()), (503, "90", 0));
    assert!(broken.headers.get("cache-control").is_none());
    assert_eq!(send(&provider, fetch("/.well-known/openid-configuration")).await.status, 200);
    assert_eq!(login(&provider, "grant_type=client_credentials&client_id=app").await.status, 200);
    advance(Duration::from_secs(1)).await;
    let end = || request(Method::DELETE, "/admin/faults/0", JSON, "");
    assert_eq!(send(&provider, end()).await.status, 204);
    assert_eq!(send(&provider, end()).await.status, 404);
    advance(Duration::from_millis(1)).await;
    assert_eq!(send(&provider, fetch("/.well-known/jwks.json")).await.status, 200);

    let token = r#"{"token":{"status":500},"for":"2s"}"#;
    send(&provider, request(Method::POST, "/admin/faults", JSON, token)).await;
    assert_eq!(login(&provider, "grant_type=client_credentials&client_id=app").await.status, 500);
    advance(Duration::from_secs(3)).await;
    assert_eq!(login(&provider, "grant_type=client_credentials&client_id=app").await.status, 200);
}

const GUARDED: [(Method, &str); 5] = [
    (Method::POST, "/token"),
    (Method::POST, "/admin/rotate"),
    (Method::POST, "/admin/faults"),
    (Method::DELETE, "/admin/faults/0"),
    (Method::GET, "/admin/state"),
];

#[tokio::test(start_paused = true)]
async fn a_web_page_can_do_nothing() {
    let provider = provider(Vec::new());
    let body = r#"{"style":"no-overlap"}"#;
    for (method, path) in GUARDED {
        for (name, value) in [(header::ORIGIN, "http://evil.example"), (header::HOST, "evil.example:8400")] {
            let request = with_header(request(method.clone(), path, JSON, body), name.clone(), value);
            assert_eq!(send(&provider, request).await.status, 403, "{method} {path} with {name}");
        }
    }
    // What a page may send without asking first: forms and plain text.
    for media_type in ["text/plain", FORM, "multipart/form-data"] {
        for path in ["/admin/rotate", "/admin/faults"] {
            let answer = send(&provider, request(Method::POST, path, media_type, body)).await;
            assert_eq!(answer.status, 415, "{path} as {media_type}");
        }
    }
    assert_eq!(provider.with(|idp, _| idp.timeline().events().len()), 0);
}

#[tokio::test(start_paused = true)]
async fn elsewhere_the_token_opens_what_is_guarded() {
    let guard = Guard::new(Ipv4Addr::UNSPECIFIED.into(), Some("s3cret")).unwrap();
    let provider = provider_with(Vec::new(), guard);
    for (method, path) in GUARDED {
        let plain = || request(method.clone(), path, JSON, "");
        let refused = send(&provider, plain()).await;
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer"), "{method} {path}");
        let opened = send(&provider, with_header(plain(), header::AUTHORIZATION, "Bearer s3cret")).await;
        assert_ne!(opened.status, 401, "{method} {path}");
    }
    let public = with_header(fetch("/.well-known/jwks.json"), header::HOST, "idp.test");
    assert_eq!(send(&provider, public).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_state_shows_keys_faults_and_events() {
    let provider = provider(vec![just_in_time(10)]);
    advance(Duration::from_secs(12)).await;
    let body = r#"{"token":{"status":500},"probability":"100%"}"#;
    send(&provider, request(Method::POST, "/admin/faults", JSON, body)).await;
    kids(&provider).await;
    let state = send(&provider, fetch("/admin/state")).await.json();
    assert_eq!(state["jwks_requests"], json!({ "200": 1 }));
    assert_eq!((&state["now_s"], &state["unix"]), (&json!(12.0), &json!(EPOCH.0 + 12)));
    assert_eq!(state["active"], "key-2");
    assert_eq!((&state["keys"][0]["retired"], &state["keys"][1]["active"]), (&json!(true), &json!(true)));
    assert_eq!(state["faults"], json!([{ "id": 0, "token": { "status": 500 }, "probability": "100%" }]));
    assert_eq!(
        state["events"][1],
        json!({ "at_s": 10.0, "applied_s": 12.0, "event": "activate", "key": "key-2" })
    );
    assert_eq!(state["upcoming"], json!([{ "at_s": 15.0, "event": "remove", "key": "key-1" }]));
}

#[tokio::test(start_paused = true)]
async fn metrics_count_requests_keys_and_events() {
    let provider = provider(vec![just_in_time(10)]);
    advance(Duration::from_secs(10)).await;
    kids(&provider).await;
    kids(&provider).await;
    login(&provider, "grant_type=client_credentials&client_id=app").await;
    login(&provider, "grant_type=password").await;
    let answer = send(&provider, fetch("/metrics")).await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
    let page = String::from_utf8(answer.body).unwrap();
    for line in [
        "# TYPE keyquake_idp_jwks_requests_total counter",
        "keyquake_idp_jwks_requests_total{status=\"200\"} 2",
        "keyquake_idp_token_requests_total{grant=\"client_credentials\",status=\"200\"} 1",
        "keyquake_idp_token_requests_total{grant=\"other\",status=\"400\"} 1",
        "keyquake_idp_keys{phase=\"published\"} 2",
        "keyquake_idp_keys{phase=\"retired\"} 1",
        "keyquake_idp_events_applied_total{event=\"publish\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_applied_at_their_moments_though_nobody_asks() {
    let provider = provider(vec![just_in_time(10)]);
    let timer = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { provider.keep_time().await }
    });
    tokio::time::sleep(Duration::from_secs(20)).await;
    let fresh = crate::SigningKey::generate(Algorithm::Es256).unwrap();
    provider.with(|idp, now| {
        let overlap = Rotation { lead: Span::from_secs(30), ..Rotation::new(Time::ZERO, Style::Overlap) };
        idp.rotate(now, overlap, Some(fresh)).unwrap();
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    timer.abort();
    let late: Vec<_> =
        provider.with(|idp, _| idp.event_log().iter().map(|done| done.applied.since(done.planned)).collect());
    assert_eq!(late.len(), 8);
    assert!(late.iter().all(|lateness| *lateness <= Span::from_millis(1)), "{late:?}");
}

#[tokio::test]
async fn real_connections_are_served_until_shutdown() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, None, provider(Vec::new()), shutdown));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut status = [0; 15];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
    // Neither the connection that is kept alive nor the one that never asked holds up the end.
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert!(stream.read_to_end(&mut Vec::new()).await.unwrap() > 0);
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
}
