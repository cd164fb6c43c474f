use std::sync::mpsc;
use std::time::Duration;

use keyquake_core::{Freshness, LimiterAnchor, LimiterKind, LimiterScope, Span, UnixTime};
use tokio::runtime::Handle;
use tokio::time::advance;

use super::*;
use crate::sut::testing::{Stage, delivery, jwks, settle, signer, token};
use keyquake_core::Algorithm::Es256;

/// In real time: what is under test could not go on if it waited.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn published_keys_are_found_without_the_lock() {
    let stage = Stage::new(Policy::default());
    let key = signer(Es256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();

    let (status, statuses) = mpsc::channel();
    let keys = stage.replica.keys.load_full();
    let lock = keys.lock();
    let reply = stage.api(&token(&key));
    tokio::spawn(async move { status.send(reply.await.unwrap().status) });
    let status = statuses.recv_timeout(Duration::from_secs(10));
    drop(lock);
    assert_eq!(status, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn keys_that_may_serve_longer_are_published_again() {
    // Ten minutes fresh, then stale for an hour, and for a day nothing may be fetched.
    let mut stage = Stage::new(Policy {
        limiter: LimiterKind::Cooldown,
        limiter_anchor: LimiterAnchor::Success,
        limiter_scope: LimiterScope::All,
        limiter_interval: Span::from_secs(86_400),
        ..Policy::default()
    });
    let key = signer(Es256);
    stage.replica.preload(&jwks(&[&key]), Freshness::UNSAID, Time::ZERO).unwrap();
    let is_published = |stage: &Stage| {
        let published = stage.replica.keys.load().published();
        published.keys(Some(key.key.kid().as_str()), Es256, stage.clock.now()).is_some()
    };
    assert!(is_published(&stage));
    advance(Duration::from_secs(600)).await;
    assert!(!is_published(&stage));
    assert_eq!(stage.api(&token(&key)).await.unwrap().status, 200);
    assert!(is_published(&stage));
    assert!(!stage.has_fetched());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_replica_ends_its_tasks() {
    let mut stage = Stage::new(Policy::default());
    let request = stage.api(&token(&signer(Es256)));
    let hung = stage.next_fetch().await;
    assert!(!hung.is_closed());

    request.abort();
    drop(stage);
    settle().await;
    assert!(hung.is_closed());
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_answered_leaves_nothing_behind() {
    let mut stage = Stage::new(Policy::default());
    let key = signer(Es256);
    let request = stage.api(&token(&key));
    stage.next_fetch().await.send(delivery(&[&key])).unwrap();
    assert_eq!(request.await.unwrap().status, 200);
    settle().await;
    assert!(stage.replica.keys.load_full().lock().fetches.is_empty());
    assert_eq!(*stage.replica.keys.load().deadline.borrow(), None);
    // The one that waits for the clock.
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
}

/// Speeds that no timer hits exactly: the clock may show less than the moment when the timer has rung.
#[tokio::test(start_paused = true)]
async fn a_moment_has_come_when_the_clock_shows_it() {
    for speed in [0.7, 1.0, 3.0, 7.3, 60.0, 1e6] {
        for nanos in [1, 999_999, 3_000_001, 7_700_000, 60_000_001, 7_000_000_000] {
            let clock = Clock::start(Span::ZERO, speed, UnixTime(0)).unwrap();
            let moment = Time::from_nanos(nanos);
            wait_for(Some(moment), clock).await;
            let late = clock.now().since(moment);
            assert!(clock.now() >= moment, "speed {speed}, {nanos} ns");
            assert!(clock.wall(late) <= 2 * TICK, "speed {speed}, {nanos} ns: {late} late");
        }
    }
}
