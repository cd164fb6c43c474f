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
    /// Whether it was the keys at hand that it waits for others than.
    has_tried: bool,
    given_up: bool,
}

/// Requests that wait with one that was played and came in one go.
#[derive(Clone, Copy, Debug)]
struct Followers {
    from: Time,
    until: Time,
    /// How many they are, as expected.
    expected: f64,
    /// How many they were when there was no room for more.
    count: Option<u64>,
}

/// The room for those that wait for keys at an instance without being played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    cache: usize,
    /// How many there is room for.
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
        if self.room_left(instance).is_some_and(|left| left <= 0.0) {
            self.close(instance);
        }
        let it = &self.flows[flow];
        let Some(token) = it.token(&self.service.world, ticket) else { return };
        let holder = if it.is_of_sessions() { self.clients.any_holder(it.lane.key) } else { None };
        let arrival = Arrival {
            at: self.now,
            stream: it.lane.stream,
            session: holder.map(|(session, _)| session),
            replica: instance / self.plan.workers,
            connection: 0,
        };
        let leader = Leader {
            instance,
            cache: self.service.cache_of(instance),
            flow,
            arrival,
            token: token.facts,
            token_number: holder.map_or(0, |(_, number)| number),
            followers: Vec::new(),
            survival: self.clients.survival(it.lane.key),
            has_tried: false,
            given_up: false,
        };
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

    /// The requests of a flow wait for a fetch: with a leader, if one of them waits already. Returns until when.
    pub(super) fn wait(&mut self, instance: u32, flow: usize) -> Time {
        let (cell, cache) = (self.cell(instance, flow), self.service.cache_of(instance));
        let leader = self.cells[cell].leader.and_then(|ticket| {
            // One that asks again has got further than those who come now.
            let has_tried = self.service.has_asked_again(ticket);
            let leader = self.leaders.get_mut(&ticket);
            leader.filter(|leader| leader.cache == cache && leader.has_tried == has_tried)
        });
        let Some(leader) = leader else {
            self.await_next(instance, flow);
            return Time::NEVER;
        };
        if !matches!(self.cells[cell].mode, Mode::Follows(_)) {
            leader.followed_from(self.now);
            self.pause(instance, flow);
            if let Some(stretch) = &mut self.cells[cell].stretch {
                stretch.is_broken = true;
            }
            self.cells[cell].mode = Mode::Follows(self.flows[flow].requests.mass(self.now));
        }
        let own = &mut self.instances[instance as usize];
        if own.crowd.is_none_or(|crowd| crowd.cache != cache) {
            own.crowd = Some(Crowd { cache, room: 0, limit: 0.0 });
        }
        match self.room_left(instance) {
            Some(left) if left > 0.0 => {
                self.now + Span::from_secs(1).scale(left / self.following(instance).1) + ROUNDING
            }
            _ => {
                self.close(instance);
                self.now
            }
        }
    }

    /// How many more are expected to follow leaders at an instance before nobody else may, if any follow.
    fn room_left(&mut self, instance: u32) -> Option<f64> {
        let cache = self.service.cache_of(instance);
        let Instance { crowd, rng, .. } = &mut self.instances[instance as usize];
        let crowd = crowd.as_mut().filter(|crowd| crowd.cache == cache)?;
        crowd.resize(self.service.room(cache), rng);
        let limit = crowd.limit;
        Some(limit - self.following(instance).0)
    }

    /// How many follow leaders at an instance who have not been counted, and how many more each second.
    fn following(&self, instance: u32) -> (f64, f64) {
        let open = self.followers(instance).filter(|followers| followers.count.is_none());
        let gone: f64 = open.map(|followers| followers.expected).sum();
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

    /// Those who wait for the cache that an instance has, without being played.
    fn followers(&self, instance: u32) -> impl Iterator<Item = &Followers> {
        let cache = self.service.cache_of(instance);
        let leaders = self.instances[instance as usize].leaders.iter();
        let leaders = leaders.filter_map(|ticket| self.leaders.get(ticket));
        leaders.filter(move |leader| leader.cache == cache).flat_map(|leader| &leader.followers)
    }

    /// There is no room for others any more at an instance: from now on it is certain how many wait.
    fn close(&mut self, instance: u32) {
        for place in 0..self.live.len() {
            let flow = self.live[place];
            if matches!(self.cells[self.cell(instance, flow)].mode, Mode::Follows(_)) {
                self.pause(instance, flow);
            }
        }
        let cache = self.service.cache_of(instance);
        let (all, room) = (self.following(instance).0, self.service.room(cache));
        let own = &mut self.instances[instance as usize];
        own.crowd = None;
        let luck: f64 = own.rng.random();
        let rounded = |expected: f64| (room as f64 * expected / all.max(f64::MIN_POSITIVE) + luck) as u64;
        let mut sum = 0.0;
        for ticket in &own.leaders {
            let Some(leader) = self.leaders.get_mut(ticket).filter(|leader| leader.cache == cache) else {
                continue;
            };
            for followers in leader.followers.iter_mut().filter(|followers| followers.count.is_none()) {
                let before = rounded(sum);
                sum += followers.expected;
                followers.count = Some(rounded(sum) - before);
            }
        }
        self.tell_of_others(instance);
    }

    /// Tells the cache of an instance how many wait whom it does not know.
    fn tell_of_others(&mut self, instance: u32) {
        let others = self.followers(instance).filter_map(|followers| followers.count).sum();
        self.service.others_wait(self.service.cache_of(instance), others);
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
        self.instances[instance as usize].leaders.remove(&ticket);
        if let Some(leader) = self.leaders.remove(&ticket) {
            for followers in &leader.followers {
                self.follow(&leader, followers, outcome);
            }
            if leader.followers.iter().any(|followers| followers.count.is_some()) {
                self.tell_of_others(instance);
            }
        }
        let own = &mut self.instances[instance as usize];
        if own.leaders.is_empty() {
            own.crowd = None;
        }
    }

    /// Those who waited with a request meet what it has met, unless they have lost patience.
    fn follow(&mut self, leader: &Leader, followers: &Followers, outcome: Outcome) {
        let Instance { crowd, rng, .. } = &mut self.instances[leader.instance as usize];
        let room = crowd.map_or(u64::from(self.plan.policy.max_waiters), |crowd| crowd.room);
        let count = followers.count.unwrap_or_else(|| fewer_than(room, followers.expected, rng));
        let length = followers.until.since(followers.from);
        let steps = length.as_secs_f64() / self.fold.track_step.as_secs_f64();
        let groups = count.min(GROUPS * (1 + steps as u64));
        let length = length.scale(1.0 / groups.max(1) as f64);
        // Rounded at random, or the first groups would be the smallest.
        let luck: f64 = rng.random();
        let by = |group: u64| ((count as f64 * group as f64 / groups as f64) + luck) as u64;
        for group in 0..groups {
            let from = followers.from + Span::from_nanos(length.as_nanos().saturating_mul(group));
            let at = from + length.scale(rng.random());
            let count = by(group + 1) - by(group);
            let patience = at + self.plan.traffic.timeout;
            let (outcome, ended) =
                if patience <= self.now { (Outcome::TimedOut, patience) } else { (outcome, self.now) };
            let waited = std::time::Duration::from_nanos(ended.since(at).as_nanos());
            let waited = outcome.status().map(|_| waited);
            let batch = Batch {
                lane: self.flows[leader.flow].lane,
                ruling: self.fold.rule(&leader.token, at, ended),
                outcome,
                count,
                first: at,
                last: at,
                wall: WallTimes { lateness: None, latency: waited, service: waited },
            };
            self.fold.count(&batch);
            self.fold.count_at(leader.instance, &batch, ended);
            if self.flows[leader.flow].is_of_sessions() && matches!(outcome, Outcome::Rejected(_)) {
                let waited = ended.since(at).as_secs_f64() / ended.since(leader.arrival.at).as_secs_f64();
                self.clients.rejected(leader.token.key, count, (leader.survival, waited), self.now);
            }
        }
    }
}

impl Leader {
    /// Others follow it from now on, if they do not already.
    fn followed_from(&mut self, now: Time) {
        if self.followers.last().is_none_or(|last| last.until < now || last.count.is_some()) {
            self.followers.push(Followers { from: now, until: now, expected: 0.0, count: None });
        }
    }

    /// So many more follow it, as expected, who came by then.
    pub(super) fn followed_by(&mut self, more: f64, until: Time) {
        if let Some(last) = self.followers.last_mut() {
            (last.expected, last.until) = (last.expected + more, until);
        }
    }
}

impl Crowd {
    /// Each that is played takes the place of one that is not, and leaves it to another when it goes.
    fn resize(&mut self, room: u64, rng: &mut ChaCha8Rng) {
        if room < self.room {
            self.limit *= room as f64 / self.room as f64;
        } else if let Ok(more) = Gamma::new((room - self.room) as f64, 1.0) {
            self.limit += more.sample(rng);
        }
        self.room = room;
    }
}

/// How many came, of so many expected, if there was room for one more.
fn fewer_than(room: u64, expected: f64, rng: &mut ChaCha8Rng) -> u64 {
    let mut draws = std::iter::repeat_with(|| poisson(expected, rng)).take(TRIES);
    draws.find(|count| *count < room).unwrap_or(room.saturating_sub(1))
}
