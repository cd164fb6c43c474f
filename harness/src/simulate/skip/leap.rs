//! Instances that walk in a circle leap over it, from where they are on their way there.
//!
//! Where a fetch leads back to the state that it came from, perhaps after others, and no token meets anything else meanwhile, all
//! these fetches until something else happens are drawn at once.

use std::rc::Rc;

use keyquake_core::{Rejection, Span, Time};
use rand_distr::{Distribution, Exp1};

use super::Simulation;
use super::flow::Flow;
use super::groups::GroupId;
use super::states::{Actor, Deed, During, Holds, StateId, StepId};
use super::walk::Walk;
use crate::observe::Outcome;
use crate::oracle::Ruling;
use crate::scenario::OnReject;
use crate::simulate::counter::AT_RANDOM;
use crate::simulate::world::Served;

/// How many fetches before a horizon are drawn one by one at least, and how many seconds lie between those that all are
/// unless they come at random: their number in any second varies otherwise than in a long time.
const DRAWN: f64 = 64.0;
const SLOW: f64 = 1.0;
/// The most legs of a round.
const MAX_LEGS: usize = 4;
/// More than so many are expected where a leap is worth its while.
const WORTH_IT: f64 = 0.02;
/// Before any moment that is drawn, in seconds.
const NOT_YET: f64 = -1.0;
/// By when the first event of a Poisson process has surely happened, in events that are expected by then.
const SURELY_ONE: f64 = 40.0;

/// Fetches of which the last leads back to where it came from, as all do that follow it as long as nothing else happens.
#[derive(Debug)]
pub(super) struct Round {
    /// What the requests of each flow meet.
    met: Vec<Met>,
    /// How one fetch after the other comes; all others as the last of these.
    legs: Vec<Leg>,
    served: Served,
    took: Span,
    /// The mean and the variance of the time from the end of a fetch of the last leg to the end of the next, in seconds.
    cycle: (f64, f64),
}

/// How a fetch comes, and where it leads.
#[derive(Debug)]
struct Leg {
    from: StateId,
    /// Known when a fetch was found that begins on it.
    to: Option<(StateId, Holds)>,
    /// How many phases of the state it may go through: later ones it never gets to.
    phases: usize,
    /// When requests act.
    acting: Vec<Acting>,
    /// Whether those who cause the fetch wait for it.
    waits: bool,
    /// For how long requests of each flow come of which one fetch makes all wait, in seconds.
    waited: Vec<f64>,
}

/// What all requests of a flow meet in a round.
#[derive(Clone, Copy, Debug)]
struct Met {
    flow: usize,
    outcome: Outcome,
    /// Whether they do not wait for a fetch that is under way.
    meanwhile: bool,
}

/// So many requests per second act from one moment after a fetch to another, in seconds; a timer is a rate without end.
#[derive(Clone, Copy, Debug)]
struct Acting {
    /// Which phase of the state this is; the timer comes after the last.
    phase: usize,
    from: f64,
    until: f64,
    per_second: f64,
}

/// The rounds that were looked for since the provider changed or other flows send: of each state, and of instances that get
/// the same flows. How many sessions hold which key need not be asked: where it would make a difference there is no round.
#[derive(Debug, Default)]
pub(super) struct Rounds(Vec<(StateId, GroupId, Option<Rc<Round>>)>);

impl Round {
    /// How a fetch comes that follows so many.
    fn leg(&self, fetches: u64) -> &Leg {
        let last = self.legs.len() - 1;
        &self.legs[usize::try_from(fetches).map_or(last, |fetches| fetches.min(last))]
    }

    /// For how long requests come that so many fetches make wait, in seconds, of the flow in this place.
    fn waited(&self, place: usize, fetches: u64) -> f64 {
        let before = self.legs.len() as u64 - 1;
        let on_the_way: f64 = (0..before.min(fetches)).map(|leg| self.leg(leg).waited[place]).sum();
        on_the_way + self.leg(before).waited[place] * fetches.saturating_sub(before) as f64
    }

    /// Where so many fetches lead from a state, and until when that holds.
    fn leads(&self, (mut state, mut holds_until): (StateId, Time), fetches: u64) -> (StateId, Time) {
        let taken = usize::try_from(fetches).unwrap_or(usize::MAX);
        for (to, holds) in self.legs.iter().take(taken).filter_map(|leg| leg.to) {
            state = to;
            holds_until = if holds == Holds::Forever { Time::NEVER } else { holds_until };
        }
        (state, holds_until)
    }
}

impl Acting {
    /// How many that comes to.
    fn amount(&self) -> f64 {
        self.per_second * (self.until - self.from)
    }
}

impl Rounds {
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn known(&self, state: StateId, group: GroupId) -> Option<Option<Rc<Round>>> {
        let known = self.0.iter().find(|known| (known.0, known.1) == (state, group));
        known.map(|(.., round)| round.clone())
    }
}

/// Fetches that were drawn.
struct Drawn {
    count: u64,
    /// When the last two began, the earlier first.
    last: [Option<Time>; 2],
    /// When the last ended.
    ended: Time,
}

impl Simulation<'_> {
    /// Leaps over fetches of an instance if they repeat each other, from the end of the one that is under way. Returns whether
    /// it has.
    pub(super) fn leap(&mut self, instance: u32) -> bool {
        let Some(walk) = self.instances[instance as usize].walk else { return false };
        let Walk { state, since, holds_until, phase, .. } = walk.landed(&self.states);
        let Some(horizon) = self.next_turn().map(|turn| turn.min(holds_until)) else { return false };
        let round = self.round(instance, state).filter(|round| phase < round.leg(0).phases);
        let Some(round) = round else { return false };
        if walk.fetch.is_some_and(|(step, _)| !self.begins_with(&round, step)) {
            return false;
        }
        let latest = horizon - round.took;
        if latest.since(self.now.max(since)).as_secs_f64() <= WORTH_IT * round.cycle.0 {
            return false;
        }
        let drawn = self.draw(instance, since, &round, latest);
        for asked in drawn.last.into_iter().flatten() {
            self.service.note_fetch(instance, &round.served, (asked, asked + round.took));
        }
        for (place, met) in round.met.iter().enumerate() {
            self.resume(instance, met.flow, met.outcome);
            let waited = round.waited(place, drawn.count);
            let waiting = self.flows[met.flow].requests.per_second() * waited;
            self.let_wait(instance, met.flow, waiting, (round.took, drawn.ended));
            self.let_end_meanwhile(instance, met, &round, &drawn);
        }
        let lands = drawn.ended.max(latest);
        // With a turn everybody is looked at.
        let waits = round.leg(drawn.count).acting.first().map_or(0.0, |acting| acting.from);
        let acts = lands.max(drawn.ended + Span::from_secs(1).scale(waits));
        let acts = if self.turns.front().is_some_and(|turn| *turn <= acts) { Time::NEVER } else { acts };
        let own = &mut self.instances[instance as usize];
        (own.lands, own.acts) = (lands, acts);
        let (state, holds_until) = round.leads((state, holds_until), drawn.count);
        own.walk = Some(Walk { state, since: drawn.ended, holds_until, phase: 0, fetch: None });
        self.alarm(instance, acts);
        true
    }

    /// Whether requests meet the same during a fetch as in the round that follows, and for the same reason.
    fn begins_with(&mut self, round: &Round, step: StepId) -> bool {
        round.met.iter().all(|met| {
            let Flow { kind, claims, .. } = self.flows[met.flow];
            let checked = self.states.during(step, kind).and_then(During::checked);
            let outcome = checked.map(|checked| self.service.outcome(checked.and(claims)));
            outcome == Some(met.outcome) && !self.is_denied(met)
        })
    }

    /// Whether requests are denied: why they are may be another reason after every fetch.
    fn is_denied(&self, met: &Met) -> bool {
        self.flows[met.flow].ruling == Ruling::MustPass && !matches!(met.outcome, Outcome::Accepted(_))
    }

    /// The fetches that lead from a state into a circle, if all do until the next turn.
    fn round(&mut self, instance: u32, state: StateId) -> Option<Rc<Round>> {
        let group = self.groups.of(instance);
        if let Some(known) = self.rounds.known(state, group) {
            return known;
        }
        let round = self.find_round(instance, state).map(Rc::new);
        if self.service.world.is_uniform(self.now) {
            self.rounds.0.push((state, group, round.clone()));
        }
        round
    }

    fn find_round(&mut self, instance: u32, state: StateId) -> Option<Round> {
        if !self.service.world.is_steady(self.now) {
            return None;
        }
        let served = self.service.world.ask(self.now, instance);
        let (number, took) = (self.states.served(&served)?, served.took()?);
        if took >= self.plan.traffic.timeout {
            return None;
        }
        let mut round = Round { met: Vec::new(), legs: Vec::new(), served, took, cycle: (0.0, 0.0) };
        let mut from = state;
        while round.legs.len() < MAX_LEGS {
            let leg = self.leg(instance, (from, number), &mut round)?;
            let (to, _) = leg.to?;
            round.cycle = cycle(&leg.acting, took.as_secs_f64());
            round.legs.push(leg);
            if to == from {
                for leg in &mut round.legs {
                    leg.waited = round.met.iter().map(|met| self.waited(met.flow, leg, took)).collect();
                }
                return self.is_calm(&round).then_some(round);
            }
            from = to;
        }
        None
    }

    /// How a fetch comes that is served so, and where it leads from a state.
    fn leg(&mut self, instance: u32, (from, served): (StateId, usize), round: &mut Round) -> Option<Leg> {
        let acting = self.acting(instance, from);
        let mut leg = Leg { from, to: None, phases: 0, acting, waits: false, waited: Vec::new() };
        let mut expected = 0.0;
        for phase in 0..=self.states.phases(from).len() {
            // What is never reached need not be a part of it.
            if expected < SURELY_ONE {
                let deed = Deed { phase, actor: Actor::Timer, served };
                self.go_round(instance, deed, &mut leg, round)?;
                leg.phases = phase + 1;
            }
            let acting = leg.acting.iter().filter(|acting| acting.phase == phase);
            expected += acting.map(Acting::amount).sum::<f64>();
        }
        (expected > 0.0).then_some(leg)
    }

    /// Until when it is known which flows there are: the first token of a new key may come with any renewal.
    fn next_turn(&self) -> Option<Time> {
        let turn = self.turns.front().copied()?;
        Some(if self.clients.key_to_come().is_some() { turn.min(self.next_of_clients()) } else { turn })
    }

    /// When requests act on a cache in a state.
    fn acting(&self, instance: u32, state: StateId) -> Vec<Acting> {
        let phases = self.states.phases(state);
        let of_phase = phases.iter().enumerate().map(|(phase, it)| {
            let acting = self.flows_to(instance).filter(|flow| it.meets[self.flows[*flow].kind].is_none());
            let per_second = acting.map(|flow| self.flows[flow].requests.per_second()).sum();
            let next = phases.get(phase + 1).map(|next| next.from).or(self.states.wakes(state));
            let until = next.map_or(f64::INFINITY, Span::as_secs_f64);
            Acting { phase, from: it.from.as_secs_f64(), until, per_second }
        });
        let timer = self.states.wakes(state).map(|wakes| Acting {
            phase: phases.len(),
            from: wakes.as_secs_f64(),
            until: f64::INFINITY,
            per_second: f64::INFINITY,
        });
        of_phase.chain(timer).filter(|acting| acting.per_second > 0.0).collect()
    }

    /// Notes how requests end in one phase of a leg and during the fetches that begin in it. `None` if these lead
    /// elsewhere, or requests of one flow end differently.
    fn go_round(&mut self, instance: u32, deed: Deed, leg: &mut Leg, round: &mut Round) -> Option<()> {
        let phases = self.states.phases(leg.from).len();
        if deed.phase == phases {
            if self.states.wakes(leg.from).is_none() {
                return Some(());
            }
            let deed = Deed { phase: phases - 1, ..deed };
            return self.go_along(instance, deed, leg, round);
        }
        for place in 0..self.live.len() {
            let flow = self.live[place];
            if !self.flows[flow].has(instance) {
                continue;
            }
            let kind = self.flows[flow].kind;
            match self.states.phases(leg.from)[deed.phase].meets[kind] {
                Some(checked) => self.note((flow, checked), false, round)?,
                None => self.go_along(instance, Deed { actor: Actor::Token(kind), ..deed }, leg, round)?,
            }
        }
        Some(())
    }

    /// Notes how requests end during a fetch of a round.
    fn go_along(&mut self, instance: u32, deed: Deed, leg: &mut Leg, round: &mut Round) -> Option<()> {
        let id = self.states.step(leg.from, deed)?;
        let step = *self.states.found(id);
        let leads = (step.to, step.holds);
        if *leg.to.get_or_insert(leads) != leads || matches!(step.holds, Holds::For(_)) {
            return None;
        }
        for place in 0..self.live.len() {
            let flow = self.live[place];
            if !self.flows[flow].has(instance) {
                continue;
            }
            let kind = self.flows[flow].kind;
            match self.states.during(id, kind)? {
                During::Ends(checked) => self.note((flow, checked), true, round)?,
                During::Joins(checked) => self.note((flow, checked), false, round)?,
                During::Acts => return None,
            }
            if let Some(acted) = step.actor.filter(|_| deed.actor == Actor::Token(kind)) {
                self.note((flow, acted.checked), false, round)?;
                leg.waits |= acted.waits;
            }
        }
        Some(())
    }

    /// Notes how requests of a flow end in a round, and whether during a fetch without waiting for it; `None` if others of it end
    /// differently.
    fn note(
        &self,
        (flow, checked): (usize, Result<(), Rejection>),
        meanwhile: bool,
        round: &mut Round,
    ) -> Option<()> {
        let outcome = self.service.outcome(checked.and(self.flows[flow].claims));
        match round.met.iter_mut().find(|met| met.flow == flow) {
            Some(met) => {
                met.meanwhile |= meanwhile;
                (met.outcome == outcome).then_some(())
            }
            None => {
                round.met.push(Met { flow, outcome, meanwhile });
                Some(())
            }
        }
    }

    /// Whether nothing that is not foreseen could change what comes: no key's share, unless it makes no difference.
    fn is_calm(&self, round: &Round) -> bool {
        let reacts = self.plan.traffic.on_reject != OnReject::Keep;
        let acts = |flow: usize| {
            let phases = round.legs.iter().flat_map(|leg| self.states.phases(leg.from));
            phases.map(|phase| phase.meets[self.flows[flow].kind].is_none()).collect::<Vec<bool>>()
        };
        let of_sessions: Vec<(usize, Outcome)> = round
            .met
            .iter()
            .filter(|met| self.flows[met.flow].is_of_sessions())
            .map(|met| (met.flow, met.outcome))
            .collect();
        let stream = |flow: usize| self.flows[flow].lane.stream;
        let differ = |pair: &[(usize, Outcome)]| {
            let [(one, met), (other, others)] = [pair[0], pair[1]];
            stream(one) == stream(other) && (met != others || acts(one) != acts(other))
        };
        let is_rejected = |(_, outcome): &(usize, Outcome)| matches!(outcome, Outcome::Rejected(_));
        let has_room = |leg: &Leg| {
            let rates = round.met.iter().map(|met| self.flows[met.flow].requests.per_second());
            self.has_room_for(rates.zip(&leg.waited).map(|(rate, waited)| rate * waited).sum())
        };
        round.legs.iter().all(has_room)
            && (round.legs.len() == 1 || !round.met.iter().any(|met| self.is_denied(met)))
            && !of_sessions.windows(2).any(differ)
            && !(reacts && of_sessions.iter().any(is_rejected))
    }

    /// Draws when the fetches of a round begin from now on, none of them later than `latest`.
    fn draw(&mut self, instance: u32, since: Time, round: &Round, latest: Time) -> Drawn {
        let (now, took, status) = (self.now.max(since), round.took.as_secs_f64(), round.served.status);
        // In seconds from now, or from the end of the fetch that is under way.
        let latest = latest.since(now).as_secs_f64();
        let rng = &mut self.instances[instance as usize].rng;
        let mut counting = self.service.counter().of(status, now);
        let (mut legs, circle) = (round.legs.iter(), round.leg(u64::MAX));
        let first = legs.next().unwrap_or(circle);
        let acting_now = later(&first.acting, now.since(since).as_secs_f64());
        let mut asked = first_arrival(&acting_now, Exp1.sample(rng));
        let (mut count, mut last, mut end) = (0, [NOT_YET; 2], NOT_YET);
        while asked < latest {
            // The last two will be listed.
            if last[0] > NOT_YET {
                counting.add(last[0]);
            }
            (last, count) = ([last[1], asked], count + 1);
            end = asked + took;
            let leg = legs.next().unwrap_or(circle);
            if legs.len() == 0
                && let Some(many) = many_that_fit(latest - end, round.cycle)
            {
                let (mean, variance) = round.cycle;
                let passed = many * mean;
                counting.spread((end, end + passed), (1.0 / mean, variance / mean.powi(3)));
                (end, count) = (end + passed, count + many as u64);
            }
            asked = end + first_arrival(&leg.acting, Exp1.sample(rng));
        }
        let at = |seconds: f64| (seconds > NOT_YET).then(|| now + Span::from_secs(1).scale(seconds));
        Drawn { count, last: last.map(at), ended: at(end).unwrap_or(since) }
    }

    /// Those who are denied while a fetch of a round is under way have another reason than those after it.
    fn let_end_meanwhile(&mut self, instance: u32, met: &Met, round: &Round, drawn: &Drawn) {
        let Some(moment) = drawn.last[1].filter(|_| met.meanwhile) else { return };
        let (cell, flow) = (self.cell(instance, met.flow), &self.flows[met.flow]);
        let seconds = round.took.as_secs_f64() * drawn.count as f64;
        if let Some(stretch) = self.cells[cell].stretch.as_mut().filter(|_| flow.ruling == Ruling::MustPass) {
            stretch.meanwhile = (flow.requests.per_second() * seconds, moment);
        }
    }

    /// For how long requests of a flow come that wait for the fetch of a leg, in seconds: for the one that causes it, and those
    /// that join.
    fn waited(&self, flow: usize, leg: &Leg, took: Span) -> f64 {
        let phases = self.states.phases(leg.from);
        let phase = phases.iter().rposition(|phase| phase.meets[self.flows[flow].kind].is_none());
        let in_phase = |acting: &&Acting| leg.waits && Some(acting.phase) == phase;
        let acting = leg.acting.iter().find(in_phase);
        acting.map_or(0.0, |acting| 1.0 / acting.per_second + took.as_secs_f64())
    }
}

/// How many fetches are expected within so many seconds, but for the last, if they are many and need not be drawn one by one.
fn many_that_fit(seconds: f64, (mean, variance): (f64, f64)) -> Option<f64> {
    if mean >= SLOW && variance < AT_RANDOM * mean * mean {
        return None;
    }
    let fit = seconds / mean;
    (fit > 2.0 * DRAWN).then(|| (fit - DRAWN).floor())
}

/// The same rates, so many seconds later.
fn later(acting: &[Acting], age: f64) -> Vec<Acting> {
    let left = acting.iter().filter(|it| it.until > age);
    left.map(|it| Acting { from: (it.from - age).max(0.0), until: it.until - age, ..*it }).collect()
}

/// How long after a fetch the next request comes that acts, if the rates come to so much by then: infinity if none does.
fn first_arrival(acting: &[Acting], mut amount: f64) -> f64 {
    for it in acting {
        let all = it.amount();
        if amount <= all {
            return it.from + amount / it.per_second;
        }
        amount -= all;
    }
    f64::INFINITY
}

/// The mean and the variance of the time from the end of a fetch to the end of the next, in seconds.
fn cycle(acting: &[Acting], took: f64) -> (f64, f64) {
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
    use super::*;
    use crate::seed;

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
            let drawn = (0..20_000).map(|_| first_arrival(&acting, Exp1.sample(&mut rng)));
            let (sum, squares) = drawn.fold((0.0, 0.0), |(sum, squares), it| (sum + it, squares + it * it));
            let (mean, variance) = (sum / 20_000.0, squares / 20_000.0 - (sum / 20_000.0_f64).powi(2));
            let (expected, varies) = cycle(&acting, 0.25);
            assert!((mean + 0.25 - expected).abs() < 0.03 * expected, "{rates:?}: {mean} and {expected}");
            assert!((variance - varies).abs() < 0.05 * varies + 1e-3, "{rates:?}: {variance} and {varies}");
        }
        let ends = [acting((0.0, 1.0, 1.0))];
        assert_eq!((first_arrival(&ends, 2.0), cycle(&ends, 0.25).0), (forever, forever));
    }
}
