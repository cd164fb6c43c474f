//! The running provider against the timeline that it follows.

use proptest::prelude::*;

use super::*;
use crate::fault::{Ending, FaultError};
use crate::grant::Login;
use crate::rotation::RotationError;
use crate::testing::{decode_part, ring, ring_of_one, witness};
use crate::timeline::{Event, KeyState};

const EPOCH: UnixTime = UnixTime(1_700_000_000);

fn at(seconds: i64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

fn key(number: u32) -> KeyId {
    format!("key-{number}").parse().unwrap()
}

fn settings() -> Settings {
    Settings {
        issuer: "http://127.0.0.1:8400".into(),
        audience: "keyquake".into(),
        algorithm: Algorithm::Es256,
        token_lifetime: Span::from_secs(600),
        cache_control: Some("public, max-age=300".into()),
        seed: 7,
    }
}

fn start(rotations: &[Rotation], faults: &[FaultWindow]) -> Idp {
    let timeline = Timeline::new(rotations.to_vec(), faults.to_vec()).unwrap();
    let keys = ring(&timeline);
    Idp::new(settings(), timeline, keys, at(-60)).unwrap()
}

fn just_in_time(seconds: i64, retention: u64) -> Rotation {
    let plain = Rotation::new(at(seconds), Style::JustInTime);
    Rotation { retention: Span::from_secs(retention), ..plain }
}

fn login() -> Grant {
    let login = Login { subject: "session-1".into(), client: "app".into(), scope: "openid".into() };
    Grant::ClientCredentials { login, nonce: Some("n".into()) }
}

fn fetch(idp: &mut Idp, now: Time) -> Reply {
    reply(idp.jwks(now, JwksRequest::default()).answer)
}

fn reply(answer: Answer) -> Reply {
    match answer.ending {
        Ending::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn published(idp: &mut Idp, now: Time) -> Vec<KeyId> {
    idp.standing(now).published_keys().collect()
}

#[test]
fn a_token_verifies_with_the_set_of_its_moment() {
    let mut idp = start(&[just_in_time(10, 5)], &[]);
    let before = idp.order(at(9), EPOCH, &login()).unwrap().sign();
    let after = idp.order(at(10), EPOCH, &login()).unwrap().sign();
    assert_eq!((before.access.key, after.access.key), (key(1), key(2)));
    let overlap = fetch(&mut idp, at(14)).body;
    let removed = fetch(&mut idp, at(15)).body;
    let knows = |set: &[u8], token: &str| witness::verify(set, token).is_some();
    assert!(knows(&overlap, &before.access.token) && knows(&overlap, &after.access.token));
    assert!(!knows(&removed, &before.access.token) && knows(&removed, &after.access.token));
    let id = witness::verify(&removed, &after.id.unwrap().token).unwrap();
    assert_eq!((&id["nonce"], &id["exp"]), (&"n".into(), &(EPOCH.0 + 600).into()));
}

#[test]
fn an_rs256_token_verifies_with_the_published_modulus() {
    let timeline = Timeline::new(Vec::new(), Vec::new()).unwrap();
    let signer = ring_of_one(Algorithm::Rs256);
    let keys = KeyRing::from_iter([signer]);
    let mut idp =
        Idp::new(Settings { algorithm: Algorithm::Rs256, ..settings() }, timeline, keys, at(0)).unwrap();
    let tokens = idp.order(at(0), EPOCH, &login()).unwrap().sign();
    let claims = witness::verify(&fetch(&mut idp, at(0)).body, &tokens.access.token).unwrap();
    assert_eq!(claims["client_id"], "app");
}

#[test]
fn a_rekeyed_set_has_the_old_name_and_refuses_the_old_tokens() {
    let mut idp = start(&[Rotation::new(at(10), Style::Rekey)], &[]);
    let old = idp.order(at(9), EPOCH, &login()).unwrap().sign().access;
    let new = idp.order(at(10), EPOCH, &login()).unwrap().sign().access;
    let set = fetch(&mut idp, at(10)).body;
    assert!(witness::verify(&set, &new.token).is_some() && witness::verify(&set, &old.token).is_none());
    let header = |token: &str| decode_part(token, 0);
    assert_eq!(header(&old.token), header(&new.token));
}

#[test]
fn no_private_member_is_ever_published() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let keys = KeyRing::from_iter([ring_of_one(algorithm)]);
        let timeline = Timeline::new(Vec::new(), Vec::new()).unwrap();
        let mut idp = Idp::new(settings(), timeline, keys, at(0)).unwrap();
        let set: serde_json::Value = serde_json::from_slice(&fetch(&mut idp, at(0)).body).unwrap();
        let members = set["keys"][0].as_object().unwrap();
        // RFC 7518 sections 6.2.2, 6.3.2 and 6.4.
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(!members.contains_key(private), "{private} with {algorithm}");
        }
    }
}

#[test]
fn without_an_active_key_there_are_no_tokens() {
    let revoke = Rotation { replace: false, ..Rotation::new(at(10), Style::Revoke) };
    let mut idp = start(&[revoke], &[]);
    assert!(idp.order(at(9), EPOCH, &login()).is_ok());
    assert_eq!(idp.order(at(10), EPOCH, &login()).err(), Some(TokenRefusal::NoActiveKey));
    assert_eq!(&fetch(&mut idp, at(10)).body[..], br#"{"keys":[]}"#);
}

#[test]
fn the_provider_names_its_tokens_from_stream_0() {
    let mut idp = start(&[], &[]);
    let token = idp.order(at(0), EPOCH, &login()).unwrap().sign().access.token;
    assert_eq!(decode_part(&token, 1)["jti"], TokenIds::new(settings().seed, 0).draw().to_string());
}

#[test]
fn a_set_that_is_known_is_not_sent_again() {
    let mut idp = start(&[just_in_time(10, 5)], &[]);
    let first = fetch(&mut idp, at(0));
    let etag = first.headers["etag"].to_str().unwrap().to_owned();
    let again = |idp: &mut Idp, now| {
        reply(idp.jwks(now, JwksRequest { instance: None, if_none_match: Some(&etag) }).answer)
    };
    let known = again(&mut idp, at(9));
    assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));
    for reply in [&first, &known] {
        assert_eq!(reply.headers["cache-control"], "public, max-age=300");
        assert_eq!(reply.headers["etag"], etag.as_str());
    }
    assert_eq!(first.headers["content-type"], "application/jwk-set+json");
    assert_eq!(again(&mut idp, at(10)).status, StatusCode::OK);
}

#[test]
fn requests_are_logged_with_the_set_that_they_got() {
    let fault = FaultWindow { fault: Fault::status(Endpoint::Jwks, 503), from: at(20), until: at(30) };
    let mut idp = start(&[just_in_time(10, 60)], &[fault]);
    for second in [5, 15, 25, 35] {
        let request = JwksRequest { instance: Some(3), if_none_match: None };
        let answer = idp.jwks(at(second), request);
        idp.jwks_answered(answer.ticket, at(second + 1));
    }
    let log: Vec<_> = idp
        .jwks_log()
        .entries()
        .iter()
        .map(|entry| (entry.at, entry.answered, entry.status, entry.keys.to_vec()))
        .collect();
    let both = vec![key(1), key(2)];
    assert_eq!(
        log,
        [
            (at(5), Some(at(6)), Some(200), vec![key(1)]),
            (at(15), Some(at(16)), Some(200), both.clone()),
            (at(25), Some(at(26)), Some(503), vec![]),
            (at(35), Some(at(36)), Some(200), both),
        ]
    );
    assert!(idp.jwks_log().entries().iter().all(|entry| entry.instance == Some(3)));
    assert_eq!(idp.jwks_log().by_status()[&Some(503)], 1);
}

#[test]
fn events_are_logged_as_planned_and_as_applied() {
    let mut idp = start(&[just_in_time(10, 5)], &[]);
    assert_eq!(idp.next_event(), Some(at(10)));
    idp.advance(at(12));
    assert_eq!(idp.next_event(), Some(at(15)));
    let log: Vec<_> = idp.event_log().iter().map(|done| (done.event, done.planned, done.applied)).collect();
    assert_eq!(
        log,
        [
            (Event::Publish(key(2)), at(10), at(12)),
            (Event::Activate(key(2)), at(10), at(12)),
            (Event::Retire(key(1)), at(10), at(12)),
        ]
    );
    idp.advance(at(20));
    assert_eq!(idp.next_event(), None);
}

#[test]
fn what_happened_before_the_start_is_not_logged() {
    let lead = Span::from_secs(3_600);
    let idp = start(&[Rotation { lead, ..Rotation::new(at(10), Style::Overlap) }], &[]);
    assert_eq!(idp.event_log(), []);
    assert_eq!(idp.next_event(), Some(at(10)));
    assert_eq!(idp.standing.published_keys().collect::<Vec<_>>(), [key(1), key(2)]);
}

#[test]
fn time_does_not_go_back() {
    let mut idp = start(&[just_in_time(10, 0)], &[]);
    idp.advance(at(20));
    assert_eq!(published(&mut idp, at(5)), [key(2)]);
    assert_eq!(fetch(&mut idp, at(5)).status, StatusCode::OK);
    assert_eq!(idp.jwks_log().entries()[0].at, at(20));
}

#[test]
fn a_rotation_by_hand_begins_at_once() {
    let fresh = || Some(SigningKey::generate(Algorithm::Es256).unwrap());
    let mut idp = start(&[], &[]);
    let overlap = Rotation {
        lead: Span::from_secs(30),
        retention: Span::from_secs(60),
        ..Rotation::new(Time::NEVER, Style::Overlap)
    };
    assert_eq!(idp.rotate(at(100), overlap, fresh()), Ok(Some(key(2))));
    assert_eq!(published(&mut idp, at(100)), [key(1), key(2)]);
    assert_eq!(idp.standing(at(129)).active_key(), Some(key(1)));
    assert_eq!(idp.standing(at(130)).active_key(), Some(key(2)));
    assert_eq!(published(&mut idp, at(190)), [key(2)]);

    // At the very instant of the last event: a nanosecond later, and the past stays.
    let revoke = Rotation { replace: false, ..Rotation::new(Time::ZERO, Style::Revoke) };
    assert_eq!(idp.rotate(at(190), revoke, None), Ok(None));
    assert_eq!(
        idp.timeline().key_state(key(2), at(190)),
        KeyState { published: true, active: true, ..KeyState::default() }
    );
    assert!(idp.timeline().key_state(key(2), Time::from_nanos(at(190).as_nanos() + 1)).revoked);
    assert_eq!(idp.standing(at(190)).active_key(), None);
}

#[test]
fn a_rotation_by_hand_fits_between_planned_ones() {
    let mut idp = start(&[just_in_time(100, 50)], &[]);
    let revoke = Rotation::new(Time::ZERO, Style::Revoke);
    let fresh = SigningKey::generate(Algorithm::Es256).unwrap();
    assert_eq!(idp.rotate(at(40), revoke, Some(fresh)), Ok(Some(key(3))));
    assert_eq!(idp.standing(at(99)).active_key(), Some(key(3)));
    assert_eq!(published(&mut idp, at(100)), [key(2), key(3)]);
    assert_eq!(published(&mut idp, at(150)), [key(2)]);
}

#[test]
fn a_refused_rotation_changes_nothing() {
    let mut idp = start(&[Rotation::new(at(100), Style::Rekey)], &[]);
    let before = idp.timeline().events().to_vec();
    let table = [
        (Rotation::new(at(0), Style::Late), RotationError::LeadMissing(Style::Late).into()),
        (just_in_time(0, 0), TimelineError::BeforeRekey),
    ];
    for (rotation, error) in table {
        assert_eq!(idp.rotate(at(40), rotation, None), Err(RotateError::Timeline(error)));
    }
    assert_eq!(idp.rotate(at(101), just_in_time(0, 0), None), Err(RotateError::KeyMissing));
    assert_eq!(idp.timeline().events(), before);
}

#[test]
fn a_provider_rotates_for_ever_and_forgets() {
    let mut idp = start(&[], &[]);
    let fresh = || Some(SigningKey::generate(Algorithm::Es256).unwrap());
    for number in 2..=1_001 {
        let now = at(10 * i64::from(number));
        // All styles that bring a key, and now and then a time without one.
        let styles = [Style::JustInTime, Style::NoOverlap, Style::Rekey, Style::Revoke];
        let rotation = match number % 7 {
            0 => Rotation { lead: Span::from_secs(3), ..Rotation::new(now, Style::Late) },
            style @ 1..=4 => Rotation::new(now, styles[style as usize - 1]),
            _ => Rotation {
                lead: Span::from_secs(2),
                retention: Span::from_secs(100),
                ..Rotation::new(now, Style::Overlap)
            },
        };
        let rotation = if rotation.style == Style::JustInTime { just_in_time(0, 25) } else { rotation };
        assert_eq!(idp.rotate(now, rotation, fresh()), Ok(Some(key(number))), "{rotation:?}");
        agrees(&mut idp, now).unwrap();
        agrees(&mut idp, now + Span::from_secs(5)).unwrap();
        let token = idp.order(idp.now, EPOCH, &login()).unwrap().sign().access;
        assert_eq!(token.key, key(number));
        // A witness takes its time.
        assert!(number % 100 > 0 || witness::verify(&fetch(&mut idp, now).body, &token.token).is_some());
    }
    let known: Vec<KeyId> = idp.timeline().keys().map(|(key, _)| key).collect();
    assert_eq!(known, (746..=1_001).map(key).collect::<Vec<_>>());
    assert_eq!(idp.standing.keys().keys().copied().collect::<Vec<_>>(), known);
    assert!(idp.keys().get(key(745)).is_none() && idp.keys().get(key(746)).is_some());
    assert!(idp.timeline().events().len() <= 5 * Timeline::MAX_KEYS && idp.event_log().len() <= 5 * 256);
}

#[test]
fn keys_that_are_published_are_not_forgotten() {
    let mut idp = start(&[], &[]);
    let fresh = || Some(SigningKey::generate(Algorithm::Es256).unwrap());
    for number in 2..=256 {
        assert_eq!(idp.rotate(at(number), just_in_time(0, 1_000), fresh()), Ok(Some(key(number as u32))));
    }
    let full = Err(RotateError::Timeline(TimelineError::TooManyKeys));
    assert_eq!(idp.rotate(at(1_001), just_in_time(0, 1_000), fresh()), full);
    assert_eq!(idp.rotate(at(1_002), just_in_time(0, 1_000), fresh()), Ok(Some(key(257))));
    assert_eq!(idp.timeline().life(key(1)), None);
    // An old set is as old as what is remembered.
    let parts = Parts { stale: Some(Span::from_secs(100_000)), ..Parts::default() };
    idp.start_fault(at(1_010), Fault { parts, ..Fault::status(Endpoint::Jwks, 503) }, Span::INFINITE)
        .unwrap();
    let set: serde_json::Value = serde_json::from_slice(&fetch(&mut idp, at(1_500)).body).unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 255);
}

#[test]
fn a_label_is_never_given_twice() {
    let planned: Vec<Rotation> = (1..=254).map(|number| just_in_time(10_000 + number, 1)).collect();
    let mut idp = start(&planned, &[]);
    let fresh = || Some(SigningKey::generate(Algorithm::Es256).unwrap());
    for number in 256..=600 {
        let now = at(i64::from(number));
        assert_eq!(idp.rotate(now, Rotation::new(now, Style::NoOverlap), fresh()), Ok(Some(key(number))));
        agrees(&mut idp, now).unwrap();
    }
}

#[test]
fn a_key_rekeyed_by_hand_takes_over_the_name() {
    let mut idp = start(&[], &[]);
    let fresh = SigningKey::generate(Algorithm::Es256).unwrap();
    idp.rotate(at(5), Rotation::new(at(0), Style::Rekey), Some(fresh)).unwrap();
    let [old, new] = [key(1), key(2)].map(|id| idp.keys().get(id).unwrap().key.kid().clone());
    assert_eq!(old, new);
}

#[test]
fn faults_come_and_go_by_hand() {
    let mut idp = start(&[], &[]);
    let status = |idp: &mut Idp, now| fetch(idp, now).status.as_u16();
    let fault = Fault::status(Endpoint::Jwks, 503);
    let id = idp.start_fault(at(10), fault.clone(), Span::INFINITE).unwrap();
    assert_eq!((status(&mut idp, at(10)), idp.faults_in_force().len()), (503, 1));
    assert!(idp.end_fault(at(20), id) && !idp.end_fault(at(21), id));
    assert_eq!(status(&mut idp, at(20)), 200);
    idp.start_fault(at(30), fault.clone(), Span::from_secs(5)).unwrap();
    assert_eq!((status(&mut idp, at(34)), status(&mut idp, at(36))), (503, 200));
    assert_eq!(idp.start_fault(at(40), fault, Span::ZERO), Err(FaultError::Empty.into()));
}

#[test]
fn metadata_leads_to_the_key_set() {
    let mut idp = start(&[], &[]);
    let document = |idp: &mut Idp, instance| -> serde_json::Value {
        serde_json::from_slice(&reply(idp.discovery(at(0), instance)).body).unwrap()
    };
    let plain = document(&mut idp, None);
    assert_eq!(plain["issuer"], "http://127.0.0.1:8400");
    assert_eq!(plain["jwks_uri"], "http://127.0.0.1:8400/.well-known/jwks.json");
    assert_eq!(plain["token_endpoint"], "http://127.0.0.1:8400/token");
    assert_eq!(plain["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let own = document(&mut idp, Some(3));
    assert_eq!(own["jwks_uri"], "http://127.0.0.1:8400/instances/3/.well-known/jwks.json");
    assert_eq!(own["issuer"], plain["issuer"]);
}

#[test]
fn impossible_providers_are_refused() {
    let idp = |settings, keys| {
        let timeline = Timeline::new(Vec::new(), Vec::new()).unwrap();
        Idp::new(settings, timeline, keys, at(0)).err()
    };
    let keys = || KeyRing::from_iter([ring_of_one(Algorithm::Es256)]);
    let brief = Settings { token_lifetime: Span::from_millis(999), ..settings() };
    assert!(matches!(idp(brief, keys()), Some(IdpError::TokenLifetime(_))));
    let smuggled = Settings { cache_control: Some("no-store\r\nX: y".into()), ..settings() };
    assert!(matches!(idp(smuggled, keys()), Some(IdpError::CacheControl(_))));
    assert!(matches!(idp(settings(), KeyRing::default()), Some(IdpError::KeyMissing(KeyId::FIRST))));
}

/// A rotation with small numbers, so that moments coincide.
fn any_rotation() -> impl Strategy<Value = Rotation> {
    let style = prop_oneof![
        Just(Style::Overlap),
        Just(Style::JustInTime),
        Just(Style::NoOverlap),
        Just(Style::Late),
        Just(Style::Revoke),
        Just(Style::Rekey),
    ];
    (style, -3_i64..30, 1_u64..8, 0_u64..8, any::<bool>()).prop_map(
        |(style, second, lead, retention, replace)| {
            let leads = matches!(style, Style::Overlap | Style::Late);
            let retains = leads || style == Style::JustInTime;
            Rotation {
                at: at(second),
                style,
                lead: Span::from_secs(if leads { lead } else { 0 }),
                retention: Span::from_secs(if retains { retention } else { 0 }),
                replace: replace || style != Style::Revoke,
            }
        },
    )
}

fn any_fault() -> impl Strategy<Value = FaultWindow> {
    (0_i64..30, 1_i64..10).prop_map(|(from, length)| FaultWindow {
        fault: Fault::status(Endpoint::Jwks, 503),
        from: at(from),
        until: at(from + length),
    })
}

/// All distinct moments of a timeline, and the nanosecond before and after each.
fn moments(timeline: &Timeline) -> Vec<Time> {
    let around = |timed: &crate::timeline::TimedEvent| {
        let nanos = timed.at.as_nanos();
        [nanos - 1, nanos, nanos + 1].map(Time::from_nanos)
    };
    let mut moments: Vec<_> =
        timeline.events().iter().flat_map(around).filter(|now| *now >= at(-60)).collect();
    moments.sort_unstable();
    moments.dedup();
    moments
}

fn agrees(idp: &mut Idp, now: Time) -> Result<(), TestCaseError> {
    let standing = idp.standing(now).clone();
    for (id, _) in idp.timeline().keys() {
        let shown = standing.keys().get(&id).copied().unwrap_or_default();
        prop_assert_eq!(shown, idp.timeline().key_state(id, now), "{} at {:?}", id, now);
    }
    let active = standing.keys().values().filter(|state| state.active).count();
    prop_assert!(active <= 1);
    prop_assert_eq!(standing.active_key(), idp.timeline().active_key(now));
    let faults: Vec<_> = idp.timeline().faults_at(now).map(|(id, _)| id).collect();
    prop_assert_eq!(standing.faults().iter().copied().collect::<Vec<_>>(), faults);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_provider_shows_what_the_timeline_says(
        rotations in prop::collection::vec(any_rotation(), 0..7),
        faults in prop::collection::vec(any_fault(), 0..4),
    ) {
        let Ok(timeline) = Timeline::new(rotations, faults) else { return Ok(()) };
        prop_assert!(timeline.events().is_sorted());
        let keys = ring(&timeline);
        let mut idp = Idp::new(settings(), timeline, keys, at(-60)).unwrap();
        for now in moments(idp.timeline()) {
            agrees(&mut idp, now)?;
        }
        prop_assert!(idp.event_log().iter().map(|done| (done.planned, done.event)).is_sorted());
    }

    #[test]
    fn what_is_added_by_hand_leaves_the_past_alone(
        planned in prop::collection::vec(any_rotation(), 0..4),
        added in prop::collection::vec((0_i64..30, any_rotation()), 1..4),
    ) {
        let Ok(timeline) = Timeline::new(planned, Vec::new()) else { return Ok(()) };
        let keys = ring(&timeline);
        let mut idp = Idp::new(settings(), timeline, keys, at(-60)).unwrap();
        let mut added = added;
        added.sort_by_key(|(second, _)| *second);
        for (second, rotation) in added {
            idp.advance(at(second));
            let past: Vec<_> = idp.timeline().events()[..idp.applied].to_vec();
            let fresh = SigningKey::generate(Algorithm::Es256).unwrap();
            let _ = idp.rotate(at(second), rotation, Some(fresh));
            prop_assert_eq!(&idp.timeline().events()[..past.len()], &past[..]);
            let now = idp.now;
            agrees(&mut idp, now)?;
        }
        for now in moments(idp.timeline()).into_iter().filter(|now| *now >= at(30)) {
            agrees(&mut idp, now)?;
        }
    }
}
