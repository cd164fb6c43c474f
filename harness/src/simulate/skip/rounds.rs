//! Fetches that repeat each other, and when they come.

use std::ops::Add;
use std::rc::Rc;

use keyquake_core::{Span, Time};

use super::delays::Waiting;
use super::groups::GroupId;
use super::states::{Holds, StateId};
use crate::observe::Outcome;
use crate::simulate::counter::AT_RANDOM;
use crate::simulate::world::Served;

/// How many fetches before a horizon are drawn one by one at least.
const DRAWN: f64 = 64.0;
/// Where so many seconds lie between them all are, unless they come at random: their number in a second varies otherwise than in a
/// long time.
const SLOW: f64 = 1.0;

/// Fetches of which the last leads back to where it came from, as all do that follow it as long as nothing else happens.
#[derive(Debug)]
pub(super) struct Round {
    /// What the requests of each flow meet.
    pub(super) met: Vec<Met>,
    /// How one fetch after the other comes; all others as the last of these.
    pub(super) legs: Vec<Leg>,
    pub(super) served: Served,
    pub(super) took: Span,
    /// The mean and the variance of the time from the end of a fetch of the last leg to the end of the next, in seconds.
    pub(super) cycle: (f64, f64),
}

/// How a fetch comes, and where it leads.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) from: StateId,
    /// Known when a fetch was found that begins on it.
    pub(super) to: Option<(StateId, Holds)>,
    /// How many phases of the state it may go through: later ones it never gets to.
    pub(super) phases: usize,
    /// When requests act.
    pub(super) acting: Vec<Acting>,
    /// For how many seconds requests of each flow come of which one fetch makes all wait.
    pub(super) waited: Vec<Waiting>,
}

/// What all requests of a flow meet in a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) flow: usize,
    pub(super) outcome: Outcome,
    /// Whether they do not wait for a fetch that is under way.
    pub(super) meanwhile: bool,
}

/// So many requests per second act from one moment after a fetch to another, in seconds; a timer is a rate without end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acting {
    /// Which phase of the state this is; the timer comes after the last.
    pub(super) phase: usize,
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) per_second: f64,
}

/// The rounds that were looked for since the provider changed or other flows send: of each state, and of instances that get
/// the same flows. How many sessions hold which key need not be asked: where it would make a difference there is no round.
#[derive(Debug, Default)]
pub(super) struct Rounds(Vec<(Place, Option<Rc<Round>>)>);

/// Where a round begins.
pub(super) type Place = (StateId, GroupId);

impl Round {
    /// How a fetch comes that follows so many.
    pub(super) fn leg(&self, fetches: u64) -> &Leg {
        let last = self.legs.len() - 1;
        &self.legs[usize::try_from(fetches).map_or(last, |fetches| fetches.min(last))]
    }

    /// For how many seconds requests come that so many fetches make wait, of the flow in this place.
    pub(super) fn waited(&self, place: usize, fetches: u64) -> Waiting {
        let before = self.legs.len() as u64 - 1;
        let on_the_way = (0..before.min(fetches)).map(|leg| self.leg(leg).waited[place]);
        on_the_way.fold(Waiting::default(), Add::add)
            + self.leg(before).waited[place] * fetches.saturating_sub(before) as f64
    }

    /// Where so many fetches lead from a state, and until when that holds.
    pub(super) fn leads(
        &self,
        (mut state, mut holds_until): (StateId, Time),
        fetches: u64,
    ) -> (StateId, Time) {
        let taken = usize::try_from(fetches).unwrap_or(usize::MAX);
        for (to, holds) in self.legs.iter().take(taken).filter_map(|leg| leg.to) {
            state = to;
            holds_until = if holds == Holds::Forever { Time::NEVER } else { holds_until };
        }
        (state, holds_until)
    }
}

impl Leg {
    /// With which probability the fetch begins with each of those who act, in order, as far as it ever gets to them.
    pub(super) fn begins(&self) -> impl Iterator<Item = (&Acting, f64)> {
        let mut left = 1.0;
        self.acting.iter().filter(|acting| acting.phase < self.phases).map(move |acting| {
            let begins = left * -libm::expm1(-acting.amount());
            left -= begins;
            (acting, begins)
        })
    }
}

impl Acting {
    /// How many that comes to.
    pub(super) fn amount(&self) -> f64 {
        self.per_second * (self.until - self.from)
    }
}

impl Rounds {
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// What was found, if it was looked for.
    pub(super) fn known(&self, place: Place) -> Option<Option<Rc<Round>>> {
        self.0.iter().find(|(known, _)| *known == place).map(|(_, round)| round.clone())
    }

    pub(super) fn note(&mut self, place: Place, found: Option<Rc<Round>>) {
        self.0.push((place, found));
    }
}

/// How many fetches of a cycle can be counted together of those that are expected within so many seconds, if enough are left to be
/// drawn one by one.
pub(super) fn many_that_fit(seconds: f64, (mean, variance): (f64, f64)) -> Option<f64> {
    if mean >= SLOW && variance < AT_RANDOM * mean * mean {
        return None;
    }
    let fit = seconds / mean;
    (fit > 2.0 * DRAWN).then(|| (fit - DRAWN).floor())
}

/// How long after the end of a fetch it is as if the next ones came evenly from then on, as far as their sum goes after a while, in
/// seconds: at random from the end itself, regularly from half a cycle before the first. (What the number of renewals comes to in the
/// long run, with a first cycle that lacks the fetch.)
pub(super) fn settled((mean, variance): (f64, f64), took: f64) -> f64 {
    mean - took - (mean * mean + variance) / (2.0 * mean)
}

/// How long after a fetch the next request comes that acts, if none has until that age and the rates come to so much from then on:
/// infinity if none does.
pub(super) fn next_arrival(acting: &[Acting], age: f64, mut amount: f64) -> f64 {
    for it in acting.iter().filter(|it| it.until > age) {
        let from = it.from.max(age);
        let all = it.per_second * (it.until - from);
        if amount <= all {
            return from + amount / it.per_second;
        }
        amount -= all;
    }
    f64::INFINITY
}

/// The mean and the variance of the time from the end of a fetch to the end of the next, in seconds.
pub(super) fn cycle(acting: &[Acting], took: f64) -> (f64, f64) {
    // Sums of the time, and of twice the time since the fetch, over which nothing has come yet.
    let (mut mean, mut square, mut left, mut passed) = (0.0, 0.0, 1.0, 0.0);
    for Acting { from, until, per_second, .. } in acting {
        mean += left * (from - passed);
        square += left * (from * from - passed * passed);
        let (length, amount) = (until - from, per_second * (until - from));
        let gone = -libm::expm1(-amount);
        // What the wait comes to within the phase; a series where the closed form would lose all its digits.
        let within = match amount {
            few if few < 1e-4 => length * length * (0.5 - few / 3.0),
            many if many > 700.0 => 1.0 / (per_second * per_second),
            _ => (gone - amount * (1.0 - gone)) / (per_second * per_second),
        };
        mean += left * gone / per_second;
        square += 2.0 * left * (from * gone / per_second + within);
        left *= 1.0 - gone;
        passed = *until;
    }
    if passed < f64::INFINITY {
        // Some never end.
        return (f64::INFINITY, f64::INFINITY);
    }
    (mean + took, (square - mean * mean).max(0.0))
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, Exp1};

    use super::*;
    use crate::seed;
    use crate::simulate::world::Ends;

    #[test]
    fn cycles_last_as_long_as_those_that_are_drawn() {
        let acting = |(from, until, per_second)| Acting { phase: 0, from, until, per_second };
        let forever = f64::INFINITY;
        let cases = [
            vec![(0.0, forever, 20.0)],
            vec![(2.0, forever, 0.5)],
            vec![(0.0, 1.0, 0.3), (4.0, forever, 2.0)],
            vec![(0.0, 30.0, 1e-9), (30.0, forever, 1e3)],
            vec![(0.0, 30.0, 0.01), (30.0, forever, forever)],
        ];
        for rates in cases {
            let acting: Vec<Acting> = rates.iter().copied().map(acting).collect();
            let mut rng = seed::generator(7, "cycles", 0);
            let drawn = (0..20_000).map(|_| next_arrival(&acting, 0.0, Exp1.sample(&mut rng)));
            let (sum, squares) = drawn.fold((0.0, 0.0), |(sum, squares), it| (sum + it, squares + it * it));
            let (mean, variance) = (sum / 20_000.0, squares / 20_000.0 - (sum / 20_000.0_f64).powi(2));
            let (expected, varies) = cycle(&acting, 0.25);
            assert!((mean + 0.25 - expected).abs() < 0.03 * expected, "{rates:?}: {mean} and {expected}");
            assert!((variance - varies).abs() < 0.05 * varies + 1e-3, "{rates:?}: {variance} and {varies}");
        }
        let ends = [acting((0.0, 1.0, 1.0))];
        assert_eq!((next_arrival(&ends, 0.0, 2.0), cycle(&ends, 0.25).0), (forever, forever));
    }

    #[test]
    fn those_who_come_later_wait_for_what_is_left() {
        let acting = |(from, until, per_second)| Acting { phase: 0, from, until, per_second };
        let rates = [(1.0, 3.0, 2.0), (5.0, f64::INFINITY, 4.0)].map(acting);
        let arrivals = [(0.0, 1.0), (2.0, 1.0), (2.0, 2.5), (4.0, 2.0), (9.0, 2.0)];
        let came = arrivals.map(|(age, amount)| next_arrival(&rates, age, amount));
        assert_eq!(came, [1.5, 2.5, 5.125, 5.5, 9.5]);
    }

    #[test]
    fn a_fetch_begins_in_a_phase_if_it_has_not_before() {
        let acting = |(phase, from, until, per_second)| Acting { phase, from, until, per_second };
        let forever = f64::INFINITY;
        let rates =
            [(1, 5.0, 7.0, 0.5), (2, 7.0, 9.0, 1.0), (3, 9.0, forever, 4.0), (4, 20.0, forever, forever)];
        let mut leg =
            Leg { from: 0, to: None, phases: 5, acting: rates.map(acting).to_vec(), waited: Vec::new() };
        let begins = |leg: &Leg| leg.begins().map(|(_, begins)| begins).collect::<Vec<f64>>();
        let expected = [0.632_120_6, 0.318_092_4, 0.049_787_1, 0.0];
        let is_near = |(one, other): (&f64, &f64)| (one - other).abs() < 1e-7;
        let found = begins(&leg);
        assert!(found.len() == 4 && found.iter().zip(&expected).all(is_near), "{found:?}");
        leg.phases = 3;
        assert_eq!(begins(&leg).len(), 2, "others are never reached");
    }

    #[test]
    fn slow_fetches_are_counted_together_only_if_they_come_at_random() {
        let regular = |mean: f64| (mean, 0.1 * mean * mean);
        let at_random = |mean: f64| (mean, mean * mean);
        assert_eq!(many_that_fit(1_000.0, regular(0.5)), Some(1_936.0));
        assert_eq!(many_that_fit(20_000.0, regular(10.0)), None);
        assert_eq!(many_that_fit(20_000.0, at_random(10.0)), Some(1_936.0));
        assert_eq!(many_that_fit(1_000.0, at_random(10.0)), None, "they are too few");
        assert_eq!(many_that_fit(1_000.0, (f64::INFINITY, f64::INFINITY)), None);
    }

    #[test]
    fn a_round_leads_into_its_circle_leg_by_leg() {
        let leg = |from, to, holds, waited| Leg {
            from,
            to: Some((to, holds)),
            phases: 1,
            acting: Vec::new(),
            waited: vec![Waiting { causing: waited, joining: 2.0 * waited }],
        };
        let legs = vec![
            leg(4, 7, Holds::AsBefore, 1.0),
            leg(7, 9, Holds::Forever, 10.0),
            leg(9, 9, Holds::AsBefore, 100.0),
        ];
        let served = Served::unanswered(Ends::After(Span::ZERO));
        let round = Round { met: Vec::new(), legs, served, took: Span::ZERO, cycle: (1.0, 1.0) };
        let until = Time::ZERO + Span::from_secs(60);
        assert_eq!([0, 1, 2, 3, 900].map(|fetches| round.leg(fetches).from), [4, 7, 9, 9, 9]);
        assert_eq!(
            [0, 1, 2, 900].map(|fetches| round.leads((4, until), fetches)),
            [(4, until), (7, until), (9, Time::NEVER), (9, Time::NEVER)]
        );
        let waited = [0.0, 1.0, 11.0, 311.0].map(|causing| Waiting { causing, joining: 2.0 * causing });
        assert_eq!([0, 1, 2, 5].map(|fetches| round.waited(0, fetches)), waited);
    }
}
