use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::Method;
use axum::routing::get;
use keyquake_core::{
    Algorithm, Freshness, LimiterKind, OnLimited, OnMiss, Policy, Response, Span, Time, UnixTime,
};
use keyquake_idp::{Clock, Forgery};
use tokio::net::TcpListener;
use tokio::time::advance;

use super::testing::{
    Reply, Stage, delivery, forged, id_token, jwks, namesake, settings, settle, signer, token,
};
use super::{Capacity, Replica, Settings};

const ES256: Algorithm = Algorithm::Es256;

fn outcome(reply: &Reply) -> (u16, &str) {
    (reply.status, &reply.body)
}

#[tokio::test(start_paused = true)]
async fn a_burst_on_a_cold_cache_causes_one_fetch() {
    let mut stage = Stage::new(Policy::default());
    let key = signer(ES256);
    let burst: Vec<_> = (0..100).map(|_| stage.api(&token(&key))).collect();
    stage.next_fetch().await.send(delivery(&[&key])).unwrap();
    for reply in burst {
        assert_eq!(outcome(&reply.await.unwrap()), (200, "accepted"));
    }
    assert_eq!(stage.api(&token(&key)).await.unwrap().status, 200);
    assert!(!stage.has_fetched());
}

#[tokio::test(start_paused = true)]
async fn a_hung_fetch_is_given_up_at_the_moment_of_the_policy() {
    let mut stage = Stage::new(Policy {
        fetch_timeout: Span::from_millis(1_234),
        http_fetch_error: 500,
        ..Policy::default()
    });
    let reply = stage.api(&token(&signer(ES256)));
    let hung = stage.next_fetch().await;
    assert_eq!(outcome(&reply.await.unwrap()), (500, "jwks_unavailable"));
    assert_eq!(stage.clock.now(), Time::ZERO + Span::from_millis(1_234));
    settle().await;
    assert!(hung.is_closed());
}

#[tokio::test(start_paused = true)]
async fn each_fetch_is_given_up_at_its_own_moment() {
    let mut stage = Stage::new(Policy::default());
    let request = token(&signer(ES256));
    let first = stage.api(&request);
    let fetch = stage.next_fetch().await;
    advance(Duration::from_secs(3)).await;
    fetch.send(Response::unanswered()).unwrap();
    assert_eq!(first.await.unwrap().status, 503);

    advance(Duration::from_millis(1_500)).await;
    let started = stage.clock.now();
    let second = stage.api(&request);
    let _hung = stage.next_fetch().await;
    assert_eq!(second.await.unwrap().status, 503);
    assert_eq!(stage.clock.now(), started + Span::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn after_a_rotation_without_overlap_only_the_new_key_counts() {
    let mut stage = Stage::new(Policy::default());
    let [old, new] = [signer(ES256), signer(ES256)];
    stage.replica.preload(&jwks(&[&old]), Freshness::UNSAID, Time::ZERO).unwrap();
    assert_eq!(stage.api(&token(&old)).await.unwrap().status, 200);

    let reply = stage.api(&token(&new));
    stage.next_fetch().await.send(delivery(&[&new])).unwrap();
    assert_eq!(reply.await.unwrap().status, 200);

    let reply = stage.api(&token(&old));
    stage.next_fetch().await.send(delivery(&[&new])).unwrap();
    assert_eq!(outcome(&reply.await.unwrap()), (401, "kid_unknown"));
    assert_eq!(stage.api(&token(&new)).await.unwrap().status, 200);
    assert!(!stage.has_fetched());
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_does_not_refetch_refuses_at_once() {
    let policy = Policy { on_unknown_kid: OnMiss::Reject, http_unknown_kid: 403, ..Policy::default() };
    let mut stage = Stage::new(policy);
    stage.replica.preload(&jwks(&[&signer(ES256)]), Freshness::UNSAID, Time::ZERO).unwrap();
    let reply = stage.api(&token(&signer(ES256))).await.unwrap();
    assert_eq!((outcome(&reply), reply.challenge.as_deref()), ((403, "kid_unknown"), None));
    assert!(!stage.has_fetched());
}

#[tokio::test(start_paused = true)]
async fn the_limiter_refuses_further_unknown_keys() {
    let policy =
        Policy { limiter: LimiterKind::Window, limiter_burst: 1, http_limited: 429, ..Policy::default() };
    let mut stage = Stage::new(policy);
    let known = signer(ES256);
    stage.replica.preload(&jwks(&[&known]), Freshness::UNSAID, Time::ZERO).unwrap();
    let reply = stage.api(&forged(&known, Forgery::UnknownKid));
    stage.next_fetch().await.send(delivery(&[&known])).unwrap();
    assert_eq!(outcome(&reply.await.unwrap()), (401, "kid_unknown"));

    let reply = stage.api(&forged(&known, Forgery::UnknownKid)).await.unwrap();
    assert_eq!(outcome(&reply), (429, "refetch_limited"));
    assert!(!stage.has_fetched());
}

#[tokio::test(start_paused = true)]
async fn who_is_held_back_may_wait_for_the_limiter() {
    let mut stage = Stage::new(Policy {
        limiter: LimiterKind::Window,
        limiter_burst: 1,
        limiter_interval: Span::from_secs(60),
        on_limited: OnLimited::Wait,
        limited_max_wait: Span::from_secs(20),
        ..Policy::default()
    });
    let [known, new] = [signer(ES256), signer(ES256)];
    stage.replica.preload(&jwks(&[&known]), Freshness::UNSAID, Time::ZERO).unwrap();
    let stray = stage.api(&forged(&known, Forgery::UnknownKid));
    stage.next_fetch().await.send(delivery(&[&known])).unwrap();
    assert_eq!(outcome(&stray.await.unwrap()), (401, "kid_unknown"));

    let opens = stage.clock.now() + Span::from_secs(60);
    advance(Duration::from_secs(30)).await;
    assert_eq!(outcome(&stage.api(&token(&new)).await.unwrap()), (401, "refetch_limited"));
    advance(Duration::from_secs(15)).await;
    let waiting = [stage.api(&token(&new)), stage.api(&token(&new))];
    settle().await;
    assert_eq!(stage.api(&token(&known)).await.unwrap().status, 200);
    let fetch = stage.next_fetch().await;
    assert!(stage.clock.now().since(opens) < Span::from_millis(5), "{:?}", stage.clock.now());
    fetch.send(delivery(&[&known, &new])).unwrap();
    for reply in waiting {
        assert_eq!(reply.await.unwrap().status, 200);
    }
    assert!(!stage.has_fetched());
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_the_policy_lets() {
    let mut stage = Stage::new(Policy { max_waiters: 2, ..Policy::default() });
    let key = signer(ES256);
    let waiting = [stage.api(&token(&key)), stage.api(&token(&key))];
    let fetch = stage.next_fetch().await;
    assert_eq!(outcome(&stage.api(&token(&key)).await.unwrap()), (503, "overloaded"));
    fetch.send(delivery(&[&key])).unwrap();
    for reply in waiting {
        assert_eq!(reply.await.unwrap().status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn good_tokens_wait_behind_those_that_wait_for_keys_when_places_are_few() {
    let capacity = Some(Capacity { concurrency: 1, queue: 1 });
    let mut stage = Stage::with_capacity(Policy::default(), capacity);
    let key = signer(ES256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    assert_eq!(stage.api(&token(&key)).await.unwrap().status, 200);

    let stray = stage.api(&forged(&key, Forgery::UnknownKid));
    let fetch = stage.next_fetch().await;
    // Whoever loses patience frees no place: a thread works on.
    stray.abort();
    let good = stage.api(&token(&key));
    settle().await;
    assert_eq!(outcome(&stage.api(&token(&key)).await.unwrap()), (503, "overloaded"));
    assert!(!good.is_finished());
    fetch.send(delivery(&[&key])).unwrap();
    assert_eq!(good.await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_bad_signature_is_tried_again_once() {
    let old = signer(ES256);
    let [new, newer] = [namesake(&old), namesake(&old)];
    for (case, token, delivered, expected) in [
        ("another key of that name", token(&new), &new, (200, "accepted")),
        ("the same key", forged(&old, Forgery::BadSignature), &old, (401, "bad_signature")),
        ("another wrong key", token(&new), &newer, (401, "bad_signature")),
    ] {
        for cold in [false, true] {
            let mut stage = Stage::new(Policy { on_bad_signature: OnMiss::Refetch, ..Policy::default() });
            if !cold {
                stage.replica.preload(&jwks(&[&old]), Freshness::UNSAID, Time::ZERO).unwrap();
            }
            let reply = stage.api(&token);
            if cold {
                stage.next_fetch().await.send(delivery(&[&old])).unwrap();
            }
            stage.next_fetch().await.send(delivery(&[delivered])).unwrap();
            assert_eq!(outcome(&reply.await.unwrap()), expected, "{case}, cold: {cold}");
            assert!(!stage.has_fetched(), "{case}, cold: {cold}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_needs_the_nonce_of_its_login() {
    let stage = Stage::new(Policy::default());
    let key = signer(ES256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    let with_nonce = format!("Bearer {}", id_token(&key, Some("n-0S6_WzA2Mj")));
    let without = format!("Bearer {}", id_token(&key, None));
    let right = ("x-nonce", "n-0S6_WzA2Mj");
    for (expected, headers) in [
        ((200, "accepted"), [("authorization", with_nonce.as_str()), right].as_slice()),
        ((401, "nonce"), &[("authorization", &with_nonce), ("x-nonce", "n-0S6")]),
        ((401, "nonce"), &[("authorization", &with_nonce)]),
        ((401, "nonce"), &[("authorization", &with_nonce), right, right]),
        ((401, "nonce"), &[("authorization", &without), right]),
        ((401, "nonce"), &[("authorization", &without)]),
    ] {
        let reply = stage.get("/session", headers).await.unwrap();
        assert_eq!(outcome(&reply), expected, "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_endpoint_takes_one_kind_of_token() {
    let stage = Stage::new(Policy::default());
    let key = signer(ES256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    let reply = stage.api(&id_token(&key, Some("nonce"))).await.unwrap();
    assert_eq!(outcome(&reply), (401, "malformed"));
    let credentials = format!("Bearer {}", token(&key));
    let headers = [("authorization", credentials.as_str()), ("x-nonce", "nonce")];
    let reply = stage.get("/session", &headers).await.unwrap();
    assert_eq!(outcome(&reply), (401, "malformed"));
}

#[tokio::test(start_paused = true)]
async fn refusals_name_their_cause() {
    let mut stage = Stage::new(Policy::default());
    let key = signer(ES256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    for (name, token) in [
        ("malformed", "a.b".to_owned()),
        ("algorithm_denied", token(&signer(Algorithm::Rs256))),
        ("bad_signature", forged(&key, Forgery::BadSignature)),
        ("issuer", forged(&key, Forgery::WrongIssuer)),
        ("audience", forged(&key, Forgery::WrongAudience)),
        ("expired", forged(&key, Forgery::Expired)),
        ("not_yet_valid", forged(&key, Forgery::NotYetValid)),
    ] {
        let reply = stage.api(&token).await.unwrap();
        assert_eq!(outcome(&reply), (401, name));
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{name}\"");
        assert_eq!(reply.challenge, Some(challenge));
    }
    assert!(!stage.has_fetched());
}

#[tokio::test(start_paused = true)]
async fn requests_without_credentials_are_told_how() {
    let stage = Stage::new(Policy::default());
    for headers in [[].as_slice(), &[("authorization", "Basic a2V5OnF1YWtl")], &[("authorization", "Bearer")]]
    {
        let reply = stage.get("/api", headers).await.unwrap();
        assert_eq!(outcome(&reply), (401, ""));
        assert_eq!(reply.challenge.as_deref(), Some("Bearer"));
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_names_its_replica() {
    let stage = Stage::new(Policy::default());
    let key = signer(ES256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    let credentials = format!("Bearer {}", token(&key));
    let accepted = stage.get("/api", &[("authorization", &credentials)]).await.unwrap();
    assert_eq!((accepted.status, accepted.replica.as_deref()), (200, Some("7")));
    for (path, status) in [("/api", 401), ("/session", 401), ("/healthz", 204), ("/elsewhere", 404)] {
        let reply = stage.get(path, &[]).await.unwrap();
        assert_eq!((reply.status, reply.replica.as_deref()), (status, Some("7")), "{path}");
    }
    let reply = stage.send(Method::POST, "/api", &[]).await.unwrap();
    assert_eq!((reply.status, reply.replica.as_deref()), (405, Some("7")));
}

#[tokio::test(start_paused = true)]
async fn tokens_expire_by_the_clock_and_the_leeway_of_the_policy() {
    let stage = Stage::new(Policy { ttl: Span::INFINITE, leeway: Span::from_secs(10), ..Policy::default() });
    let key = signer(ES256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    advance(Duration::from_millis(3_609_999)).await;
    assert_eq!(stage.api(&token(&key)).await.unwrap().status, 200);
    advance(Duration::from_millis(1)).await;
    assert_eq!(outcome(&stage.api(&token(&key)).await.unwrap()), (401, "expired"));
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_too_old_are_fetched_again() {
    let mut stage = Stage::new(Policy::default());
    let key = signer(ES256);
    let body = jwks(&[&key]);
    stage.replica.preload(&body, Freshness::UNSAID, Time::ZERO - Span::from_secs(600)).unwrap();
    let reply = stage.api(&token(&key));
    stage.next_fetch().await.send(delivery(&[&key])).unwrap();
    assert_eq!(reply.await.unwrap().status, 200);
    assert!(stage.replica.preload(b"<html>", Freshness::UNSAID, Time::ZERO).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_restart_leaves_a_cold_cache_and_nobody_behind() {
    let mut stage = Stage::new(Policy::default());
    let key = signer(ES256);
    let before = stage.api(&token(&key));
    let fetch = stage.next_fetch().await;
    stage.replica.restart().unwrap();
    let after = stage.api(&token(&key));
    stage.next_fetch().await.send(delivery(&[&key])).unwrap();
    assert_eq!(after.await.unwrap().status, 200);
    fetch.send(delivery(&[&key])).unwrap();
    assert_eq!(before.await.unwrap().status, 200, "who came before the restart is answered by the old cache");
}

/// A policy that remembers tokens for a minute and keys until they are replaced.
fn remembering() -> Policy {
    Policy { token_cache_ttl: Span::from_secs(60), ttl: Span::INFINITE, ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_passed_outlives_its_key_and_a_fresh_one_does_not() {
    let stage = Stage::new(Policy { on_unknown_kid: OnMiss::Reject, ..remembering() });
    let [stolen, next] = [signer(ES256), signer(ES256)];
    let deliver =
        |keys: &[&_]| stage.replica.preload(&jwks(keys), Freshness::UNSAID, stage.clock.now()).unwrap();
    deliver(&[&stolen]);
    let [repeated, fresh] = [token(&stolen), token(&stolen)];
    assert_eq!(stage.api(&repeated).await.unwrap().status, 200);
    deliver(&[&next]);
    assert_eq!(outcome(&stage.api(&repeated).await.unwrap()), (200, "accepted"));
    assert_eq!(outcome(&stage.api(&fresh).await.unwrap()), (401, "kid_unknown"));
    advance(Duration::from_secs(59)).await;
    assert_eq!(stage.api(&repeated).await.unwrap().status, 200);
    advance(Duration::from_secs(1)).await;
    assert_eq!(outcome(&stage.api(&repeated).await.unwrap()), (401, "kid_unknown"), "a hit prolongs nothing");
}

#[tokio::test(start_paused = true)]
async fn no_other_token_passes_for_one_that_has() {
    let stage = Stage::new(remembering());
    let key = signer(ES256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    let passed = token(&key);
    assert_eq!(stage.api(&passed).await.unwrap().status, 200);
    // The last character of a signature of 64 bytes holds two bits of it.
    let (rest, last) = passed.split_at(passed.len() - 1);
    let other = if last == "A" { "Q" } else { "A" };
    assert_eq!(outcome(&stage.api(&format!("{rest}{other}")).await.unwrap()), (401, "bad_signature"));
    for spoiled in [rest.to_owned(), format!("{passed}="), format!("{passed}.")] {
        assert_eq!(outcome(&stage.api(&spoiled).await.unwrap()), (401, "malformed"));
    }
    for forgery in [Forgery::BadSignature, Forgery::WrongAudience, Forgery::Expired] {
        let forged = forged(&key, forgery);
        for _ in 0..2 {
            assert_eq!(
                stage.api(&forged).await.unwrap().status,
                401,
                "{forgery:?}: a refusal is not remembered"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_token_was_checked_against_counts_for_that_alone() {
    let stage = Stage::new(remembering());
    let key = signer(ES256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    let credentials = format!("Bearer {}", id_token(&key, Some("n-0S6_WzA2Mj")));
    let with = |nonce: &'static str| [("authorization", credentials.clone()), ("x-nonce", nonce.to_owned())];
    for (path, nonce, expected) in [
        ("/session", "n-0S6_WzA2Mj", (200, "accepted")),
        ("/session", "n-0S6_WzA2Mj", (200, "accepted")),
        ("/session", "n-0S6", (401, "nonce")),
        ("/session", "n-0S6_WzA2Mk", (401, "nonce")),
        ("/api", "n-0S6_WzA2Mj", (401, "malformed")),
    ] {
        let headers = with(nonce);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(outcome(&stage.get(path, &headers).await.unwrap()), expected, "{path} {nonce}");
    }
    let headers = [("authorization", credentials.as_str())];
    assert_eq!(outcome(&stage.get("/session", &headers).await.unwrap()), (401, "nonce"));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_remembered_until_it_expires_and_then_checked_each_time() {
    let stage = Stage::new(Policy {
        token_cache_ttl: Span::INFINITE,
        on_unknown_kid: OnMiss::Reject,
        leeway: Span::from_secs(300),
        ..remembering()
    });
    let [key, next] = [signer(ES256), signer(ES256)];
    let deliver =
        |keys: &[&_]| stage.replica.preload(&jwks(keys), Freshness::UNSAID, stage.clock.now()).unwrap();
    deliver(&[&key]);
    let token = token(&key);
    assert_eq!(stage.api(&token).await.unwrap().status, 200);
    advance(Duration::from_secs(3_599)).await;
    deliver(&[&next]);
    assert_eq!(stage.api(&token).await.unwrap().status, 200);
    advance(Duration::from_secs(1)).await;
    assert_eq!(outcome(&stage.api(&token).await.unwrap()), (401, "kid_unknown"), "its hour is over");
    deliver(&[&key]);
    assert_eq!(stage.api(&token).await.unwrap().status, 200, "within the leeway");
    deliver(&[&next]);
    assert_eq!(outcome(&stage.api(&token).await.unwrap()), (401, "kid_unknown"));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_waited_for_its_key_is_remembered_and_a_restart_forgets_it() {
    let mut stage = Stage::new(remembering());
    let key = signer(ES256);
    let token = token(&key);
    let reply = stage.api(&token);
    stage.next_fetch().await.send(delivery(&[&key])).unwrap();
    assert_eq!(reply.await.unwrap().status, 200);
    stage.replica.preload(&jwks(&[&signer(ES256)]), Freshness::UNSAID, Time::ZERO).unwrap();
    assert_eq!(stage.api(&token).await.unwrap().status, 200);
    assert!(!stage.has_fetched());
    stage.replica.restart().unwrap();
    let reply = stage.api(&token);
    settle().await;
    assert!(!reply.is_finished());
    stage.next_fetch().await.send(Response::unanswered()).unwrap();
    assert_eq!(outcome(&reply.await.unwrap()), (503, "jwks_unavailable"));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_refresh_ahead_of_time() {
    let mut stage = Stage::new(Policy { refresh_ahead: Span::from_secs(60), ..Policy::default() });
    let [key, next] = [signer(ES256), signer(ES256)];
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    advance(Duration::from_secs(540)).await;
    for _ in 0..2 {
        assert_eq!(stage.api(&token(&key)).await.unwrap().status, 200);
    }
    stage.next_fetch().await.send(delivery(&[&key, &next])).unwrap();
    settle().await;
    assert_eq!(stage.api(&token(&next)).await.unwrap().status, 200);
    assert!(!stage.has_fetched());
}

/// Over real sockets and in real time, so it counts and does not time.
#[tokio::test]
async fn a_replica_fetches_over_http_once() {
    for algorithm in [Algorithm::Rs256, ES256] {
        let key = signer(algorithm);
        let fetches = Arc::new(AtomicU32::new(0));
        let (body, count) = (jwks(&[&key]), Arc::clone(&fetches));
        let issuer = Router::new().route(
            "/jwks.json",
            get(move || {
                count.fetch_add(1, Ordering::Relaxed);
                async { body }
            }),
        );
        let clock = Clock::start(Span::ZERO, 1.0, UnixTime(1_700_000_000)).unwrap();
        let settings = settings(&format!("{}/jwks.json", serve(issuer).await), algorithm, clock);
        let replica = Replica::new(settings).unwrap();
        let service = serve(replica.router()).await;

        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        for _ in 0..3 {
            let request = client.get(format!("{service}/api")).bearer_auth(token(&key));
            let reply = request.send().await.unwrap();
            assert_eq!((reply.status().as_u16(), reply.text().await.unwrap().as_str()), (200, "accepted"));
        }
        assert_eq!(fetches.load(Ordering::Relaxed), 1, "{algorithm}");
    }
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_policy_that_contradicts_itself_makes_no_replica() {
    let clock = Clock::start(Span::ZERO, 1.0, UnixTime(0)).unwrap();
    let policy = Policy { ttl: Span::ZERO, ..Policy::default() };
    let settings = Settings { policy, ..settings("http://unused.test", ES256, clock) };
    assert!(Replica::new(settings).is_err());
}
