//! Tables: what each style makes of its keys, and which plans are refused.

use keyquake_core::Span;

use super::*;
use crate::fault::Endpoint;

fn at(seconds: i64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

fn key(number: u32) -> KeyId {
    KeyId(number)
}

fn plan(rotations: &[Rotation]) -> Timeline {
    Timeline::new(rotations.to_vec(), Vec::new()).unwrap()
}

/// An event: its second, its name, its key.
type Line = (i64, &'static str, u32);

fn script(timeline: &Timeline) -> Vec<Line> {
    timeline
        .events()
        .iter()
        .map(|timed| {
            let subject =
                timed.event.key().map(|key| key.0).or(timed.event.fault().map(|id| id.index() as u32));
            (timed.at.as_nanos() / 1_000_000_000, timed.event.name(), subject.unwrap())
        })
        .collect()
}

fn rotation(seconds: i64, style: Style, lead: u64, retention: u64) -> Rotation {
    let plain = Rotation::new(at(seconds), style);
    Rotation { lead: Span::from_secs(lead), retention: Span::from_secs(retention), ..plain }
}

#[test]
fn each_style_has_its_events() {
    let table: [(Rotation, &[Line]); 6] = [
        (
            rotation(10, Style::Overlap, 30, 60),
            &[(-20, "publish", 2), (10, "activate", 2), (10, "retire", 1), (70, "remove", 1)],
        ),
        (
            rotation(10, Style::JustInTime, 0, 60),
            &[(10, "publish", 2), (10, "activate", 2), (10, "retire", 1), (70, "remove", 1)],
        ),
        (
            rotation(10, Style::NoOverlap, 0, 0),
            &[(10, "publish", 2), (10, "activate", 2), (10, "retire", 1), (10, "remove", 1)],
        ),
        (
            rotation(10, Style::Late, 5, 60),
            &[(10, "activate", 2), (10, "retire", 1), (15, "publish", 2), (70, "remove", 1)],
        ),
        (
            rotation(10, Style::Revoke, 0, 0),
            &[
                (10, "publish", 2),
                (10, "activate", 2),
                (10, "retire", 1),
                (10, "remove", 1),
                (10, "revoke", 1),
            ],
        ),
        (
            rotation(10, Style::Rekey, 0, 0),
            &[(10, "publish", 2), (10, "activate", 2), (10, "retire", 1), (10, "remove", 1)],
        ),
    ];
    for (rotation, expected) in table {
        assert_eq!(script(&plan(&[rotation])), expected, "{}", rotation.style);
    }
}

#[test]
fn only_a_rekeyed_key_takes_over_a_name() {
    let names = |style, lead| plan(&[rotation(10, style, lead, 0)]).life(key(2)).unwrap().same_kid_as;
    assert_eq!(names(Style::Rekey, 0), Some(key(1)));
    assert_eq!((names(Style::NoOverlap, 0), names(Style::Late, 5)), (None, None));
}

#[test]
fn a_revocation_without_replacement_leaves_no_key() {
    let revoke = Rotation { replace: false, ..rotation(10, Style::Revoke, 0, 0) };
    let timeline = plan(&[revoke, rotation(20, Style::JustInTime, 0, 5)]);
    assert_eq!((timeline.active_key(at(9)), timeline.active_key(at(10))), (Some(key(1)), None));
    assert_eq!(timeline.active_key(at(20)), Some(key(2)));
    assert_eq!(
        script(&timeline),
        [(10, "retire", 1), (10, "remove", 1), (10, "revoke", 1), (20, "publish", 2), (20, "activate", 2)]
    );
}

#[test]
fn states_are_exact_at_the_instant() {
    let timeline = plan(&[rotation(10, Style::Overlap, 4, 8), rotation(30, Style::Revoke, 0, 0)]);
    let none = KeyState::default();
    let (published, signing) =
        (KeyState { published: true, ..none }, KeyState { published: true, active: true, ..none });
    let retired = KeyState { published: true, retired: true, ..none };
    let removed = KeyState { removed: true, ..none };
    let revoked = KeyState { revoked: true, ..removed };
    let table = [
        (5, signing, none),
        (6, signing, published),
        (9, signing, published),
        (10, retired, signing),
        (17, retired, signing),
        (18, removed, signing),
        (29, removed, signing),
        (30, removed, revoked),
    ];
    for (second, first, second_key) in table {
        assert_eq!(timeline.key_state(key(1), at(second)), first, "key-1 at {second}");
        assert_eq!(timeline.key_state(key(2), at(second)), second_key, "key-2 at {second}");
    }
    let instant = at(10);
    let just_before = Time::from_nanos(instant.as_nanos() - 1);
    assert_eq!(timeline.active_key(just_before), Some(key(1)));
    assert_eq!(timeline.key_state(key(99), instant), none);
}

#[test]
fn a_late_key_signs_unpublished() {
    let timeline = plan(&[rotation(10, Style::Late, 5, 60)]);
    let state = timeline.key_state(key(2), at(12));
    assert!(state.active && !state.published);
}

#[test]
fn a_key_that_is_gone_before_its_late_publication_never_shows() {
    let timeline = plan(&[rotation(10, Style::Late, 30, 60), rotation(20, Style::Revoke, 0, 0)]);
    assert_eq!(timeline.life(key(2)).unwrap().published, Time::NEVER);
    let state = timeline.key_state(key(2), at(50));
    assert!(state.removed && state.revoked && !state.published);
    let tie = plan(&[rotation(10, Style::Late, 30, 60), rotation(40, Style::Revoke, 0, 0)]);
    assert_eq!(tie.life(key(2)).unwrap().published, Time::NEVER);
}

#[test]
fn events_of_one_instant_keep_their_order() {
    let window = |from, until| FaultWindow {
        fault: Fault::status(Endpoint::Jwks, 503),
        from: at(from),
        until: at(until),
    };
    let timeline = Timeline::new(
        vec![rotation(0, Style::JustInTime, 0, 10), rotation(10, Style::Revoke, 0, 0)],
        vec![window(10, 20), window(5, 10)],
    )
    .unwrap();
    let instant: Vec<_> = script(&timeline).into_iter().filter(|(second, ..)| *second == 10).collect();
    assert_eq!(
        instant,
        [
            (10, "fault-off", 1),
            (10, "fault-on", 0),
            (10, "publish", 3),
            (10, "activate", 3),
            (10, "retire", 2),
            (10, "remove", 1),
            (10, "remove", 2),
            (10, "revoke", 2),
        ]
    );
    let faults: Vec<_> = timeline.faults_at(at(10)).map(|(id, _)| id.index()).collect();
    assert_eq!(faults, [0]);
}

#[test]
fn what_never_comes_is_no_event() {
    let endless =
        Rotation { lead: Span::INFINITE, retention: Span::INFINITE, ..Rotation::new(at(10), Style::Overlap) };
    let timeline = plan(&[endless]);
    assert_eq!(script(&timeline), [(10, "activate", 2), (10, "retire", 1)]);
    assert!(timeline.key_state(key(2), at(-1_000_000)).published);
}

#[test]
fn contradicting_plans_are_refused() {
    let revoke = Rotation { replace: false, ..rotation(5, Style::Revoke, 0, 0) };
    let rekey = rotation(10, Style::Rekey, 0, 0);
    let twins = vec![rotation(5, Style::NoOverlap, 0, 0); 2];
    let many = (0..256).map(|second| rotation(second, Style::NoOverlap, 0, 0)).collect();
    let table = [
        (vec![rotation(5, Style::Overlap, 0, 0)], RotationError::LeadMissing(Style::Overlap).into()),
        (twins, TimelineError::SameInstant { at: at(5) }),
        (vec![revoke, rekey], TimelineError::NothingToRekey),
        (many, TimelineError::TooManyKeys),
    ];
    for (rotations, error) in table {
        assert_eq!(Timeline::new(rotations, Vec::new()).err(), Some(error));
    }
    let early = plan(&[rekey]).with_rotation(rotation(7, Style::JustInTime, 0, 0));
    assert_eq!(early.err(), Some(TimelineError::BeforeRekey));
    let window = FaultWindow { fault: Fault::status(Endpoint::Jwks, 503), from: at(0), until: at(1) };
    let faults = vec![window; Timeline::MAX_FAULTS + 1];
    assert_eq!(Timeline::new(Vec::new(), faults).err(), Some(TimelineError::TooManyFaults));
}

#[test]
fn labels_are_read_back_and_unique() {
    assert_eq!("key-7".parse(), Ok(key(7)));
    assert_eq!(key(7).to_string(), "key-7");
    for text in ["key-0", "key-01", "key-+1", "key-", "7", "key-4294967296", "KEY-1"] {
        assert_eq!(text.parse::<KeyId>(), Err(KeyIdError), "{text}");
    }
}
