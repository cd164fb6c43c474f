//! How long requests wait for fetches.

use std::ops::{Add, Mul};

use keyquake_core::{Span, Time};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::counts::binomial;

/// In how many groups those are counted that wait for a part of a fetch.
const GROUPS: usize = 4;
/// How many lengths of fetches are told apart.
const MAX_LENGTHS: usize = 8;

/// Requests that wait for a fetch: how many, or for how many seconds such come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Waiting {
    /// Those that cause it, and wait for all of it.
    pub(super) causing: f64,
    /// Those that join it, at any moment of it.
    pub(super) joining: f64,
}

/// How many requests wait, as expected, by how long the fetch takes that they wait for.
#[derive(Clone, Debug, Default)]
pub(super) struct Delays {
    /// Most fetches are of one length.
    first: (Span, Waiting),
    others: Vec<(Span, Waiting)>,
}

/// Those who wait in a leap, of a flow that may come to more or less meanwhile than it was when that began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leapt {
    pub(super) took: Span,
    /// For how many seconds they come.
    pub(super) seconds: Waiting,
    pub(super) from: Time,
    pub(super) until: Time,
    /// What an instance had got of the flow at first.
    pub(super) mass: f64,
}

impl Waiting {
    pub(super) fn all(self) -> f64 {
        self.causing + self.joining
    }
}

impl Add for Waiting {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { causing: self.causing + more.causing, joining: self.joining + more.joining }
    }
}

impl Mul<f64> for Waiting {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self { causing: self.causing * factor, joining: self.joining * factor }
    }
}

impl Leapt {
    /// How many wait, if an instance has got so much by now.
    pub(super) fn waiting(&self, now: Time, mass: f64) -> Waiting {
        let seconds = self.until.max(now).since(self.from).as_secs_f64();
        if seconds > 0.0 { self.seconds * ((mass - self.mass) / seconds) } else { Waiting::default() }
    }
}

impl Delays {
    pub(super) fn are_none(&self) -> bool {
        self.all().next().is_none()
    }

    fn all(&self) -> impl Iterator<Item = &(Span, Waiting)> {
        std::iter::once(&self.first).chain(&self.others).filter(|(_, waiting)| waiting.all() > 0.0)
    }

    /// So many more wait for a fetch of this length. Beyond the lengths that are told apart, the last stands for all.
    pub(super) fn add(&mut self, took: Span, more: Waiting) {
        if self.first.1.all() <= 0.0 {
            self.first.0 = took;
        }
        let is_full = self.others.len() + 1 == MAX_LENGTHS;
        let mut all = std::iter::once(&mut self.first).chain(&mut self.others);
        match all.find(|(known, _)| *known == took) {
            Some((_, waiting)) => *waiting = *waiting + more,
            None => match self.others.last_mut().filter(|_| is_full) {
                Some((_, waiting)) => *waiting = *waiting + more,
                None => self.others.push((took, more)),
            },
        }
    }

    /// So many more wait, each of which stands for so many.
    pub(super) fn add_all(&mut self, more: &Self, each: f64) {
        more.all().for_each(|(took, waiting)| self.add(*took, *waiting * each));
    }

    /// How long requests wait, in groups: the first do not; and for a fetch of each length some from any moment of it, and the last
    /// for all of it.
    pub(super) fn groups(&self) -> Vec<Span> {
        let part = |group: usize| ((group as f64 + 0.5) / GROUPS as f64).min(1.0);
        let of_length = |(took, _): &(Span, _)| {
            let took = *took;
            (0..=GROUPS).map(move |group| took.scale(part(group)))
        };
        std::iter::once(Span::ZERO).chain(self.all().flat_map(of_length)).collect()
    }

    /// Draws how many of so many requests are in each of these groups, where so many are expected in all.
    pub(super) fn draw(&self, count: u64, expected: f64, rng: &mut ChaCha8Rng, drawn: &mut Vec<u64>) {
        drawn.clear();
        drawn.push(0);
        let (mut left, mut expected_left) = (count, expected);
        for (_, waiting) in self.all() {
            let share = waiting.all() / expected_left.max(waiting.all());
            let waited = if left > 0 { binomial(left, share, rng) } else { 0 };
            (left, expected_left) = (left - waited, expected_left - waiting.all());
            // Rounded at random, or the first groups would be the smallest.
            let luck: f64 = if waited > 0 { rng.random() } else { 0.0 };
            let joining = waiting.joining / waiting.all();
            let up_to = |group: usize| {
                let part = if group > GROUPS { 1.0 } else { joining * group as f64 / GROUPS as f64 };
                (waited as f64 * part + luck) as u64
            };
            drawn.extend((0..=GROUPS).map(|group| up_to(group + 1) - up_to(group)));
        }
        drawn[0] = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    #[test]
    fn each_waits_as_long_as_its_group() {
        let mut delays = Delays::default();
        delays.add(Span::from_millis(80), Waiting { causing: 5.0, joining: 15.0 });
        delays.add(Span::from_millis(800), Waiting { causing: 10.0, joining: 0.0 });
        delays.add(Span::from_millis(80), Waiting { causing: 5.0, joining: 5.0 });
        let groups: Vec<u64> = delays.groups().iter().map(|wait| wait.as_nanos() / 1_000_000).collect();
        assert_eq!(groups, [0, 10, 30, 50, 70, 80, 100, 300, 500, 700, 800]);
        let mut rng = seed::generator(7, "delays", 0);
        let (mut drawn, mut sums) = (Vec::new(), [0; 11]);
        for _ in 0..10_000 {
            delays.draw(10, 100.0, &mut rng, &mut drawn);
            assert_eq!(drawn.iter().sum::<u64>(), 10);
            sums.iter_mut().zip(&drawn).for_each(|(sum, drawn)| *sum += drawn);
        }
        // Of a hundred thousand, a per cent more or less of all.
        let expected = [60_000, 5_000, 5_000, 5_000, 5_000, 10_000, 0, 0, 0, 0, 10_000];
        let is_near = |(sum, expected): (&u64, &u64)| sum.abs_diff(*expected) < 500;
        assert!(sums.iter().zip(&expected).all(is_near), "{sums:?}");
    }

    /// A flow that has grown meanwhile, one that has not come to its end, and one that has come to nothing.
    #[test]
    fn of_those_who_came_in_a_leap_a_part_has_waited() {
        let at = |secs: i64| Time::from_nanos(secs * 1_000_000_000);
        let seconds = Waiting { causing: 4.0, joining: 1.0 };
        let leapt = Leapt { took: Span::from_millis(20), seconds, from: at(10), until: at(20), mass: 100.0 };
        let came = [(20, 200.0), (15, 150.0), (20, 100.0), (40, 400.0)];
        let waited = came.map(|(now, mass)| leapt.waiting(at(now), mass).causing);
        assert_eq!(waited, [40.0, 20.0, 0.0, 40.0]);
        let at_once = Leapt { until: at(10), ..leapt };
        assert_eq!(at_once.waiting(at(10), 100.0), Waiting::default());
    }

    #[test]
    fn too_many_lengths_are_not_told_apart() {
        let mut delays = Delays::default();
        (1..20)
            .for_each(|length| delays.add(Span::from_secs(length), Waiting { causing: 1.0, joining: 0.0 }));
        assert_eq!(delays.groups().len(), 1 + MAX_LENGTHS * (GROUPS + 1));
        let all: f64 = delays.all().map(|(_, waiting)| waiting.all()).sum();
        assert_eq!(all, 19.0);
    }
}
