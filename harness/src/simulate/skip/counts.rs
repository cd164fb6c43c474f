//! Requests that met the same at an instance for a while, and when they fell for the fleet as a whole.
//!
//! How many an instance got in a stretch is drawn when the stretch has ended. When these fell is drawn at the end of the
//! run for all stretches of one kind together, given their sum: so the counts of instances and of windows agree.

use std::ops::Range;

use keyquake_core::{Span, Time};
use rand::rngs::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Exp1, Poisson};

use super::delays::{Delays, Leapt};
use super::flow::Flow;
use crate::observe::{Batch, Fold, Lane, Outcome, WallTimes};
use crate::oracle::Ruling;
use crate::simulate::Detail;

/// How many requests that must pass are told apart by their steps before denials, and after them.
const AROUND: f64 = 200.0;

/// All steps, and none.
const ALL: Range<usize> = 0..usize::MAX;
const NONE: Range<usize> = 0..0;

/// What all requests of one flow at one instance met for a while.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) outcome: Outcome,
    pub(super) from: Time,
    pub(super) until: Time,
    /// How many requests are expected in it, gaps excluded.
    pub(super) expected: f64,
    /// What an instance had got of the flow at `from` and at `until`.
    pub(super) mass: (f64, f64),
    /// When requests met something else meanwhile.
    pub(super) gaps: Vec<Gap>,
    /// Whether some have since `until`.
    pub(super) is_broken: bool,
    /// How many of those expected waited for a fetch, beside those in a leap.
    pub(super) delays: Delays,
    pub(super) leapt: Option<Leapt>,
    /// When the last of these had its answer.
    pub(super) answered: Time,
    /// How many of those expected had their answers while a fetch was under way, and a moment at which one was.
    pub(super) meanwhile: (f64, Time),
}

/// A part of a stretch, and what an instance had got of the flow at its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub(super) from: Time,
    pub(super) until: Time,
    pub(super) mass: (f64, f64),
}

/// Stretches of one kind: what they met, by lane, in a segment; `None` in the warm-up, which is measured in none.
type Kind = (Option<usize>, Lane, Outcome, Ruling);

impl Stretch {
    /// One that begins now, when an instance has got so much of its flow.
    pub(super) fn new(outcome: Outcome, now: Time, mass: f64) -> Self {
        Self {
            outcome,
            from: now,
            until: now,
            expected: 0.0,
            mass: (mass, mass),
            gaps: Vec::new(),
            is_broken: false,
            delays: Delays::default(),
            leapt: None,
            answered: now,
            meanwhile: (0.0, now),
        }
    }

    /// The leap it is in has landed, when an instance has got so much of its flow.
    #[inline]
    pub(super) fn land(&mut self, now: Time, mass: f64) {
        if let Some(leapt) = self.leapt.take() {
            self.delays.add(leapt.took, leapt.waiting(now, mass));
        }
    }

    /// It goes on now. When that is after a gap, nothing of it came meanwhile.
    pub(super) fn go_on(&mut self, now: Time, mass: f64, after_gap: bool) {
        if (after_gap || self.is_broken) && self.until < now {
            self.gaps.push(Gap { from: self.until, until: now, mass: (self.mass.1, mass) });
        }
        (self.until, self.mass.1, self.is_broken) = (now, mass, false);
    }
}

/// All stretches that have ended.
#[derive(Debug, Default)]
pub(super) struct Counts {
    profiles: Vec<(Kind, Profile)>,
}

/// How stretches of one kind lie in time. Intensities of whole steps and of parts of steps are kept apart.
#[derive(Debug)]
struct Profile {
    /// How many requests they got that were counted as those of instances.
    count: u64,
    /// How many others are expected.
    expected: f64,
    /// How many of them waited for a fetch.
    delays: Delays,
    from: Time,
    until: Time,
    /// The first step that it knows.
    base: usize,
    /// What is expected in parts of a step.
    parts: Vec<f64>,
    /// By how much more of the flow's requests fall under it from a step on than in the step before.
    changes: Vec<f64>,
}

/// How many of a Poisson process happen, of so many expected.
pub(super) fn poisson(expected: f64, rng: &mut ChaCha8Rng) -> u64 {
    Poisson::new(expected).map_or(0, |poisson| poisson.sample(rng) as u64)
}

/// How many of so many happen, each with this probability.
pub(super) fn binomial(count: u64, probability: f64, rng: &mut ChaCha8Rng) -> u64 {
    Binomial::new(count, probability).map_or(0, |binomial| binomial.sample(rng))
}

/// The first and the last of so many moments that are uniform in `0..1`.
pub(super) fn extremes(count: u64, rng: &mut ChaCha8Rng) -> (f64, f64) {
    // The largest of n is the n-th root of one of them, whose logarithm is exponential.
    let root = |luck: f64, n: u64| -luck / n as f64;
    let last = libm::exp(root(Exp1.sample(rng), count));
    if count == 1 {
        return (last, last);
    }
    (-last * libm::expm1(root(Exp1.sample(rng), count - 1)), last)
}

/// Requests that are answered after a while, if at all.
pub(super) fn after(outcome: Outcome, wait: Span) -> WallTimes {
    let wait = outcome.status().map(|_| std::time::Duration::from_nanos(wait.as_nanos()));
    WallTimes { lateness: None, latency: wait, service: wait }
}

impl Counts {
    /// Counts a stretch that has ended as its instance's, and keeps it for the fleet's.
    pub(super) fn add(
        &mut self,
        fold: &mut Fold,
        (instance, flow): (u32, &mut Flow),
        stretch: &Stretch,
        rng: &mut ChaCha8Rng,
    ) {
        let Stretch { outcome, from, until, mass, .. } = *stretch;
        let segment = (from >= Time::ZERO).then(|| fold.segment_number(from));
        let kind = (segment, flow.lane, outcome, flow.ruling);
        if !Fold::counts_by_instance(flow.ruling) {
            if stretch.expected > 0.0 {
                flow.tick(until);
                let profile = self.profile(kind, flow, stretch);
                profile.add(flow, stretch, stretch.expected);
                profile.expected += stretch.expected;
            }
            return;
        }
        let count = poisson(stretch.expected, rng);
        if count == 0 {
            return;
        }
        flow.tick(until);
        let (first, last) = extremes(count, rng);
        let moment = |part| flow.moment(part, (from, until), mass);
        let batch = Batch {
            lane: flow.lane,
            ruling: flow.ruling,
            outcome,
            count,
            first: moment(first),
            last: moment(last),
            wall: after(outcome, Span::ZERO),
        };
        let ended = if stretch.delays.are_none() { batch.last } else { stretch.answered };
        let (expected, moment) = stretch.meanwhile;
        let meanwhile =
            if expected > 0.0 { binomial(count, (expected / stretch.expected).min(1.0), rng) } else { 0 };
        for (count, ended) in [(meanwhile, moment), (count - meanwhile, ended)] {
            if count > 0 {
                fold.count_at(instance, &Batch { count, ..batch.clone() }, ended);
            }
        }
        let profile = self.profile(kind, flow, stretch);
        profile.add(flow, stretch, count as f64);
        profile.count += count;
    }

    /// The profile of a kind. Most often it is the one that the flow's last stretch was added to.
    fn profile(&mut self, kind: Kind, flow: &mut Flow, stretch: &Stretch) -> &mut Profile {
        let is_it = |place: &usize| self.profiles.get(*place).is_some_and(|(known, _)| *known == kind);
        let known = Some(flow.profile).filter(is_it).or_else(|| (0..self.profiles.len()).find(is_it));
        flow.profile = known.unwrap_or_else(|| {
            self.profiles.push((kind, Profile::new(flow, stretch.from, stretch.until)));
            self.profiles.len() - 1
        });
        &mut self.profiles[flow.profile].1
    }

    /// Draws when the requests of all stretches fell, and counts them as the fleet's. Of some steps it is told apart into which
    /// of them.
    pub(super) fn finish(
        mut self,
        fold: &mut Fold,
        flows: &[Flow],
        told_apart: &[Range<usize>],
        rng: &mut ChaCha8Rng,
    ) {
        self.profiles.sort_unstable_by_key(|(kind, _)| *kind);
        for ((segment, lane, outcome, ruling), profile) in self.profiles {
            let Some(flow) = flows.iter().find(|flow| flow.lane == lane) else { continue };
            let walls: Vec<WallTimes> =
                profile.delays.groups().iter().map(|wait| after(outcome, *wait)).collect();
            let (mut groups, mut sums) = (Vec::new(), vec![0; walls.len()]);
            let expected = profile.count as f64 + profile.expected;
            for (steps, count) in profile.drawn(flow, told_apart, rng) {
                let from = flow.tick_at(steps.start).max(profile.from);
                let until = flow.tick_at(steps.end).min(profile.until);
                let (first, last) = extremes(count, rng);
                let moment = |part| from + until.since(from).scale(part);
                let (first, last) = (moment(first), moment(last));
                profile.delays.draw(count, expected, rng, &mut groups);
                for ((&count, &wall), sum) in groups.iter().zip(&walls).zip(&mut sums) {
                    if count > 0 {
                        fold.count_when(&Batch { lane, ruling, outcome, count, first, last, wall });
                        *sum += count;
                    }
                }
            }
            let Some(segment) = segment else { continue };
            for (count, wall) in sums.into_iter().zip(walls).filter(|(count, _)| *count > 0) {
                let (first, last) = (profile.from, profile.until);
                fold.sum_up(&Batch { lane, ruling, outcome, count, first, last, wall }, segment);
            }
        }
    }

    /// The steps whose requests are told apart, in order: all, or those around the denials of each segment.
    pub(super) fn told_apart(&self, fold: &Fold, flows: &[Flow], detail: Detail) -> Vec<Range<usize>> {
        if detail == Detail::Curves || !fold.knows_all_denials() {
            return std::iter::once(ALL).collect();
        }
        let step = |at: Time| {
            usize::try_from(at.since(fold.start).as_nanos() / fold.track_step.as_nanos().max(1))
                .unwrap_or(usize::MAX)
        };
        let mut denied = vec![NONE; fold.segments.len()];
        for denial in &fold.denials {
            let of_segment = &mut denied[fold.segment_number(denial.at)];
            let (from, until) = (step(denial.at), step(denial.ended).saturating_add(1));
            *of_segment = match *of_segment {
                NONE => from..until,
                Range { start, end } => start.min(from)..end.max(until),
            };
        }
        denied.retain(|steps| *steps != NONE);
        let passing = if denied.is_empty() { Vec::new() } else { self.must_pass(flows) };
        denied.iter().map(|steps| widened(steps, &passing)).collect()
    }

    /// How many requests that must pass fell into each step, as expected.
    fn must_pass(&self, flows: &[Flow]) -> Vec<f64> {
        let mut passing = Vec::new();
        for ((_, lane, _, ruling), profile) in &self.profiles {
            let Some(flow) = flows.iter().find(|flow| flow.lane == *lane) else { continue };
            if *ruling != Ruling::MustPass {
                continue;
            }
            for (steps, expected) in profile.expected(flow, std::slice::from_ref(&ALL)) {
                passing.resize(passing.len().max(steps.end), 0.0);
                passing[steps.start] += expected;
            }
        }
        passing
    }
}

/// Some steps, and as many before and after them as get enough requests that must pass to fill a worst second with.
fn widened(steps: &Range<usize>, passing: &[f64]) -> Range<usize> {
    let enough = |some: &mut dyn Iterator<Item = &f64>| {
        let mut sum = 0.0;
        let taken = some.take_while(|passing| {
            let more = sum < AROUND;
            sum += **passing;
            more
        });
        taken.count() + 1
    };
    let (start, end) = (steps.start.min(passing.len()), steps.end.min(passing.len()));
    let before = enough(&mut passing[..start].iter().rev());
    let after = enough(&mut passing[end..].iter());
    steps.start.saturating_sub(before)..steps.end.saturating_add(after)
}

impl Profile {
    fn new(flow: &Flow, from: Time, until: Time) -> Self {
        let base = flow.tick_before(from);
        Self {
            count: 0,
            expected: 0.0,
            delays: Delays::default(),
            from,
            until,
            base,
            parts: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Adds a stretch that got so many requests.
    fn add(&mut self, flow: &Flow, stretch: &Stretch, count: f64) {
        (self.from, self.until) = (self.from.min(stretch.from), self.until.max(stretch.until));
        let (first, last) = (flow.tick_before(stretch.from), flow.tick_before(stretch.until));
        self.reach(first, last);
        let gaps: f64 = stretch.gaps.iter().map(|gap| gap.mass.1 - gap.mass.0).sum();
        let length = stretch.mass.1 - stretch.mass.0 - gaps;
        if length <= 0.0 {
            self.parts[first - self.base] += count;
            return;
        }
        // So that all of it together comes to `count`.
        let weight = count / length;
        self.delays.add_all(&stretch.delays, count / stretch.expected);
        let Stretch { from, until, mass, .. } = *stretch;
        self.lay(flow, Gap { from, until, mass }, weight);
        for gap in &stretch.gaps {
            self.lay(flow, *gap, -weight);
        }
    }

    /// Adds what falls between two moments, by a weight.
    fn lay(&mut self, flow: &Flow, part: Gap, weight: f64) {
        let (first, last) = (flow.tick_before(part.from), flow.tick_before(part.until));
        let (from, until) = part.mass;
        if first == last {
            self.parts[first - self.base] += weight * (until - from);
            return;
        }
        self.parts[first - self.base] += weight * (flow.ticked(first + 1) - from);
        self.parts[last - self.base] += weight * (until - flow.ticked(last));
        self.changes[first + 1 - self.base] += weight;
        self.changes[last - self.base] -= weight;
    }

    /// Makes room for steps.
    fn reach(&mut self, first: usize, last: usize) {
        if first < self.base {
            let more = self.base - first;
            self.parts.splice(..0, std::iter::repeat_n(0.0, more));
            self.changes.splice(..0, std::iter::repeat_n(0.0, more));
            self.base = first;
        }
        let length = (last - self.base + 1).max(self.parts.len());
        self.parts.resize(length, 0.0);
        self.changes.resize(length, 0.0);
    }

    /// How many requests are expected in each step, or in all steps in a row that need not be told apart.
    fn expected(&self, flow: &Flow, told_apart: &[Range<usize>]) -> Vec<(Range<usize>, f64)> {
        let end = self.base + self.parts.len();
        let mut pieces = Vec::new();
        let mut at = self.base;
        for range in told_apart {
            let (from, until) = (range.start.clamp(at, end), range.end.clamp(at, end));
            pieces.extend([(at..from, false), (from..until, true)]);
            at = until;
        }
        pieces.push((at..end, false));
        let mut weight = 0.0;
        let mut expected = Vec::new();
        for (steps, are_told_apart) in pieces.into_iter().filter(|(steps, _)| !steps.is_empty()) {
            let mut sum = 0.0;
            for step in steps.clone() {
                weight += self.changes[step - self.base];
                sum += self.parts[step - self.base];
                sum += weight * (flow.ticked(step + 1) - flow.ticked(step));
                if are_told_apart {
                    expected.push((step..step + 1, f64::max(sum, 0.0)));
                    sum = 0.0;
                }
            }
            if !are_told_apart {
                expected.push((steps, f64::max(sum, 0.0)));
            }
        }
        expected
    }

    /// How many requests fell into each step, or all steps in a row that need not be told apart, if any did.
    fn drawn(
        &self,
        flow: &Flow,
        told_apart: &[Range<usize>],
        rng: &mut ChaCha8Rng,
    ) -> Vec<(Range<usize>, u64)> {
        let expected = self.expected(flow, told_apart);
        let mut expected_left: f64 = expected.iter().map(|(_, expected)| expected).sum();
        let mut left = self.count + poisson(self.expected, rng);
        let mut drawn = Vec::new();
        for (steps, expected) in expected {
            if left == 0 {
                break;
            }
            let count = binomial(left, (expected / expected_left).clamp(0.0, 1.0), rng);
            expected_left -= expected;
            left -= count;
            if count > 0 {
                drawn.push((steps, count));
            }
        }
        // What rounding has left over fell where the last fell.
        match drawn.last_mut() {
            Some((_, count)) => *count += left,
            None => drawn.push((self.base..self.base + 1, left)),
        }
        drawn.retain(|(_, count)| *count > 0);
        drawn
    }
}
