//! The caches of all instances, and what passes between them and the IdP.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyquake_core::{Answer, Decision, Event, FetchId, KeyCache, Rest, Time, Wake};
use keyquake_idp::{JwksLog, JwksLogEntry};
use rand::Rng;

use super::counter::Counter;
use super::world::{Served, World};
use crate::plan::Plan;
use crate::seed;

/// How many requests of an instance are listed in most runs.
const FEW_REQUESTS: usize = 24;

/// Names a lookup.
pub(super) type Ticket = u64;

/// Every cache that there is or was: a restart puts a new one in the place of the old.
pub(super) struct Fleet {
    caches: Vec<Cache>,
    /// The cache of each instance.
    current: Vec<usize>,
    /// The JWKS requests under way, and where each is in the log.
    flights: BTreeMap<(usize, FetchId), Option<usize>>,
    log: Log,
    /// When what an instance would answer changed: fetches began and ended, its waiters came to as many as may wait, it was
    /// restarted. Only noted of fetches that go as they are known to have gone.
    changes: Option<BTreeMap<u32, Vec<Time>>>,
    /// Instances at which something happened, until somebody asks.
    touched: Vec<u32>,
}

pub(super) struct Cache {
    instance: u32,
    pub(super) cache: KeyCache<(), Ticket>,
    deadline: Option<Time>,
    /// When something about it changed last.
    changed: Time,
    /// How many of its fetches are under way.
    flying: u32,
    /// How many lookups it has not answered.
    waiting: u32,
    /// How many others wait for what it answers.
    others: u64,
}

impl Cache {
    /// How many more may wait.
    fn room(&self) -> u64 {
        u64::from(self.cache.policy().max_waiters).saturating_sub(u64::from(self.waiting) + self.others)
    }
}

/// What has passed between a fleet and its IdP.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) entries: Vec<JwksLogEntry>,
    pub(super) dropped: u64,
    pub(super) counted: Counter,
}

/// What a fleet waits for.
#[derive(Debug)]
pub(super) enum Pending {
    /// The deadline of a cache.
    Deadline(usize),
    /// The end of a fetch.
    Fetched(usize, FetchId, Box<Served>),
}

/// What an event led to.
#[derive(Debug, Default)]
pub(super) struct Reaction {
    pub(super) answers: Vec<(Ticket, Answer<()>)>,
    pub(super) pending: Vec<(Time, Pending)>,
}

impl Fleet {
    /// The fleet of a plan, with its caches as old as planned, and each ready for [`Event::Start`].
    pub(super) fn new(plan: &Plan, world: &World) -> anyhow::Result<Self> {
        let instances = plan.instances() as usize;
        let room = (FEW_REQUESTS * instances).min(JwksLog::MAX_ENTRIES);
        let mut fleet = Self {
            caches: Vec::with_capacity(instances),
            current: Vec::with_capacity(instances),
            flights: BTreeMap::new(),
            log: Log { entries: Vec::with_capacity(room), dropped: 0, counted: Counter::new(plan) },
            changes: world.is_scripted().then(BTreeMap::new),
            touched: Vec::new(),
        };
        let start = Time::ZERO - plan.warmup;
        for (instance, filled) in (0..plan.instances()).zip(&plan.caches) {
            let mut cache = cold(plan, instance, start)?;
            if let Some(at) = filled {
                let preload = Event::Preload(world.published(*at), plan.freshness, *at);
                cache.cache.handle(preload, start, &mut Vec::new());
                cache.changed = *at;
            }
            fleet.current.push(fleet.caches.len());
            fleet.caches.push(cache);
        }
        Ok(fleet)
    }

    /// The cache of an instance at present.
    pub(super) fn cache_of(&self, instance: u32) -> usize {
        self.current[instance as usize]
    }

    /// The cache of an instance at present, to look at.
    pub(super) fn cache(&self, instance: u32) -> &KeyCache<(), Ticket> {
        &self.caches[self.cache_of(instance)].cache
    }

    /// How an instance's cache has rested since something about it changed, until when that holds, and when it changed; unless a
    /// fetch of it is under way.
    pub(super) fn rest(&self, instance: u32) -> Option<(Rest<()>, Time, Time)> {
        let it = &self.caches[self.cache_of(instance)];
        let (rest, holds_until) = if it.flying > 0 { None } else { it.cache.rest(it.changed) }?;
        Some((rest, holds_until, it.changed))
    }

    /// Lets an instance's cache do nothing by itself.
    pub(super) fn lay_down(&mut self, instance: u32) {
        let number = self.cache_of(instance);
        self.caches[number].deadline = None;
    }

    /// Has an instance's cache go on from where one was at that moment. Returns what it waits for.
    pub(super) fn get_up(
        &mut self,
        instance: u32,
        rest: (&Rest<()>, Time),
        since: Time,
    ) -> Option<(Time, Pending)> {
        let number = self.cache_of(instance);
        let it = &mut self.caches[number];
        it.cache.resume(rest, since);
        it.changed = since;
        it.deadline = it.cache.deadline().map(|deadline| deadline.at);
        it.deadline.map(|at| (at, Pending::Deadline(number)))
    }

    /// How many more may wait for a cache.
    pub(super) fn room(&self, number: usize) -> u64 {
        self.caches[number].room()
    }

    /// From now on so many others wait for a cache, which was not asked for them.
    pub(super) fn others_wait(&mut self, number: usize, others: u64) {
        let it = &mut self.caches[number];
        it.others = others;
        it.cache.others_wait(usize::try_from(others).unwrap_or(usize::MAX));
    }

    /// Notes a fetch that was played on no cache.
    pub(super) fn note_fetch(&mut self, instance: u32, served: &Served, (asked, ended): (Time, Time)) {
        let entry = self.note_request(asked, instance);
        self.note_answer(entry, served, ended);
    }

    /// Counts fetches that are not played.
    pub(super) fn counter(&mut self) -> &mut Counter {
        &mut self.log.counted
    }

    /// The instances at which something happened since this was last asked, each once.
    pub(super) fn touched(&mut self) -> Vec<u32> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// When what each instance would answer changed.
    pub(super) fn changes(&self) -> impl Iterator<Item = (u32, &[Time])> {
        self.changes.iter().flatten().map(|(instance, changes)| (*instance, changes.as_slice()))
    }

    fn note_change(&mut self, instance: u32, now: Time) {
        if let Some(changes) = &mut self.changes {
            changes.entry(instance).or_default().push(now);
        }
    }

    /// Puts a cold cache in the place of an instance's, for [`Event::Start`]. Who waits for the old one is still answered
    /// by it.
    pub(super) fn replace(&mut self, plan: &Plan, instance: u32, now: Time) -> anyhow::Result<()> {
        self.note_change(instance, now);
        self.current[instance as usize] = self.caches.len();
        self.caches.push(cold(plan, instance, now)?);
        Ok(())
    }

    /// Hands an event to a cache and carries out what it decides.
    pub(super) fn handle(
        &mut self,
        number: usize,
        event: Event<(), Ticket>,
        now: Time,
        world: &mut World,
    ) -> Reaction {
        let mut decisions = Vec::new();
        let was_full = self.caches[number].room() == 0;
        let it = &mut self.caches[number];
        self.touched.push(it.instance);
        it.waiting += u32::from(matches!(event, Event::Lookup { .. } | Event::BadSignature { .. }));
        let before = it.cache.generation();
        let next = it.cache.handle(event, now, &mut decisions);
        let deadline = next.map(|deadline| deadline.at);
        if it.cache.generation() != before {
            it.changed = now;
        }
        let mut reaction = Reaction::default();
        if it.deadline != deadline {
            it.deadline = deadline;
            let instance = it.instance;
            let opens = next.filter(|next| next.wake == Wake::Limiter).map(|next| next.at);
            if let Some(opens) = opens {
                // From the first of these on lookups wait, and from the second on they fetch.
                let waits_from = opens - self.caches[number].cache.policy().limited_max_wait;
                self.note_change(instance, waits_from);
                self.note_change(instance, opens);
            }
            reaction.pending.extend(deadline.map(|at| (at, Pending::Deadline(number))));
        }
        for decision in decisions {
            match decision {
                Decision::Answer(ticket, answer) => {
                    let waiting = &mut self.caches[number].waiting;
                    *waiting = waiting.saturating_sub(1);
                    reaction.answers.push((ticket, answer));
                }
                Decision::Fetch(id) => reaction.pending.push(self.fetch(number, id, now, world)),
                Decision::Cancel(id) => drop(self.end_flight(number, id, now)),
            }
        }
        if (self.caches[number].room() == 0) != was_full {
            self.note_change(self.caches[number].instance, now);
        }
        reaction
    }

    /// What becomes of something that was pending.
    pub(super) fn resume(&mut self, pending: Pending, now: Time, world: &mut World) -> Reaction {
        match pending {
            Pending::Deadline(number)
                if !self.is_gone(number) && self.caches[number].deadline.is_some_and(|at| at <= now) =>
            {
                self.handle(number, Event::Timeout, now, world)
            }
            Pending::Deadline(_) => Reaction::default(),
            Pending::Fetched(number, id, served) => match self.end_flight(number, id, now) {
                Some(entry) => {
                    self.note_answer(entry, &served, now);
                    self.handle(number, Event::Fetched(id, served.response()), now, world)
                }
                // Given up before.
                None => Reaction::default(),
            },
        }
    }

    /// Whether a cache has ended with its process: nobody waits for it any more, and it has no timer.
    fn is_gone(&self, number: usize) -> bool {
        let Cache { instance, waiting, .. } = self.caches[number];
        waiting == 0 && self.cache_of(instance) != number
    }

    fn fetch(&mut self, number: usize, id: FetchId, now: Time, world: &mut World) -> (Time, Pending) {
        let instance = self.caches[number].instance;
        let served = world.ask(now, instance);
        let entry = self.note_request(now, instance);
        self.flights.insert((number, id), entry);
        self.caches[number].flying += 1;
        self.note_change(instance, now);
        (served.at.from(now), Pending::Fetched(number, id, Box::new(served)))
    }

    /// Its place in the log, unless it had ended before.
    fn end_flight(&mut self, number: usize, id: FetchId, now: Time) -> Option<Option<usize>> {
        let flight = self.flights.remove(&(number, id))?;
        self.caches[number].flying -= 1;
        self.note_change(self.caches[number].instance, now);
        Some(flight)
    }

    fn note_request(&mut self, at: Time, instance: u32) -> Option<usize> {
        let Log { entries, dropped, .. } = &mut self.log;
        if entries.len() >= JwksLog::MAX_ENTRIES {
            *dropped += 1;
            return None;
        }
        let keys = Arc::default();
        entries.push(JwksLogEntry { at, instance: Some(instance), answered: None, status: None, keys });
        Some(entries.len() - 1)
    }

    fn note_answer(&mut self, entry: Option<usize>, served: &Served, at: Time) {
        if let (Some(entry), Some(status)) =
            (entry.and_then(|index| self.log.entries.get_mut(index)), served.status)
        {
            (entry.answered, entry.status) = (Some(at), Some(status));
            entry.keys = Arc::clone(&served.keys);
        }
    }

    /// What has passed between the fleet and the IdP, in the order of the requests.
    pub(super) fn into_log(self) -> Log {
        let mut log = self.log;
        log.entries.sort_by_cached_key(|entry| entry.at);
        log
    }
}

/// A cache that knows nothing.
pub(super) fn cold(plan: &Plan, instance: u32, now: Time) -> anyhow::Result<Cache> {
    let jitter_seed = seed::generator(plan.seed, "cache jitter", u64::from(instance)).next_u64();
    let cache = KeyCache::new(plan.policy.clone(), jitter_seed)?;
    Ok(Cache { instance, cache, deadline: None, changed: now, flying: 0, waiting: 0, others: 0 })
}
