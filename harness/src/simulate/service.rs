//! The services in virtual time: requests go in, and their ends come out.

use std::collections::{BTreeMap, VecDeque};

use keyquake_core::{Answer, Event, KeyCache, KeyVersion, Keys, Rejection, Rest, Standing, Time, TokenCache};

use super::agenda::Agenda;
use super::counter::Counter;
use super::fleet::{Fleet, Log, Pending, Reaction, Ticket};
use super::token::{Name, Token};
use super::world::{Served, World};
use crate::observe::Outcome;
use crate::plan::Plan;
use crate::sut::{self, candidates};

/// A fleet before its IdP.
pub(super) struct Service<'p> {
    plan: &'p Plan,
    pub(super) world: World,
    fleet: Fleet,
    agenda: Agenda<Due>,
    /// Requests that have no answer yet.
    under_way: BTreeMap<Ticket, Request>,
    /// How many of them have a client that waits.
    awaited: usize,
    ended: Vec<(Ticket, Outcome)>,
    /// The tokens that have passed, by the cache of keys beside them, where they are remembered.
    tokens: BTreeMap<usize, TokenCache<Name>>,
    /// Who handles so many requests at a time, by cache, where there is a limit.
    places: BTreeMap<usize, Places>,
    /// The caches at which a place has become free.
    freed: Vec<usize>,
}

/// The places of a worker.
#[derive(Default)]
struct Places {
    taken: u32,
    waiting: VecDeque<Ticket>,
}

struct Request {
    token: Token,
    /// Which cache it asks: it stays with that one when its instance restarts.
    cache: usize,
    /// The keys that did not verify it, once it has asked for others.
    tried: Option<KeyVersion>,
    /// Whether its client has lost patience.
    given_up: bool,
    /// Whether it is handled, and does not wait for that.
    handled: bool,
}

/// What requests with one token meet at a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This becomes of all their signatures, at once, until that moment, unless something happens before.
    Ends(Result<(), Rejection>, Time),
    /// They wait for a fetch that is under way, as long as nothing happens, it is not too old and there is room.
    Waits(Time),
    /// The next one changes the cache, unless that moment comes before.
    Acts(Time),
}

enum Due {
    Restart(u32),
    Fleet(Pending),
    /// The client has waited long enough.
    GiveUp(Ticket),
}

impl<'p> Service<'p> {
    /// The fleet of a plan; its replicas restart at these moments.
    pub(super) fn new(plan: &'p Plan, world: World, restarts: &[(Time, u32)]) -> anyhow::Result<Self> {
        let fleet = Fleet::new(plan, &world)?;
        let mut agenda = Agenda::default();
        for (at, replica) in restarts {
            agenda.add(*at, Due::Restart(*replica));
        }
        let mut service = Self {
            plan,
            world,
            fleet,
            agenda,
            under_way: BTreeMap::new(),
            awaited: 0,
            ended: Vec::new(),
            tokens: BTreeMap::new(),
            places: BTreeMap::new(),
            freed: Vec::new(),
        };
        for instance in 0..plan.instances() {
            service.start(instance, Time::ZERO - plan.warmup);
        }
        // At first everybody looks at all of them.
        service.touched();
        Ok(service)
    }

    fn start(&mut self, instance: u32, now: Time) {
        let cache = self.fleet.cache_of(instance);
        let reaction = self.fleet.handle(cache, Event::Start, now, &mut self.world);
        self.carry_out(reaction, now);
    }

    /// When something happens next without another request.
    pub(super) fn next(&self) -> Option<Time> {
        self.agenda.next()
    }

    /// Whether every request has ended.
    pub(super) fn is_idle(&self) -> bool {
        self.awaited == 0
    }

    /// The requests that have ended since this was last asked. One that timed out comes again when it is answered, too
    /// late for its client.
    pub(super) fn ended(&mut self) -> Vec<(Ticket, Outcome)> {
        std::mem::take(&mut self.ended)
    }

    /// How an instance's cache has rested since something about it changed, until when that holds, and when it changed; unless a
    /// fetch of it is under way.
    pub(super) fn rest(&self, instance: u32) -> Option<(Rest<()>, Time, Time)> {
        self.fleet.rest(instance)
    }

    /// Lets an instance's cache be: until [`Self::get_up`] somebody else knows what it would do.
    pub(super) fn lay_down(&mut self, instance: u32) {
        self.fleet.lay_down(instance);
    }

    /// Has an instance's cache go on from where one was at that moment.
    pub(super) fn get_up(&mut self, instance: u32, rest: (&Rest<()>, Time), since: Time) {
        let pending = self.fleet.get_up(instance, rest, since);
        self.carry_out(Reaction { pending: pending.into_iter().collect(), ..Reaction::default() }, since);
    }

    /// The timer of an instance's cache has run down.
    pub(super) fn wake(&mut self, instance: u32, now: Time) {
        let cache = self.fleet.cache_of(instance);
        let reaction = self.fleet.handle(cache, Event::Timeout, now, &mut self.world);
        self.carry_out(reaction, now);
    }

    /// The cache of an instance at present.
    pub(super) fn cache_of(&self, instance: u32) -> usize {
        self.fleet.cache_of(instance)
    }

    /// How many more requests may wait for a cache.
    pub(super) fn room(&self, cache: usize) -> u64 {
        self.fleet.room(cache)
    }

    /// From now on so many requests wait for a cache that never entered.
    pub(super) fn others_wait(&mut self, cache: usize, others: u64) {
        self.fleet.others_wait(cache, others);
    }

    /// Notes a fetch that was played on no cache.
    pub(super) fn note_fetch(&mut self, instance: u32, served: &Served, times: (Time, Time)) {
        self.fleet.note_fetch(instance, served, times);
    }

    /// Counts fetches that are not played.
    pub(super) fn counter(&mut self) -> &mut Counter {
        self.fleet.counter()
    }

    /// The instances at which something happened since this was last asked, each once.
    pub(super) fn touched(&mut self) -> Vec<u32> {
        self.fleet.touched()
    }

    /// What requests with such a token meet at an instance.
    pub(super) fn verdict(&self, instance: u32, token: &Token, now: Time) -> Verdict {
        match verdict(self.fleet.cache(instance), token, now) {
            // That a fetch is given up happens, and need not be awaited.
            Verdict::Waits(_) if self.plan.policy.coalescing_max_age.is_infinite() => {
                Verdict::Waits(Time::NEVER)
            }
            verdict => verdict,
        }
    }

    /// When what each instance would answer changed.
    pub(super) fn changes(&self) -> impl Iterator<Item = (u32, &[Time])> {
        self.fleet.changes()
    }

    /// The IdP, and what has passed between it and the fleet.
    pub(super) fn into_parts(self) -> (World, Log) {
        (self.world, self.fleet.into_log())
    }

    /// Lets everything happen that is due.
    pub(super) fn advance(&mut self, now: Time) -> anyhow::Result<()> {
        while let Some(due) = self.agenda.due(now) {
            match due {
                Due::Restart(replica) => {
                    for instance in replica * self.plan.workers..(replica + 1) * self.plan.workers {
                        self.fleet.replace(self.plan, instance, now)?;
                        self.start(instance, now);
                    }
                }
                Due::Fleet(pending) => {
                    let reaction = self.fleet.resume(pending, now, &mut self.world);
                    self.carry_out(reaction, now);
                }
                Due::GiveUp(ticket) => self.give_up(ticket),
            }
            self.call_up(now);
        }
        Ok(())
    }

    /// A request reaches an instance. Each has a ticket of its own.
    pub(super) fn enter(&mut self, ticket: Ticket, token: Token, instance: u32, now: Time) {
        let cache = self.fleet.cache_of(instance);
        let request = Request { token, cache, tried: None, given_up: false, handled: false };
        self.under_way.insert(ticket, request);
        self.awaited += 1;
        self.admit(ticket, cache, now);
        self.call_up(now);
        if self.under_way.contains_key(&ticket) {
            self.agenda.add(now + self.plan.traffic.timeout, Due::GiveUp(ticket));
        }
    }

    /// Lets a request have a place, wait for one, or go.
    fn admit(&mut self, ticket: Ticket, cache: usize, now: Time) {
        let Some(capacity) = self.plan.capacity else { return self.handle(ticket, now) };
        let places = self.places.entry(cache).or_default();
        if places.taken < capacity.concurrency {
            places.taken += 1;
            self.handle(ticket, now);
        } else if places.waiting.len() < capacity.queue as usize {
            places.waiting.push_back(ticket);
        } else {
            self.refuse(ticket, Rejection::Overloaded);
        }
    }

    /// Lets those who wait have the places that have become free.
    fn call_up(&mut self, now: Time) {
        while let Some(cache) = self.freed.pop() {
            let Some(places) = self.places.get_mut(&cache) else { continue };
            places.taken -= 1;
            if let Some(ticket) = places.waiting.pop_front() {
                places.taken += 1;
                self.handle(ticket, now);
            }
        }
    }

    fn handle(&mut self, ticket: Ticket, now: Time) {
        let Some(request) = self.under_way.get_mut(&ticket) else { return };
        request.handled = true;
        let (cache, name, class) = (request.cache, request.token.name, request.token.class.clone());
        if self.is_known(cache, name, now) {
            return self.end(ticket, Outcome::Accepted(200));
        }
        match class {
            Some(class) => {
                let event = Event::Lookup { class, ticket };
                let reaction = self.fleet.handle(cache, event, now, &mut self.world);
                self.carry_out(reaction, now);
            }
            None => self.refuse(ticket, Rejection::AlgorithmDenied),
        }
    }

    /// Whether a token has passed here before, and that is remembered.
    fn is_known(&mut self, cache: usize, token: Name, now: Time) -> bool {
        let date = self.world.pace().unix(now);
        self.tokens.get_mut(&cache).is_some_and(|tokens| tokens.knows(&token, now, date))
    }

    /// A token has passed.
    fn accept(&mut self, ticket: Ticket, now: Time) {
        // With its client a request is gone, unless it has a thread of its own.
        let to_the_end = |request: &&Request| !request.given_up || self.plan.capacity.is_some();
        if let Some(Request { token, cache, .. }) = self.under_way.get(&ticket).filter(to_the_end)
            && let Some(none_yet) = TokenCache::new(&self.plan.policy)
        {
            let tokens = self.tokens.entry(*cache).or_insert(none_yet);
            tokens.remember(token.name, token.facts.expires, now);
        }
        self.end(ticket, Outcome::Accepted(200));
    }

    fn carry_out(&mut self, reaction: Reaction, now: Time) {
        for (at, pending) in reaction.pending {
            self.agenda.add(at, Due::Fleet(pending));
        }
        for (ticket, answer) in reaction.answers {
            self.answered(ticket, answer, now);
        }
    }

    /// Whether a request has asked for other keys than those that did not verify it.
    pub(super) fn has_asked_again(&self, ticket: Ticket) -> bool {
        self.under_way.get(&ticket).is_some_and(|request| request.tried.is_some())
    }

    /// Goes on with a request whose lookup was answered, as a validator does.
    fn answered(&mut self, ticket: Ticket, answer: Answer<()>, now: Time) {
        let Some(request) = self.under_way.get(&ticket) else { return };
        match candidates(answer) {
            Ok(keys) if request.token.is_signed_by(&keys) => {
                let date = self.world.pace().unix(now);
                match request.token.check(date, self.plan.policy.leeway) {
                    Ok(()) => self.accept(ticket, now),
                    Err(rejection) => self.refuse(ticket, rejection),
                }
            }
            // Nobody asks again for a client that is gone.
            Ok(keys) if request.tried.is_none() && !request.given_up => {
                self.ask_for_others(ticket, &keys, now)
            }
            Ok(_) => self.refuse(ticket, Rejection::BadSignature),
            Err(rejection) => self.refuse(ticket, rejection),
        }
    }

    fn ask_for_others(&mut self, ticket: Ticket, keys: &Keys<()>, now: Time) {
        let Some(request) = self.under_way.get_mut(&ticket) else { return };
        let (tried, cache) = (keys.version(), request.cache);
        request.tried = Some(tried);
        let Some(class) = request.token.class.clone() else { return };
        let event = Event::BadSignature { class, tried, ticket };
        let reaction = self.fleet.handle(cache, event, now, &mut self.world);
        self.carry_out(reaction, now);
    }

    fn refuse(&mut self, ticket: Ticket, rejection: Rejection) {
        self.end(ticket, self.refusal(rejection));
    }

    /// How a request ends whose token was checked.
    pub(super) fn outcome(&self, checked: Result<(), Rejection>) -> Outcome {
        match checked {
            Ok(()) => Outcome::Accepted(200),
            Err(rejection) => self.refusal(rejection),
        }
    }

    fn refusal(&self, rejection: Rejection) -> Outcome {
        Outcome::of_status(sut::status(rejection, &self.plan.policy).as_u16())
    }

    fn give_up(&mut self, ticket: Ticket) {
        let Some(request) = self.under_way.get_mut(&ticket) else { return };
        request.given_up = true;
        self.awaited -= 1;
        self.ended.push((ticket, Outcome::TimedOut));
        if !request.handled
            && let Some(places) = self.places.get_mut(&request.cache)
        {
            places.waiting.retain(|waiting| *waiting != ticket);
            self.under_way.remove(&ticket);
        }
    }

    fn end(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some(request) = self.under_way.remove(&ticket) {
            self.awaited -= usize::from(!request.given_up);
            if request.handled && self.plan.capacity.is_some() {
                self.freed.push(request.cache);
            }
            self.ended.push((ticket, outcome));
        }
    }
}

/// What requests with such a token meet at a cache.
pub(super) fn verdict(cache: &KeyCache<(), Ticket>, token: &Token, now: Time) -> Verdict {
    let Some(class) = &token.class else {
        return Verdict::Ends(Err(Rejection::AlgorithmDenied), Time::NEVER);
    };
    let (tried, until) = match cache.standing(class, now) {
        Standing::Acts => return Verdict::Acts(Time::NEVER),
        Standing::Joins { until, .. } => return Verdict::Waits(until),
        Standing::Fixed { answer, until } => match candidates(answer) {
            Ok(keys) if !token.is_signed_by(&keys) => (keys.version(), until),
            Ok(_) => return Verdict::Ends(Ok(()), until),
            Err(rejection) => return Verdict::Ends(Err(rejection), until),
        },
    };
    match cache.standing_after(class, tried, now) {
        Standing::Acts => Verdict::Acts(until),
        Standing::Joins { until, .. } => Verdict::Waits(until),
        Standing::Fixed { answer, until: sooner } => {
            let checked = match candidates(answer) {
                Ok(keys) if token.is_signed_by(&keys) => Ok(()),
                Ok(_) => Err(Rejection::BadSignature),
                Err(rejection) => Err(rejection),
            };
            Verdict::Ends(checked, until.min(sooner))
        }
    }
}
