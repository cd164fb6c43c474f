//! Instances that walk in a circle leap over it, from where they are on their way there.
//!
//! Where a fetch leads back to the state that it came from, perhaps after others, and no token meets anything else meanwhile, all
//! these fetches until something else happens are drawn at once.

use std::rc::Rc;

use keyquake_core::{Rejection, Span, Time};
use rand_distr::{Distribution, Exp1};

use super::Simulation;
use super::delays::{Leapt, Waiting};
use super::flow::Flow;
use super::rounds::{Acting, Leg, Met, Round, cycle, many_that_fit, next_arrival, settled};
use super::states::{Actor, Deed, During, Holds, StateId, StepId};
use super::walk::Walk;
use crate::observe::Outcome;
use crate::oracle::Ruling;
use crate::scenario::OnReject;

/// The most legs of a round.
const MAX_LEGS: usize = 4;
/// More than so many are expected where a leap is worth its while.
const WORTH_IT: f64 = 0.02;
/// Before any moment that is drawn, in seconds.
const NOT_YET: f64 = -1.0;
/// By when the first event of a Poisson process has surely happened, in events that are expected by then.
const SURELY_ONE: f64 = 40.0;

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
        let Some(horizon) = self.foreseen_until().map(|until| until.min(holds_until)) else { return false };
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
            let seconds = round.waited(place, drawn.count);
            self.let_wait_in_leap(instance, met.flow, seconds, (round.took, drawn.ended));
            self.let_end_meanwhile(instance, met, &round, &drawn);
        }
        let lands = drawn.ended.max(latest);
        // With a turn everybody is looked at.
        let waits = round.leg(drawn.count).acting.first().map_or(0.0, |acting| acting.from);
        let acts = lands.max(drawn.ended + Span::from_secs(1).scale(waits));
        let acts = if self.next_turn() <= acts { Time::NEVER } else { acts };
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
        if let Some(known) = self.rounds.known((state, group)) {
            return known;
        }
        let round = self.find_round(instance, state).map(Rc::new);
        if self.service.world.is_uniform(self.now) {
            self.rounds.note((state, group), round.clone());
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
                    let waited = round.met.iter().map(|met| self.waited(instance, met.flow, leg, number));
                    leg.waited = waited.collect();
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
        let mut leg = Leg { from, to: None, phases: 0, acting, waited: Vec::new() };
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
    fn foreseen_until(&self) -> Option<Time> {
        let turn = self.turns.front()?.at;
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
            self.has_room_for(rates.zip(&leg.waited).map(|(rate, waited)| rate * waited.all()).sum())
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
        let age = now.since(since).as_secs_f64();
        let mut asked = next_arrival(&first.acting, age, Exp1.sample(rng)) - age;
        let (mut count, mut last, mut end, mut may_be_many) = (0, [NOT_YET; 2], NOT_YET, true);
        while asked < latest {
            // The last two will be listed.
            if last[0] > NOT_YET {
                counting.add(last[0]);
            }
            (last, count) = ([last[1], asked], count + 1);
            end = asked + took;
            let leg = legs.next().unwrap_or(circle);
            // After the first of the circle there are only fewer to come.
            if legs.len() == 0
                && std::mem::take(&mut may_be_many)
                && let Some(many) = many_that_fit(latest - end, round.cycle)
            {
                let (mean, variance) = round.cycle;
                let passed = many * mean;
                let from = end + settled(round.cycle, took);
                counting.spread((from, from + passed), (1.0 / mean, variance / mean.powi(3)));
                (end, count) = (end + passed, count + many as u64);
            }
            asked = end + next_arrival(&leg.acting, 0.0, Exp1.sample(rng));
        }
        let at = |seconds: f64| (seconds > NOT_YET).then(|| now + Span::from_secs(1).scale(seconds));
        Drawn { count, last: last.map(at), ended: at(end).unwrap_or(since) }
    }

    /// For so many seconds requests of a flow come from now on that wait for a fetch, the last of them until then.
    fn let_wait_in_leap(
        &mut self,
        instance: u32,
        flow: usize,
        seconds: Waiting,
        (took, answered): (Span, Time),
    ) {
        let (now, cell) = (self.now, self.cell(instance, flow));
        let mass = self.flows[flow].requests.mass(now);
        if let Some(stretch) = self.cells[cell].stretch.as_mut().filter(|_| seconds.all() > 0.0) {
            stretch.land(now, mass);
            stretch.answered = stretch.answered.max(answered);
            stretch.leapt = Some(Leapt { took, seconds, from: now, until: answered, mass });
        }
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

    /// For how many seconds requests of a flow come that wait for the fetch of a leg, on the average.
    fn waited(&mut self, instance: u32, flow: usize, leg: &Leg, served: usize) -> Waiting {
        let kind = self.flows[flow].kind;
        let mut waiting = Waiting::default();
        for (acting, begins) in leg.begins() {
            for (actor, deed, probability) in self.deeds(instance, leg.from, acting, served) {
                let Some(id) = self.states.step(leg.from, deed) else { continue };
                let step = *self.states.found(id);
                if actor == Some(flow) && step.actor.is_some_and(|acted| acted.waits) {
                    waiting.causing += begins / acting.per_second;
                }
                if let Some(During::Joins(_)) = self.states.during(id, kind) {
                    waiting.joining += begins * probability * step.took.as_secs_f64();
                }
            }
        }
        waiting
    }

    /// What may begin a fetch in a phase of a state, and how probably: a request of a flow, or the timer.
    fn deeds(
        &self,
        instance: u32,
        state: StateId,
        acting: &Acting,
        served: usize,
    ) -> Vec<(Option<usize>, Deed, f64)> {
        let phases = self.states.phases(state);
        let Some(phase) = phases.get(acting.phase) else {
            let deed = Deed { phase: phases.len() - 1, actor: Actor::Timer, served };
            return vec![(None, deed, 1.0)];
        };
        let of_flow = |flow: usize| {
            let Flow { kind, ref requests, .. } = self.flows[flow];
            let deed = Deed { phase: acting.phase, actor: Actor::Token(kind), served };
            phase.meets[kind].is_none().then(|| (Some(flow), deed, requests.per_second() / acting.per_second))
        };
        self.flows_to(instance).filter_map(of_flow).collect()
    }
}
