//! How long requests wait for fetches.

use std::ops::{Add, Mul};

use keyquake_core::Span;
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
pub(super) struct Delays(Vec<(Span, Waiting)>);

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

impl Delays {
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// So many more wait for a fetch of this length. Beyond the lengths that are told apart, the last stands for all.
    pub(super) fn add(&mut self, took: Span, more: Waiting) {
        let has_room = self.0.len() < MAX_LENGTHS;
        match self.0.iter().position(|(known, _)| *known == took) {
            None if has_room => self.0.push((took, more)),
            place => {
                let (_, waiting) = &mut self.0[place.unwrap_or(MAX_LENGTHS - 1)];
                *waiting = *waiting + more;
            }
        }
    }

    /// So many more wait, each of which stands for so many.
    pub(super) fn add_all(&mut self, more: &Self, each: f64) {
        more.0.iter().for_each(|(took, waiting)| self.add(*took, *waiting * each));
    }

    /// How long requests wait, in groups: the first do not; and for a fetch of each length some from any moment of it, and the last
    /// for all of it.
    pub(super) fn groups(&self) -> Vec<Span> {
        let part = |group: usize| ((group as f64 + 0.5) / GROUPS as f64).min(1.0);
        let of_length = |(took, _): &(Span, _)| {
            let took = *took;
            (0..=GROUPS).map(move |group| took.scale(part(group)))
        };
        std::iter::once(Span::ZERO).chain(self.0.iter().flat_map(of_length)).collect()
    }

    /// Draws how many of so many requests are in each of these groups, where so many are expected in all.
    pub(super) fn draw(&self, count: u64, expected: f64, rng: &mut ChaCha8Rng, drawn: &mut Vec<u64>) {
        drawn.clear();
        drawn.push(0);
        let (mut left, mut expected_left) = (count, expected);
        for (_, waiting) in &self.0 {
            let waited = share(left, waiting.all() / expected_left, rng);
            (left, expected_left) = (left - waited, expected_left - waiting.all());
            let causing = share(waited, waiting.causing / waiting.all(), rng);
            let joining = waited - causing;
            // Rounded at random, or the first groups would be the smallest.
            let luck: f64 = if joining > 0 { rng.random() } else { 0.0 };
            let up_to = |group: usize| (joining as f64 * group as f64 / GROUPS as f64 + luck) as u64;
            drawn.extend((0..GROUPS).map(|group| up_to(group + 1) - up_to(group)));
            drawn.push(causing);
        }
        drawn[0] = left;
    }
}

/// How many of so many are of this share.
fn share(count: u64, share: f64, rng: &mut ChaCha8Rng) -> u64 {
    if count > 0 && share > 0.0 { binomial(count, share.min(1.0), rng) } else { 0 }
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

    #[test]
    fn too_many_lengths_are_not_told_apart() {
        let mut delays = Delays::default();
        (1..20)
            .for_each(|length| delays.add(Span::from_secs(length), Waiting { causing: 1.0, joining: 0.0 }));
        assert_eq!(delays.groups().len(), 1 + MAX_LENGTHS * (GROUPS + 1));
        let all: f64 = delays.0.iter().map(|(_, waiting)| waiting.all()).sum();
        assert_eq!(all, 19.0);
    }
}
