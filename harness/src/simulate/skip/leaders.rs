//! Requests that wait for keys: those that are played, and those that came meanwhile and share their fate.

use keyquake_core::{Span, Time};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};

use super::counts::poisson;
use super::{Instance, Mode, ROUNDING, Simulation};
use crate::arrivals::Arrival;
use crate::observe::{Batch, Observation, Outcome, WallTimes};
use crate::oracle::TokenFacts;
use crate::simulate::fleet::Ticket;

/// How often a draw is tried that may not fit.
const TRIES: usize = 100;
/// In how many groups those that wait for one answer are counted at least, and how many a step has at most.
const GROUPS: u64 = 8;

/// A request that was played and has no answer, and those that wait with it.
pub(super) struct Leader {
    instance: u32,
    /// Which cache it asked: its instance may have another by now.
    cache: usize,
    flow: usize,
    arrival: Arrival,
    token: TokenFacts,
    /// Which of its session's tokens it carries, if a session's.
    token_number: u64,
    followers: Vec<Followers>,
    /// What [`super::Clients::survival`] said when it came.
    survival: f64,
    /// Whether it has waited for other keys than those at hand from the first.
    has_tried: bool,
    given_up: bool,
}

/// Requests that wait with one that was played and came in one go.
#[derive(Clone, Copy, Debug)]
struct Followers {
    from: Time,
    until: Time,
    /// What an instance had got of the flow at `from` and at `until`.
    mass: (f64, f64),
    /// How many they were, once that is certain.
    count: Option<u64>,
    /// Whether the last of them took the last room, which ended it.
    fills: bool,
}

/// The room for those that wait for a cache without being played, until that changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    cache: usize,
    room: u64,
    /// How many are expected when the last of them comes: a sum of as many exponential amounts.
    limit: f64,
}

impl Simulation<'_> {
    /// Plays a request.
    pub(super) fn send(&mut self, flow: usize, instance: u32) {
        self.get_up(instance);
        let ticket = self.started;
        self.started += 1;
        self.catch_up();
        self.count_followers(instance);
        let Some(token) = self.flows[flow].token(&self.service.world, ticket) else { return };
        let leader = self.leader(flow, instance, token.facts);
        self.leaders.insert(ticket, leader);
        self.instances[instance as usize].leaders.insert(ticket);
        let cell = self.cell(instance, flow);
        if let Some(stretch) = &mut self.cells[cell].stretch {
            stretch.is_broken = true;
        }
        // Who followed another stays with that one.
        if matches!(self.cells[cell].mode, Mode::Follows(_)) {
            self.pause(instance, flow);
        }
        self.service.enter(ticket, token, instance, self.now);
        if let Some(leader) = self.leaders.get_mut(&ticket) {
            leader.has_tried = self.service.has_asked_again(ticket);
        }
        self.cells[cell].leader = Some(ticket);
        self.settle();
    }

    /// A request of a flow that comes now.
    fn leader(&mut self, flow: usize, instance: u32, token: TokenFacts) -> Leader {
        let it = &self.flows[flow];
        let holder = if it.is_of_sessions() { self.clients.any_holder(it.lane.key) } else { None };
        let arrival = Arrival {
            at: self.now,
            stream: it.lane.stream,
            session: holder.map(|(session, _)| session),
            replica: instance / self.plan.workers,
            connection: 0,
        };
        Leader {
            instance,
            cache: self.service.cache_of(instance),
            flow,
            arrival,
            token,
            token_number: holder.map_or(0, |(_, number)| number),
            followers: Vec::new(),
            survival: self.clients.survival(it.lane.key),
            has_tried: false,
            given_up: false,
        }
    }

    /// The requests of a flow wait for a fetch: with a leader, if one of them waits already. Returns until when.
    pub(super) fn wait(&mut self, instance: u32, flow: usize) -> Time {
        let (cell, cache) = (self.cell(instance, flow), self.service.cache_of(instance));
        let leader = self.cells[cell].leader.filter(|ticket| self.leads(*ticket, cache));
        let Some(leader) = leader else {
            self.await_next(instance, flow);
            return Time::NEVER;
        };
        let holds = |crowd: Crowd| (crowd.cache, crowd.room) == (cache, self.service.room(cache));
        if self.instances[instance as usize].crowd.is_some_and(|crowd| !holds(crowd)) {
            self.count_followers(instance);
        }
        let room = self.service.room(cache);
        if room == 0 {
            return self.now;
        }
        if !matches!(self.cells[cell].mode, Mode::Follows(_)) {
            self.pause(instance, flow);
            let mass = self.flows[flow].requests.mass(self.now);
            self.cells[cell].mode = Mode::Follows(mass);
            if let Some(leader) = self.leaders.get_mut(&leader) {
                leader.followed_from(self.now, mass);
            }
        }
        let (following, per_second) = self.following(instance, cache);
        let own = &mut self.instances[instance as usize];
        let crowd = own.crowd.get_or_insert_with(|| Crowd::new(cache, room, &mut own.rng));
        let left = crowd.limit - following;
        if left > 0.0 {
            return self.now + Span::from_secs(1).scale(left / per_second) + ROUNDING;
        }
        self.count_followers(instance);
        self.now
    }

    /// Whether those who come now meet what a request meets that waits. One that asks again has got further.
    fn leads(&self, ticket: Ticket, cache: usize) -> bool {
        let has_tried = self.service.has_asked_again(ticket);
        let leader = self.leaders.get(&ticket);
        leader.is_some_and(|leader| leader.cache == cache && leader.has_tried == has_tried)
    }

    /// How many follow leaders that wait for a cache who have not been counted, and how many more each second.
    fn following(&self, instance: u32, cache: usize) -> (f64, f64) {
        let open = self.followers(instance, cache).filter(|followers| followers.count.is_none());
        let gone: f64 = open.map(Followers::expected).sum();
        self.flows_to(instance).fold((gone, 0.0), |(following, per_second), flow| {
            let requests = &self.flows[flow].requests;
            match self.cells[self.cell(instance, flow)].mode {
                Mode::Follows(since) => {
                    (following + requests.mass(self.now) - since, per_second + requests.per_second())
                }
                _ => (following, per_second),
            }
        })
    }

    /// Those who wait for a cache without being played.
    fn followers(&self, instance: u32, cache: usize) -> impl Iterator<Item = &Followers> {
        let leaders = self.instances[instance as usize].leaders.iter();
        let leaders = leaders.filter_map(|ticket| self.leaders.get(ticket));
        leaders.filter(move |leader| leader.cache == cache).flat_map(|leader| &leader.followers)
    }

    /// From now on it is certain how many follow leaders: as many as there is room for, or fewer. Those who come later are
    /// counted with others.
    fn count_followers(&mut self, instance: u32) {
        let Some(crowd) = self.instances[instance as usize].crowd.take() else { return };
        for place in 0..self.live.len() {
            let flow = self.live[place];
            if matches!(self.cells[self.cell(instance, flow)].mode, Mode::Follows(_)) {
                self.pause(instance, flow);
            }
        }
        let (all, _) = self.following(instance, crowd.cache);
        let Instance { leaders, rng, .. } = &mut self.instances[instance as usize];
        let count = crowd.count(all, rng);
        let (luck, last): (f64, f64) = (rng.random(), all * rng.random::<f64>());
        let rounded = |expected: f64| (count as f64 * expected / all.max(f64::MIN_POSITIVE) + luck) as u64;
        let mut sum = 0.0;
        for ticket in leaders.iter() {
            let Some(leader) = self.leaders.get_mut(ticket).filter(|leader| leader.cache == crowd.cache)
            else {
                continue;
            };
            for followers in leader.followers.iter_mut().filter(|followers| followers.count.is_none()) {
                let before = sum;
                sum += followers.expected();
                followers.count = Some(rounded(sum) - rounded(before));
                followers.fills = count == crowd.room && (before..sum).contains(&last);
            }
        }
        self.tell_of_others(instance, crowd.cache);
    }

    /// Tells a cache of an instance how many wait whom it does not know.
    fn tell_of_others(&mut self, instance: u32, cache: usize) {
        let others = self.followers(instance, cache).filter_map(|followers| followers.count).sum();
        self.service.others_wait(cache, others);
    }

    pub(super) fn ended(&mut self, ticket: Ticket, outcome: Outcome) {
        let Some(leader) = self.leaders.get_mut(&ticket) else { return };
        if !leader.given_up {
            leader.given_up = outcome == Outcome::TimedOut;
            self.fold.take(&Observation {
                arrival: leader.arrival,
                instance: leader.instance,
                token: leader.token,
                sent: None,
                ended: self.now,
                outcome,
            });
            if let (Some(session), Outcome::Rejected(_)) = (leader.arrival.session, outcome) {
                self.clients.reject(session, leader.token_number, self.now);
            }
            if outcome == Outcome::TimedOut {
                return;
            }
        }
        let (instance, flow) = (leader.instance, leader.flow);
        let cell = self.cell(instance, flow);
        if self.cells[cell].leader == Some(ticket) {
            if matches!(self.cells[cell].mode, Mode::Follows(_)) {
                self.pause(instance, flow);
            }
            self.cells[cell].leader = None;
        }
        self.count_followers(instance);
        self.instances[instance as usize].leaders.remove(&ticket);
        let Some(leader) = self.leaders.remove(&ticket) else { return };
        for followers in &leader.followers {
            self.follow(&leader, followers, outcome);
        }
        if !leader.followers.is_empty() {
            self.tell_of_others(instance, leader.cache);
        }
    }

    /// Those who waited with a request meet what it has met, unless they have lost patience.
    fn follow(&mut self, leader: &Leader, followers: &Followers, outcome: Outcome) {
        let Followers { from, until, mass, count, fills } = *followers;
        let count = count.unwrap_or_default();
        let last = if fills { count.min(1) } else { 0 };
        let steps = until.since(from).as_secs_f64() / self.fold.track_step.as_secs_f64();
        let (count, groups) = (count - last, (count - last).min(GROUPS * (1 + steps as u64)));
        let (flow, rng) = (&mut self.flows[leader.flow], &mut self.instances[leader.instance as usize].rng);
        flow.tick(until);
        // Rounded at random, or the first groups would be the smallest.
        let luck: f64 = rng.random();
        let by = |group: u64| ((count as f64 * group as f64 / groups as f64) + luck) as u64;
        let any_moment = (0..groups).map(|group| {
            let part = (group as f64 + rng.random::<f64>()) / groups as f64;
            (flow.moment(part, (from, until), mass), by(group + 1) - by(group))
        });
        for (at, count) in any_moment.chain((last > 0).then_some((until, last))) {
            let patience = at + self.plan.traffic.timeout;
            let (outcome, ended) =
                if patience <= self.now { (Outcome::TimedOut, patience) } else { (outcome, self.now) };
            let waited = std::time::Duration::from_nanos(ended.since(at).as_nanos());
            let waited = outcome.status().map(|_| waited);
            let batch = Batch {
                lane: flow.lane,
                ruling: self.fold.rule(&leader.token, at, ended),
                outcome,
                count,
                first: at,
                last: at,
                wall: WallTimes { lateness: None, latency: waited, service: waited },
            };
            self.fold.count(&batch);
            self.fold.count_at(leader.instance, &batch, ended);
            if flow.is_of_sessions() && matches!(outcome, Outcome::Rejected(_)) {
                let waited = ended.since(at).as_secs_f64() / ended.since(leader.arrival.at).as_secs_f64();
                self.clients.rejected(leader.token.key, count, (leader.survival, waited), self.now);
            }
        }
    }
}

impl Leader {
    /// Others follow it from now on, if they do not already.
    fn followed_from(&mut self, now: Time, mass: f64) {
        if self.followers.last().is_none_or(|last| last.until < now || last.count.is_some()) {
            self.followers.push(Followers {
                from: now,
                until: now,
                mass: (mass, mass),
                count: None,
                fills: false,
            });
        }
    }

    /// Others followed it until then, when an instance had got so much.
    pub(super) fn followed_until(&mut self, until: Time, mass: f64) {
        if let Some(last) = self.followers.last_mut() {
            (last.until, last.mass.1) = (until, mass);
        }
    }
}

impl Followers {
    /// How many they are, as expected.
    fn expected(&self) -> f64 {
        self.mass.1 - self.mass.0
    }
}

impl Crowd {
    fn new(cache: usize, room: u64, rng: &mut ChaCha8Rng) -> Self {
        let limit = Gamma::new(room as f64, 1.0).map_or(0.0, |gamma| gamma.sample(rng));
        Self { cache, room, limit }
    }

    /// How many came, of so many expected.
    fn count(self, expected: f64, rng: &mut ChaCha8Rng) -> u64 {
        if expected >= self.limit {
            return self.room;
        }
        let mut draws = std::iter::repeat_with(|| poisson(expected, rng)).take(TRIES);
        draws.find(|count| *count < self.room).unwrap_or(self.room.saturating_sub(1))
    }
}
