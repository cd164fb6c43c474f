//! Fetches that repeat each other: a lazy refresh every lifetime, or one for each stray.
//!
//! When a fetch has ended and what lies ahead of the cache is what lay ahead after the fetch before, the next will go
//! the same way, until something else happens. So only the moments of further fetches are drawn, and the last two are
//! played, which leaves the cache as all of them would have.

use std::collections::VecDeque;

use keyquake_core::{Decision, Event, KeyCache, LimiterKind, LimiterScope, OnMiss, Rejection, Span, Time};
use rand::RngExt;
use rand_distr::{Distribution, Exp1, StandardNormal};

use super::super::fleet::{LastFetch, Ticket};
use super::super::service::Verdict;
use super::super::token::Token;
use super::super::world::{Ends, Served};
use super::Simulation;
use crate::observe::Outcome;
use crate::scenario::OnReject;
use crate::sut::candidates;

/// The most phases that a cache has ahead.
const PHASES: usize = 8;
/// How often a horizon is halved in search of the last one before which nothing else happens.
const HALVINGS: u32 = 16;
/// How many fetches before a horizon are drawn one by one at least, and how many seconds lie between those that all are.
const DRAWN: f64 = 64.0;
const SLOW: f64 = 1.0;
/// How many are expected at least where a leap is worth its while.
const WORTH_IT: f64 = 4.0;
/// The most fetches in a window of a limiter that are tried.
const WINDOW: u32 = 32;
/// How many standard deviations nothing exceeds.
const SURELY: f64 = 6.0;

/// What lies ahead of a cache after a fetch, if nothing happens but requests.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outlook {
    took: Span,
    status: Option<u16>,
    flows: Vec<usize>,
    phases: Vec<Phase>,
}

#[derive(Clone, Debug, PartialEq)]
struct Phase {
    /// After the end of the fetch.
    from: Span,
    /// How requests of each flow end; `None` when the next one acts.
    ends: Vec<Option<Outcome>>,
}

/// Fetches that were drawn.
struct Drawn {
    count: u64,
    /// When the last two began and ended, the earlier first.
    last: VecDeque<(Time, Time)>,
    /// When they are over, and known to be followed by none up to then.
    until: Time,
}

impl Simulation<'_> {
    /// Leaps over fetches of an instance if the one that has just ended repeats the one before.
    pub(super) fn leap(&mut self, instance: u32) {
        let Some(fetch) = self.service.last_fetch(instance).filter(|fetch| fetch.ended == self.now) else {
            return;
        };
        if !self.instances[instance as usize].leaders.is_empty() {
            return;
        }
        let outlook = self.outlook(instance, fetch);
        let repeats = outlook.is_some() && self.instances[instance as usize].outlook == outlook;
        self.instances[instance as usize].outlook = outlook;
        if let Some(outlook) = self.instances[instance as usize].outlook.take_if(|_| repeats) {
            self.leap_along(instance, &outlook);
            self.instances[instance as usize].outlook = Some(outlook);
        }
    }

    fn outlook(&self, instance: u32, fetch: LastFetch) -> Option<Outlook> {
        let flows: Vec<usize> =
            (0..self.flows.len()).filter(|flow| self.flows[*flow].reaches(instance)).collect();
        let mut phases = Vec::new();
        let mut at = self.now;
        while at < Time::NEVER {
            if phases.len() == PHASES {
                return None;
            }
            let mut next = Time::NEVER;
            let mut ends = Vec::with_capacity(flows.len());
            for flow in &flows {
                let flow = &self.flows[*flow];
                let (end, until) = match self.service.verdict(instance, flow.token.as_ref()?, flow.claims, at)
                {
                    Verdict::Ends(outcome, until) => (Some(outcome), until),
                    Verdict::Acts(until) => (None, until),
                    Verdict::Waits { .. } => return None,
                };
                ends.push(end);
                next = next.min(until);
            }
            phases.push(Phase { from: at.since(self.now), ends });
            at = next;
        }
        Some(Outlook { took: fetch.took, status: fetch.status, flows, phases })
    }

    fn leap_along(&mut self, instance: u32, outlook: &Outlook) {
        if !self.is_calm(outlook) || !self.service.world.is_steady(self.now) {
            return;
        }
        let served = self.service.world.ask(self.now, instance);
        if served.at != Ends::After(outlook.took) || served.status != outlook.status {
            return;
        }
        let Some((outcomes, horizon)) = self.outcomes(instance, outlook, &served) else { return };
        let Some(drawn) = self.draw(instance, outlook, horizon) else { return };
        for (asked, ended) in drawn.last {
            self.play_alone(instance, outlook, &served, (asked, ended));
        }
        for (place, (flow, outcome)) in outlook.flows.iter().zip(outcomes).enumerate() {
            self.resume(instance, *flow, outcome);
            let waiting = self.waiting(outlook, place) * drawn.count as f64;
            let cell = self.cell(instance, *flow);
            if let Some(stretch) = &mut self.cells[cell].stretch {
                (stretch.waiting, stretch.wait) = (stretch.waiting + waiting, outlook.took);
            }
        }
        let own = &mut self.instances[instance as usize];
        (own.lands, own.alarm) = (drawn.until, drawn.until);
        self.alarms.add(drawn.until, instance);
    }

    /// Whether nothing that is not foreseen could change what comes: no key's share, unless it makes no difference.
    fn is_calm(&self, outlook: &Outlook) -> bool {
        let waits = self.per_second(outlook, |_| true) * outlook.took.as_secs_f64();
        let fits = waits + SURELY * (1.0 + waits.sqrt()) < f64::from(self.plan.policy.max_waiters);
        let reacts = self.plan.traffic.on_reject != OnReject::Keep;
        let mut columns: Vec<(usize, Vec<Option<Outcome>>)> = Vec::new();
        for (place, flow) in outlook.flows.iter().enumerate() {
            let flow = &self.flows[*flow];
            if flow.is_of_sessions() {
                columns
                    .push((flow.lane.stream, outlook.phases.iter().map(|phase| phase.ends[place]).collect()));
            }
        }
        let is_rejected = |(_, ends): &(_, Vec<Option<Outcome>>)| {
            ends.iter().any(|end| matches!(end, Some(Outcome::Rejected(_))))
        };
        let differ = |pair: &[(usize, Vec<_>)]| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1;
        fits && outlook.took < self.plan.traffic.timeout
            && !columns.windows(2).any(differ)
            && !(reacts && columns.iter().any(is_rejected))
    }

    /// How many requests per second come of those flows.
    fn per_second(&self, outlook: &Outlook, which: impl Fn(usize) -> bool) -> f64 {
        let flows = outlook.flows.iter().enumerate().filter(|(place, _)| which(*place));
        flows.map(|(_, flow)| self.flows[*flow].requests.per_second()).sum()
    }

    /// How many requests of a flow wait for one fetch, as expected: the one that caused it, and those that join.
    fn waiting(&self, outlook: &Outlook, place: usize) -> f64 {
        let acting = outlook.phases.iter().rfind(|phase| phase.ends[place].is_none());
        let Some(phase) = acting else { return 0.0 };
        let all = self.per_second(outlook, |place| phase.ends[place].is_none());
        self.flows[outlook.flows[place]].requests.per_second() * (1.0 / all + outlook.took.as_secs_f64())
    }

    /// How all requests of each flow end up to a horizon, whether they wait or not; `None` unless all of one flow end alike.
    fn outcomes(&self, instance: u32, outlook: &Outlook, served: &Served) -> Option<(Vec<Outcome>, Time)> {
        let turn = self.next_turn()?.min(self.service.deadline(instance).unwrap_or(Time::NEVER));
        let outcomes = self.outcomes_until(instance, outlook, served, self.now)?;
        let alike = |left: Span| {
            self.outcomes_until(instance, outlook, served, self.now + left).as_ref() == Some(&outcomes)
        };
        let mut left = turn.since(self.now).saturating_sub(outlook.took);
        if !alike(left) {
            // Something happens before; what that is the cache knows.
            let mut too_much = left;
            left = Span::ZERO;
            for _ in 0..HALVINGS {
                let half = left.saturating_add(too_much.saturating_sub(left).scale(0.5));
                *if alike(half) { &mut left } else { &mut too_much } = half;
            }
        }
        Some((outcomes, self.now + left.saturating_add(outlook.took)))
    }

    /// Until when it is known which flows there are: the first token of a new key may come with any renewal.
    fn next_turn(&self) -> Option<Time> {
        let turn = self.turns.first().copied();
        let foreseen = self.clients.newest_key_is_held();
        turn.into_iter().chain(self.next_of_clients().filter(|_| !foreseen)).min()
    }

    fn outcomes_until(
        &self,
        instance: u32,
        outlook: &Outlook,
        served: &Served,
        until: Time,
    ) -> Option<Vec<Outcome>> {
        let mut outcomes = vec![None; outlook.flows.len()];
        let fills_window = |token: &Token| until == self.now && self.may_fill_window(outlook, token);
        for (number, phase) in outlook.phases.iter().enumerate() {
            let at = self.now + phase.from;
            let at = if number + 1 == outlook.phases.len() { at.max(until) } else { at };
            let times = (at, at + outlook.took);
            let mut rehearsed: Vec<(&Token, Result<(), Rejection>)> = Vec::new();
            for ((outcome, end), flow) in outcomes.iter_mut().zip(&phase.ends).zip(&outlook.flows) {
                let met = match end {
                    Some(met) => *met,
                    None => {
                        let token = self.flows[*flow].token.as_ref()?;
                        let known = rehearsed.iter().find(|(other, _)| other.is_like(token));
                        let checked = match known {
                            Some((_, checked)) => *checked,
                            None => {
                                let rehearsal = (instance, token);
                                let checked = self.rehearse(rehearsal, served, times, fills_window(token))?;
                                rehearsed.push((token, checked));
                                checked
                            }
                        };
                        self.service.outcome(checked.and(self.flows[*flow].claims))
                    }
                };
                if outcome.is_some_and(|outcome| outcome != met) {
                    return None;
                }
                *outcome = Some(met);
            }
        }
        outcomes.into_iter().collect()
    }

    /// Whether fetches for such tokens count in a window or bucket of the limiter: not if it is there for unknown keys and theirs is
    /// known.
    fn may_fill_window(&self, outlook: &Outlook, token: &Token) -> bool {
        let policy = &self.plan.policy;
        let mut flows = outlook.flows.iter().zip(&outlook.phases[0].ends);
        let is_known = flows.any(|(flow, end)| {
            let accepted =
                self.flows[*flow].token.as_ref().filter(|_| matches!(end, Some(Outcome::Accepted(_))));
            accepted.is_some_and(|other| match policy.on_bad_signature {
                OnMiss::Reject => other.class == token.class,
                OnMiss::Refetch | OnMiss::RefetchBackground => other.is_like(token),
            })
        });
        matches!(policy.limiter, LimiterKind::Window | LimiterKind::Bucket)
            && (policy.limiter_scope == LimiterScope::All || !is_known)
    }

    /// What would become of the signature of a request that causes a fetch, tried on a copy of the cache. If it may fill a
    /// window of the limiter, then so must those that follow, as many as fill it; `None` if they would not.
    fn rehearse(
        &self,
        (instance, token): (u32, &Token),
        served: &Served,
        (asked, ended): (Time, Time),
        fills_window: bool,
    ) -> Option<Result<(), Rejection>> {
        let window = match self.plan.policy.limiter {
            _ if !fills_window => 0,
            // How many empty a bucket depends on how fast they come.
            LimiterKind::Bucket => return None,
            _ => self.plan.policy.limiter_burst,
        };
        let (wait, took) = (asked.since(self.now), ended.since(asked));
        let mut cache = self.service.copy(instance);
        let mut asked = asked;
        let first = alone(&mut cache, token, served, (asked, ended))?;
        for _ in 0..window.min(WINDOW) {
            asked = asked + took + wait;
            let next = alone(&mut cache, token, served, (asked, asked + took))?;
            if self.service.outcome(next) != self.service.outcome(first) {
                return None;
            }
        }
        (window <= WINDOW).then_some(first)
    }

    /// Draws when fetches begin and end from now on, as long as they end before the horizon. `None` if too few are expected
    /// to leap over them.
    fn draw(&mut self, instance: u32, outlook: &Outlook, horizon: Time) -> Option<Drawn> {
        let rates: Vec<(f64, f64)> = outlook
            .phases
            .iter()
            .map(|phase| {
                (phase.from.as_secs_f64(), self.per_second(outlook, |place| phase.ends[place].is_none()))
            })
            .collect();
        let rng = &mut self.instances[instance as usize].rng;
        let counter = self.service.counter();
        let (took, status) = (outlook.took, outlook.status);
        let (mut last, mut count) = (VecDeque::with_capacity(3), 0_u64);
        let mut until = self.now;
        let (mean, variance) = cycle(&rates, took.as_secs_f64());
        let fit = |since: Time| horizon.since(since).as_secs_f64() / mean;
        if fit(until) < WORTH_IT {
            return None;
        }
        // Many at once, and then many of those that are left.
        let surely_fit = |fit: f64| {
            let spare = SURELY * (variance * fit).sqrt() / mean + DRAWN;
            (mean < SLOW && fit > 2.0 * spare).then(|| (fit - spare).floor())
        };
        while let Some(many) = surely_fit(fit(until)) {
            let luck: f64 = StandardNormal.sample(rng);
            let passed = (many * mean + luck * (variance * many).sqrt()).max(0.0);
            let from = until;
            until = from + Span::from_secs(1).scale(passed);
            counter.spread(status, (from, until), (1.0 / mean, variance / mean.powi(3)));
            count += many as u64;
        }
        // None begins later than this and ends before the horizon.
        let latest = horizon - took;
        while let Some(wait) = first_arrival(&rates, Exp1.sample(rng)) {
            let asked = until + Span::from_secs(1).scale(wait);
            if asked >= latest {
                break;
            }
            until = asked + took;
            last.push_back((asked, until));
            count += 1;
            // The last two will be listed.
            if last.len() > 2 {
                last.pop_front().into_iter().for_each(|(asked, _)| counter.add(status, asked));
            }
        }
        Some(Drawn { count, last, until: until.max(latest) })
    }

    /// Plays a fetch that nobody else waits for.
    fn play_alone(
        &mut self,
        instance: u32,
        outlook: &Outlook,
        served: &Served,
        (asked, ended): (Time, Time),
    ) {
        let since = asked.since(self.service.last_fetch(instance).map_or(self.now, |fetch| fetch.ended));
        let phase = outlook.phases.iter().rfind(|phase| phase.from <= since).unwrap_or(&outlook.phases[0]);
        let all = self.per_second(outlook, |place| phase.ends[place].is_none());
        let mut pick = all * self.instances[instance as usize].rng.random::<f64>();
        let acting = outlook.flows.iter().enumerate().filter(|(place, _)| phase.ends[*place].is_none());
        let mut chosen = None;
        for (_, flow) in acting {
            chosen = Some(*flow);
            pick -= self.flows[*flow].requests.per_second();
            if pick < 0.0 {
                break;
            }
        }
        self.started += 1;
        let token = chosen.and_then(|flow| self.flows[flow].token(&self.service.world, self.started));
        if let Some(token) = token {
            alone(self.service.cache_mut(instance), &token, served, (asked, ended));
            self.service.note_fetch(instance, served, (asked, ended));
        }
    }
}

/// How long after a fetch the next request comes that acts, if the rates of these phases come to so much by then.
fn first_arrival(rates: &[(f64, f64)], mut amount: f64) -> Option<f64> {
    for (number, (from, rate)) in rates.iter().enumerate() {
        let until = rates.get(number + 1).map_or(f64::INFINITY, |(next, _)| *next);
        if *rate > 0.0 && amount <= rate * (until - from) {
            return Some(from + amount / rate);
        }
        amount -= if *rate > 0.0 { rate * (until - from) } else { 0.0 };
    }
    None
}

/// The mean and the variance of the time from the end of a fetch to the end of the next, in seconds.
fn cycle(rates: &[(f64, f64)], took: f64) -> (f64, f64) {
    // Sums of the time, and of twice the time since the fetch, over which nothing has come yet.
    let (mut mean, mut square, mut left) = (0.0, 0.0, 1.0);
    for (number, (from, rate)) in rates.iter().enumerate() {
        let until = rates.get(number + 1).map_or(f64::INFINITY, |(next, _)| *next);
        if *rate > 0.0 {
            let (length, amount) = (until - from, rate * (until - from));
            let gone = -libm::expm1(-amount);
            // What the wait comes to within the phase; a series where the closed form would lose all its digits.
            let within = match amount {
                few if few < 1e-4 => length * length * (0.5 - few / 3.0),
                many if many > 700.0 => 1.0 / (rate * rate),
                _ => (gone - amount * (1.0 - gone)) / (rate * rate),
            };
            mean += left * gone / rate;
            square += 2.0 * left * (from * gone / rate + within);
            left *= 1.0 - gone;
        } else {
            mean += left * (until - from);
            square += left * (until * until - from * from);
        }
    }
    (mean + took, (square - mean * mean).max(0.0))
}

/// One request to a cache that fetches for it, and is served so: what becomes of its signature. `None` when it causes no
/// fetch, or one more.
fn alone(
    cache: &mut KeyCache<(), Ticket>,
    token: &Token,
    served: &Served,
    (asked, ended): (Time, Time),
) -> Option<Result<(), Rejection>> {
    let class = token.class.clone()?;
    let (mut now, mut tried, mut answer) = (asked, false, None);
    let mut decisions = Vec::new();
    cache.handle(Event::Lookup { class: class.clone(), ticket: 0 }, now, &mut decisions);
    loop {
        let mut fetch = None;
        for decision in decisions.drain(..) {
            match decision {
                Decision::Answer(_, given) => answer = Some(given),
                Decision::Fetch(id) => fetch = Some(id),
                Decision::Cancel(_) => {}
            }
        }
        if let Some(id) = fetch {
            if now == ended {
                return None;
            }
            now = ended;
            cache.handle(Event::Fetched(id, served.response()), now, &mut decisions);
            continue;
        }
        match candidates(answer.take()?) {
            Ok(keys) if !token.is_signed_by(&keys) && !tried => {
                tried = true;
                let event = Event::BadSignature { class: class.clone(), tried: keys.version(), ticket: 0 };
                cache.handle(event, now, &mut decisions);
            }
            _ if now == asked => return None,
            Ok(keys) if token.is_signed_by(&keys) => return Some(Ok(())),
            Ok(_) => return Some(Err(Rejection::BadSignature)),
            Err(rejection) => return Some(Err(rejection)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    #[test]
    fn cycles_last_as_long_as_those_that_are_drawn() {
        let cases: [&[(f64, f64)]; 4] = [
            &[(0.0, 20.0)],
            &[(0.0, 0.0), (2.0, 0.5)],
            &[(0.0, 0.3), (1.0, 0.0), (4.0, 2.0)],
            &[(0.0, 1e-9), (30.0, 1e3)],
        ];
        for rates in cases {
            let mut rng = seed::generator(7, "cycles", 0);
            let drawn = (0..20_000).map(|_| first_arrival(rates, Exp1.sample(&mut rng)).unwrap());
            let (sum, squares) = drawn.fold((0.0, 0.0), |(sum, squares), it| (sum + it, squares + it * it));
            let (mean, variance) = (sum / 20_000.0, squares / 20_000.0 - (sum / 20_000.0_f64).powi(2));
            let (expected, varies) = cycle(rates, 0.25);
            assert!((mean + 0.25 - expected).abs() < 0.03 * expected, "{rates:?}: {mean} and {expected}");
            assert!((variance - varies).abs() < 0.05 * varies + 1e-3, "{rates:?}: {variance} and {varies}");
        }
        assert_eq!(first_arrival(&[(0.0, 1.0), (1.0, 0.0)], 2.0), None);
    }
}
