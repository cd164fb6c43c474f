//! Instances whose caches are at rest walk from state to state, without a cache of their own.
//!
//! What they meet on the way is known from [`super::states`], so only moments are drawn. What no state foretells is played on a
//! real cache.

use keyquake_core::{Span, Time};

use super::Simulation;
use super::counts;
use super::delays::Waiting;
use super::flow::Flow;
use super::states::{Acted, Actor, Deed, During, Holds, StateId, States, StepId};
use crate::observe::{Batch, Outcome};
use crate::scenario::OnReject;
use crate::simulate::world::Served;

/// How many standard deviations nothing exceeds.
const SURELY: f64 = 6.0;

/// Where an instance is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    pub(super) state: StateId,
    /// When it got there.
    pub(super) since: Time,
    /// Until when that is its state if no fetch ends.
    pub(super) holds_until: Time,
    pub(super) phase: usize,
    /// The fetch that is under way, and when it ends.
    pub(super) fetch: Option<(StepId, Time)>,
}

impl Walk {
    /// Where it is when the fetch has ended that is under way.
    pub(super) fn landed(self, states: &States) -> Self {
        let Some((step, ended)) = self.fetch else { return self };
        let step = states.found(step);
        let holds_until = match step.holds {
            Holds::AsBefore => self.holds_until,
            Holds::For(span) => self.since + span,
            Holds::Forever => Time::NEVER,
        };
        Self { state: step.to, since: ended, holds_until, phase: 0, fetch: None }
    }
}

impl Simulation<'_> {
    /// Has an instance walk if nothing at it is under way and its state is known.
    pub(super) fn settle_down(&mut self, instance: u32) {
        let own = &self.instances[instance as usize];
        if own.walk.is_some() || !own.leaders.is_empty() {
            return;
        }
        let Some((rest, holds_until, since)) = self.service.rest(instance) else { return };
        if let Some(state) = self.states.of(rest).filter(|_| self.now < holds_until) {
            self.service.lay_down(instance);
            self.instances[instance as usize].walk =
                Some(Walk { state, since, holds_until, phase: 0, fetch: None });
            self.walk_on(instance);
        }
    }

    /// Brings an instance that walks to where it is by now. Returns whether a timer of its cache has run down.
    pub(super) fn walk_on(&mut self, instance: u32) -> bool {
        let now = self.now;
        let Some(walk) = &mut self.instances[instance as usize].walk else { return false };
        if walk.fetch.is_some_and(|(_, ends)| ends <= now) {
            *walk = walk.landed(&self.states);
        }
        if walk.holds_until <= now {
            self.get_up(instance);
            return false;
        }
        let age = now.since(walk.since);
        let phases = self.states.phases(walk.state);
        while walk.fetch.is_none() && phases.get(walk.phase + 1).is_some_and(|next| next.from <= age) {
            walk.phase += 1;
        }
        walk.fetch.is_none() && self.states.wakes(walk.state).is_some_and(|wakes| wakes <= age)
    }

    /// Finds out what each flow meets at an instance from now on, if it walks. Returns whether it does.
    pub(super) fn look_on_walk(&mut self, instance: u32) -> bool {
        let Some(walk) = &self.instances[instance as usize].walk else { return false };
        let &Walk { state, phase, fetch, .. } = walk;
        let until = match fetch {
            Some((_, ends)) => ends,
            None => (walk.since + self.states.end(state, phase)).min(walk.holds_until),
        };
        let mut acting = std::mem::take(&mut self.acting);
        for place in 0..self.live.len() {
            let flow = self.live[place];
            let Flow { kind, claims, .. } = self.flows[flow];
            if !self.flows[flow].has(instance) {
                continue;
            }
            let checked = match fetch {
                Some((step, _)) => self.states.during(step, kind).and_then(During::checked),
                None => self.states.phases(state)[phase].meets[kind],
            };
            match checked {
                Some(checked) => self.resume(instance, flow, self.service.outcome(checked.and(claims))),
                None => acting.push(flow),
            }
        }
        self.await_any(instance, &acting);
        acting.clear();
        self.acting = acting;
        self.alarm(instance, until);
        true
    }

    /// A request of a flow, or the timer, makes the cache of an instance act that walks.
    pub(super) fn act(&mut self, instance: u32, flow: Option<usize>) {
        let actor = flow.map_or(Actor::Timer, |flow| Actor::Token(self.flows[flow].kind));
        match self.foreseen(instance, actor) {
            Some((step, served)) => self.take_step(instance, flow, step, &served),
            None => match flow {
                Some(flow) => {
                    self.end_wait(instance, self.cells[self.cell(instance, flow)].mode);
                    self.send(flow, instance);
                    self.look_again(instance);
                }
                None => {
                    self.get_up(instance);
                    self.service.wake(instance, self.now);
                    self.settle();
                }
            },
        }
    }

    /// Has an instance go on with a real cache.
    pub(super) fn get_up(&mut self, instance: u32) {
        if let Some(walk) = self.instances[instance as usize].walk.take() {
            self.service.get_up(instance, (self.states.rest(walk.state), walk.holds_until), walk.since);
        }
    }

    /// What comes of an act, if it is known and all who wait for it will meet the same.
    fn foreseen(&mut self, instance: u32, actor: Actor) -> Option<(StepId, Served)> {
        let walk = self.instances[instance as usize].walk.filter(|walk| walk.fetch.is_none())?;
        if !self.service.world.is_steady(self.now) {
            return None;
        }
        let served = self.service.world.ask(self.now, instance);
        let deed = Deed { phase: walk.phase, actor, served: self.states.served(&served)? };
        let step = self.states.step(walk.state, deed)?;
        let took = self.states.found(step).took;
        let ends = self.now + took;
        let over = walk.since + self.states.end(walk.state, walk.phase);
        let over = if actor == Actor::Timer { Time::NEVER } else { over };
        let is_quick = took < self.plan.traffic.timeout && ends <= over.min(walk.holds_until);
        let crosses = self.next_turn() < ends;
        let is_undisturbed = is_quick && (!crosses || self.may_cross(ends));
        (is_undisturbed && self.is_foreseeable(instance, actor, step, crosses)).then_some((step, served))
    }

    /// Whether a fetch that ends then may go on over the next turn: what happens at that makes no difference to those who wait.
    fn may_cross(&self, ends: Time) -> bool {
        let mut turns = self.turns.iter().take_while(|turn| turn.at < ends);
        let turn = turns.next().filter(|turn| self.now < turn.at && !turn.is_abrupt);
        let Some(turn) = turn.filter(|_| turns.next().is_none()) else { return false };
        let stays = |flow: &Flow| {
            let facts = flow.token.as_ref().map(|token| token.facts);
            facts.is_none_or(|facts| self.fold.rule(&facts, self.now, turn.at) == flow.ruling)
        };
        self.flows.iter().filter(|flow| self.may_send(flow)).all(stays)
    }

    /// Whether requests of a flow may come before the next turn.
    fn may_send(&self, flow: &Flow) -> bool {
        flow.is_live() || (flow.is_of_sessions() && self.clients.key_to_come() == Some(flow.lane.key))
    }

    /// Whether nothing but the fetch happens while it is under way, beside a turn, and nobody reacts to what it brings.
    fn is_foreseeable(&mut self, instance: u32, actor: Actor, step: StepId, crosses: bool) -> bool {
        let reacts = self.plan.traffic.on_reject != OnReject::Keep;
        let found = *self.states.found(step);
        let mut joining = 0.0;
        for flow in &self.flows {
            // After a turn any flow may send, and as much as it ever does.
            if !(flow.has(instance) && (crosses || self.may_send(flow))) {
                continue;
            }
            let checked = match self.states.during(step, flow.kind) {
                Some(During::Ends(_)) => None,
                Some(During::Joins(checked)) => {
                    joining += if crosses { flow.full() } else { flow.requests.per_second() };
                    Some(checked)
                }
                Some(During::Acts) | None => return false,
            };
            let acted = found.actor.filter(|_| actor == Actor::Token(flow.kind)).map(|acted| acted.checked);
            let is_rejected = |checked: Result<_, _>| {
                matches!(self.service.outcome(checked.and(flow.claims)), Outcome::Rejected(_))
            };
            if reacts && flow.is_of_sessions() && checked.into_iter().chain(acted).any(is_rejected) {
                return false;
            }
        }
        self.has_room_for(joining * found.took.as_secs_f64())
    }

    /// Whether surely fewer wait than may, of so many that are expected to.
    pub(super) fn has_room_for(&self, waiting: f64) -> bool {
        waiting + SURELY * (1.0 + waiting.sqrt()) < f64::from(self.plan.policy.max_waiters)
    }

    fn take_step(&mut self, instance: u32, flow: Option<usize>, id: StepId, served: &Served) {
        let step = *self.states.found(id);
        let ends = self.now + step.took;
        self.service.note_fetch(instance, served, (self.now, ends));
        if let (Some(flow), Some(Acted { checked, waits })) = (flow, step.actor) {
            let outcome = self.service.outcome(checked.and(self.flows[flow].claims));
            self.count_actor(instance, flow, outcome, if waits { step.took } else { Span::ZERO });
        }
        if let Some(walk) = &mut self.instances[instance as usize].walk {
            walk.fetch = Some((id, ends));
        }
        if !self.leap(instance) {
            self.look_on_walk(instance);
        }
        self.let_join(instance, id, ends);
    }

    /// Looks everywhere after a turn. What flows send from now on joins a fetch that has begun before it.
    pub(super) fn look_beyond_turn(&mut self) {
        for instance in 0..self.plan.instances() {
            let fetch = self.instances[instance as usize].walk.and_then(|walk| walk.fetch);
            self.look_again(instance);
            if let Some((step, ends)) = fetch.filter(|(_, ends)| self.now < *ends) {
                self.let_join(instance, step, ends);
            }
        }
    }

    /// Has those wait who join a fetch from now on, until it ends or flows may change.
    fn let_join(&mut self, instance: u32, id: StepId, ends: Time) {
        let wait = self.states.found(id).took;
        let seconds = ends.min(self.next_turn()).since(self.now).as_secs_f64();
        for place in 0..self.live.len() {
            let flow = self.live[place];
            let it = &self.flows[flow];
            if it.has(instance)
                && let Some(During::Joins(_)) = self.states.during(id, it.kind)
            {
                let joining = it.requests.per_second() * seconds;
                self.let_wait(instance, flow, Waiting { causing: 0.0, joining }, (wait, ends));
            }
        }
    }

    /// Whether a request of a flow ends like this that begins the fetch which an instance is at on its walk.
    pub(super) fn acts_alike(&mut self, instance: u32, flow: usize, outcome: Outcome) -> bool {
        let Some(Walk { state, phase, fetch: Some((step, _)), .. }) = self.instances[instance as usize].walk
        else {
            return false;
        };
        let Flow { kind, claims, .. } = self.flows[flow];
        let acted = self.states.acted(state, phase, step, kind);
        acted.is_some_and(|acted| self.service.outcome(acted.checked.and(claims)) == outcome)
    }

    /// Counts the request that has acted: with those before it, if they met the same.
    fn count_actor(&mut self, instance: u32, flow: usize, outcome: Outcome, waited: Span) {
        let cell = self.cell(instance, flow);
        let stretch = self.cells[cell].stretch.as_ref();
        let goes_on = stretch.is_some_and(|stretch| self.may_go_on(flow, stretch, outcome));
        if let Some(stretch) = self.cells[cell].stretch.as_mut().filter(|_| goes_on) {
            stretch.expected += 1.0;
            let causing = if waited > Span::ZERO { 1.0 } else { 0.0 };
            self.let_wait(instance, flow, Waiting { causing, joining: 0.0 }, (waited, self.now + waited));
            return;
        }
        let it = &self.flows[flow];
        let Some(token) = &it.token else { return };
        let ended = self.now + waited;
        let batch = Batch {
            lane: it.lane,
            ruling: self.fold.rule(&token.facts, self.now, ended),
            outcome,
            count: 1,
            first: self.now,
            last: self.now,
            wall: counts::after(outcome, waited),
        };
        self.fold.count(&batch);
        self.fold.count_at(instance, &batch, ended);
    }

    /// So many more requests of a stretch wait for a fetch that takes so long, as expected, and have their answers at that moment.
    pub(super) fn let_wait(
        &mut self,
        instance: u32,
        flow: usize,
        more: Waiting,
        (wait, answered): (Span, Time),
    ) {
        let cell = self.cell(instance, flow);
        if let Some(stretch) = self.cells[cell].stretch.as_mut().filter(|_| more.all() > 0.0) {
            stretch.answered = stretch.answered.max(answered);
            stretch.delays.add(wait, more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Experience;
    use super::*;
    use crate::plan::testing::simulated;
    use crate::simulate::Detail;

    #[test]
    fn fetches_go_on_over_one_turn_that_changes_nothing_for_those_who_wait() {
        let plan = simulated(
            "duration = \"1m\"\nwarmup = \"10s\"\n[idp]\ntoken_lifetime = \"1h\"\n\
             [[rotation]]\nat = \"20s\"\nlead = \"5s\"\nretention = \"10s\"\n\
             [[runbook]]\nwhen = \"40s\"\ndo = { restart = { rolling = \"0s\" } }\n[traffic]\nrate = \"10/s\"\n\
             [[traffic.stream]]\nname = \"burst\"\ntoken = \"login\"\nburst = { at = \"50s\", count = 3 }\n",
        );
        let mut simulation = Simulation::new(&plan, Detail::Metrics, Experience::default()).unwrap();
        let mut may_cross = |from: i64, until: i64| {
            let at = |secs: i64| Time::from_nanos(secs * 1_000_000_000);
            while simulation.next_turn() <= at(from) {
                simulation.now = simulation.next_turn();
                simulation.turn();
                simulation.turns.pop_front();
            }
            simulation.now = at(from);
            simulation.may_cross(at(until))
        };
        assert!(may_cross(-5, 5), "the end of the warm-up");
        assert!(may_cross(14, 16), "a key that is published early");
        assert!(!may_cross(14, 21), "two turns");
        assert!(may_cross(19, 21), "a key that begins to sign");
        assert!(!may_cross(29, 31), "a key that tokens still carry is taken away");
        assert!(!may_cross(39, 41), "a restart");
        assert!(!may_cross(49, 51), "a burst");
        assert!(may_cross(59, 61), "the end");
    }
}
