//! Replicas that answer both ways: what one of their workers accepts, another denies.

use std::collections::BTreeMap;

use keyquake_core::{Span, Time};

/// An answer to the cohort: when it was asked for, by which worker of the replica it was given, and whether it denied.
pub(super) type Answer = (Time, u32, bool);

/// How long the last answers of a replica's workers disagreed, from the first of these answers until `until`. A worker
/// that has not answered yet has no say.
pub(super) fn flapping(mut answers: Vec<Answer>, until: Time) -> Span {
    answers.sort();
    let mut last: BTreeMap<u32, bool> = BTreeMap::new();
    let mut since = None;
    let mut total = Span::ZERO;
    for (at, worker, denied) in answers {
        last.insert(worker, denied);
        let disagree = last.values().any(|denied| *denied) && last.values().any(|denied| !denied);
        match since {
            None if disagree => since = Some(at),
            Some(from) if !disagree => {
                total = total.saturating_add(at.since(from));
                since = None;
            }
            _ => {}
        }
    }
    total.saturating_add(since.map_or(Span::ZERO, |from| until.since(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasted(answers: &[(i64, u32, bool)]) -> f64 {
        let at = |secs: i64| Time::from_nanos(secs * 1_000_000_000);
        let answers = answers.iter().map(|(secs, worker, denied)| (at(*secs), *worker, *denied));
        flapping(answers.collect(), at(60)).as_secs_f64()
    }

    #[test]
    fn a_replica_flaps_while_the_last_answers_of_its_workers_disagree() {
        let (denied, accepted) = (true, false);
        assert_eq!(lasted(&[]), 0.0);
        assert_eq!(lasted(&[(1, 0, denied), (5, 0, accepted)]), 0.0, "one worker agrees with itself");
        let both = [(1, 0, denied), (2, 1, denied), (10, 0, accepted), (30, 1, accepted), (40, 0, accepted)];
        assert_eq!(lasted(&both), 20.0);
        let third_comes_late = [(1, 0, denied), (10, 0, accepted), (12, 2, denied), (15, 2, accepted)];
        assert_eq!(lasted(&third_comes_late), 3.0, "who has not answered has no say");
        assert_eq!(lasted(&[(20, 1, denied), (10, 0, accepted)]), 40.0, "to the end, whatever their order");
    }
}
