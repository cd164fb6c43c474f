//! Drives one cache of keys: carries out what it decides, and wakes it when it wants to be woken.
//!
//! There is no timer, retry or time-out here that is not the cache's own.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::pending;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use keyquake_core::{
    Answer, Class, Decision, Event, FetchFailure, FetchId, Freshness, KeyCache, KeySet, KeyVersion, Policy,
    PolicyError, Published, Time,
};
use keyquake_idp::Clock;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use super::fetch::Fetch;
use super::key::PublicKey;

/// The resolution of tokio's timers.
const TICK: Duration = Duration::from_millis(1);

/// Whoever waits for an answer.
type Ticket = oneshot::Sender<Answer<PublicKey>>;

/// One cache of keys, in the course of time. With its last owner its tasks end.
pub(super) struct Keys {
    clock: Clock,
    fetch: Fetch,
    published: ArcSwap<Published<PublicKey>>,
    deadline: watch::Sender<Option<Time>>,
    state: Mutex<State>,
}

struct State {
    cache: KeyCache<PublicKey, Ticket>,
    /// The generation of the cache that is published.
    generation: u64,
    fetches: BTreeMap<FetchId, AbortHandle>,
}

impl Keys {
    /// A cold cache, with the task that brings it its deadlines.
    ///
    /// # Errors
    ///
    /// The policy contradicts itself.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time.
    pub(super) fn new(
        policy: Policy,
        jitter_seed: u64,
        clock: Clock,
        fetch: Fetch,
    ) -> Result<Arc<Self>, PolicyError> {
        let cache = KeyCache::new(policy, jitter_seed)?;
        let state = State { generation: cache.generation(), cache, fetches: BTreeMap::new() };
        let (deadline, next) = watch::channel(None);
        let keys = Arc::new(Self {
            clock,
            fetch,
            published: ArcSwap::default(),
            deadline,
            state: Mutex::new(state),
        });
        tokio::spawn(wake(Arc::downgrade(&keys), clock, next));
        Ok(keys)
    }

    /// The keys that are certain without asking. Reading them takes no lock and allocates nothing.
    pub(super) fn published(&self) -> Guard<Arc<Published<PublicKey>>> {
        self.published.load()
    }

    /// Asks for the keys of a class of tokens.
    pub(super) async fn find(self: &Arc<Self>, class: Class) -> Answer<PublicKey> {
        self.ask(|ticket| Event::Lookup { class, ticket }).await
    }

    /// Asks for other keys than those of this version, which did not verify a token.
    pub(super) async fn find_other(self: &Arc<Self>, class: Class, tried: KeyVersion) -> Answer<PublicKey> {
        self.ask(|ticket| Event::BadSignature { class, tried, ticket }).await
    }

    /// The service starts.
    pub(super) fn start(self: &Arc<Self>) {
        self.handle(Event::Start);
    }

    /// Behaves as if a fetch had brought these keys with such headers at that moment.
    pub(super) fn preload(self: &Arc<Self>, set: Arc<KeySet<PublicKey>>, freshness: Freshness, at: Time) {
        self.handle(Event::Preload(set, freshness, at));
    }

    async fn ask(
        self: &Arc<Self>,
        event: impl FnOnce(Ticket) -> Event<PublicKey, Ticket>,
    ) -> Answer<PublicKey> {
        let (ticket, answer) = oneshot::channel();
        self.handle(event(ticket));
        // The cache answers each ticket, and while we wait it lives.
        answer.await.unwrap_or(Answer::Unavailable(FetchFailure::Unanswered))
    }

    fn handle(self: &Arc<Self>, event: Event<PublicKey, Ticket>) {
        let mut decisions = Vec::new();
        let mut state = self.lock();
        if let Event::Fetched(id, _) = event {
            state.fetches.remove(&id);
        }
        // Read under the lock: the cache never sees time go back.
        let now = self.clock.now();
        let deadline = state.cache.handle(event, now, &mut decisions).map(|deadline| deadline.at);
        // Carried out under the lock: nobody cancels a fetch before it has started.
        for decision in &decisions {
            match decision {
                Decision::Fetch(id) => self.start_fetch(*id, &mut state),
                Decision::Cancel(id) => state.cancel_fetch(*id),
                Decision::Answer(..) => {}
            }
        }
        self.publish(&decisions, now, &mut state);
        self.deadline.send_if_modified(|known| mem::replace(known, deadline) != deadline);
        drop(state);
        for decision in decisions {
            if let Decision::Answer(ticket, answer) = decision {
                // Whoever asked may be gone.
                let _ = ticket.send(answer);
            }
        }
    }

    fn start_fetch(self: &Arc<Self>, id: FetchId, state: &mut State) {
        let fetching = (self.fetch)();
        let keys = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let response = fetching.await;
            if let Some(keys) = keys.upgrade() {
                keys.handle(Event::Fetched(id, response));
            }
        });
        state.fetches.insert(id, task.abort_handle());
    }

    /// Publishes anew what has changed, and what had run out: the cache was asked for keys and had them at hand.
    fn publish(&self, decisions: &[Decision<PublicKey, Ticket>], now: Time, state: &mut State) {
        let had_run_out =
            decisions.iter().any(|decision| matches!(decision, Decision::Answer(_, Answer::Keys(_))));
        if had_run_out || state.generation != state.cache.generation() {
            state.generation = state.cache.generation();
            self.published.store(Arc::new(state.cache.publish(now)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn cancel_fetch(&mut self, id: FetchId) {
        if let Some(task) = self.fetches.remove(&id) {
            task.abort();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.fetches.values().for_each(AbortHandle::abort);
    }
}

/// Brings a cache its deadlines, until it is gone. No other task waits for the clock.
async fn wake(keys: Weak<Keys>, clock: Clock, mut deadline: watch::Receiver<Option<Time>>) {
    loop {
        let next = *deadline.borrow_and_update();
        tokio::select! {
            changed = deadline.changed() => if changed.is_err() { return },
            () = wait_for(next, clock) => match keys.upgrade() {
                Some(keys) => keys.handle(Event::Timeout),
                None => return,
            },
        }
    }
}

/// Waits until the clock shows a moment, for ever if there is none.
///
/// The clock decides, and not the timer, which rounds. Each wait is at least a tick, so that a timer that is early
/// is asked again and not forever.
async fn wait_for(moment: Option<Time>, clock: Clock) {
    let Some(moment) = moment else { return pending().await };
    let mut now = clock.now();
    while now < moment {
        tokio::time::sleep(clock.wall(moment.since(now)).max(TICK)).await;
        now = clock.now();
    }
}
