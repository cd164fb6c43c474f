//! The open-loop load generator: every arrival is sent when it is due, whatever became of those before it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keyquake_core::Time;
use keyquake_idp::{Clock, Timeline};
use slab::Slab;
use tokio::sync::{Notify, mpsc};

use super::connections::{Broken, Connections, Whereto};
use super::credentials::{Credentials, SessionToken};
use super::load::WhenFull;
use super::minter::{Batch, Prepared};
use super::progress::Gauge;
use super::token_client::TokenClient;
use crate::arrivals::Arrival;
use crate::observe::{Fold, Observation, Outcome, Statuses};
use crate::oracle::TokenFacts;
use crate::sessions::{Held, Renewal, Sessions};
use crate::tokens::signing_key;

/// How long requests under way are waited for when a run is interrupted.
const INTERRUPTED_DRAIN: Duration = Duration::from_secs(2);

/// How many workers may wait for requests: as many as a fast target keeps busy.
const IDLE_WORKERS: usize = 256;

/// Everything that the generator needs; it is built before the clock starts.
pub(crate) struct Generator {
    pub(crate) clock: Clock,
    pub(crate) timeline: Timeline,
    /// Where each stream goes: its path, and its replicas.
    pub(crate) lines: Vec<Line>,
    pub(crate) statuses: Statuses,
    /// By wall time.
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) when_full: WhenFull,
    /// Instances per replica.
    pub(crate) workers: u32,
    pub(crate) replicas: Vec<Connections>,
    /// Whether connections are opened before the first request. Some services take one at a time, and would wait for ever
    /// for the request of an idle one.
    pub(crate) opens_ahead: bool,
    pub(crate) sessions: RefCell<Sessions<SessionToken>>,
    pub(crate) token_client: TokenClient,
    pub(crate) fold: RefCell<Fold>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) under_way: RefCell<Slab<UnderWay>>,
    /// Requests that a worker is about to send.
    pub(crate) queue: RefCell<VecDeque<Job>>,
    /// For workers that wait: there is a request for one of them.
    pub(crate) queued: Notify,
    /// How many wait.
    pub(crate) idle_workers: Cell<usize>,
    /// The sessions' queue has changed.
    pub(crate) rescheduled: Notify,
    /// A request has ended.
    pub(crate) ended: Notify,
}

/// Where a stream goes.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) path: String,
    pub(crate) replicas: Vec<u32>,
}

/// A request that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    arrival: Arrival,
    token: TokenFacts,
    /// Which of its session's tokens it carries, if a session's.
    token_number: u64,
    /// The cache that it goes to, as far as is known: the first of its replica until its connection has answered.
    instance: u32,
    sent: Option<Time>,
}

/// A request that a worker is to send.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its place among those under way.
    number: usize,
    arrival: Arrival,
    credentials: Credentials,
}

impl Generator {
    /// Opens the connections that are kept, so that the first requests do not pay for it.
    pub(crate) async fn open_connections(&self) -> Result<(), Broken> {
        for connections in &self.replicas {
            connections.open_all().await?;
        }
        Ok(())
    }

    /// Sends the arrivals and waits until all have ended. Must run within a `LocalSet`.
    pub(crate) async fn run(self: Rc<Self>, mut due: mpsc::Receiver<Batch>, interrupted: impl Fn() -> bool) {
        let renewals = tokio::task::spawn_local(Rc::clone(&self).keep_sessions());
        for replica in 0..self.replicas.len() {
            let generator = Rc::clone(&self);
            tokio::task::spawn_local(async move { generator.replicas[replica].close_with_door().await });
        }
        while let Some(batch) = due.recv().await {
            for request in batch {
                while self.when_full == WhenFull::Wait && self.is_full() {
                    self.ended.notified().await;
                }
                self.dispatch(request);
            }
        }
        renewals.abort();
        self.drain(interrupted()).await;
    }

    fn is_full(&self) -> bool {
        self.under_way.borrow().len() >= self.max_in_flight
    }

    fn dispatch(self: &Rc<Self>, Prepared { arrival, credentials }: Prepared) {
        let (credentials, token_number) = credentials.map_or_else(
            || {
                let sessions = self.sessions.borrow();
                let Held { token, number } = sessions.held(arrival.session.unwrap_or_default());
                (token.credentials.clone(), *number)
            },
            |credentials| (credentials, 0),
        );
        let token = credentials.facts;
        let instance = arrival.replica * self.workers;
        let request = UnderWay { arrival, token, token_number, instance, sent: None };
        if self.is_full() {
            self.note(&request, Outcome::Shed);
            return;
        }
        let number = self.under_way.borrow_mut().insert(request);
        self.queue.borrow_mut().push_back(Job { number, arrival, credentials });
        if self.idle_workers.get() > 0 {
            self.idle_workers.update(|idle| idle - 1);
            self.queued.notify_one();
        } else {
            tokio::task::spawn_local(Rc::clone(self).work());
        }
    }

    /// Exchanges requests for answers, one at a time. There is a worker for each request under way, so that none waits;
    /// that workers stay spares a task and a timer per request, which cost more than all else that is kept about it.
    async fn work(self: Rc<Self>) {
        let mut patience = pin!(tokio::time::sleep(self.timeout));
        loop {
            while let Some(job) = self.next_job() {
                let number = job.number;
                patience.as_mut().reset((self.clock.instant(self.clock.now()) + self.timeout).into());
                let outcome = tokio::select! {
                    biased;
                    outcome = self.exchange(job) => outcome.unwrap_or(Outcome::Failed(None)),
                    () = &mut patience => Outcome::TimedOut,
                };
                self.end(number, outcome);
            }
            if self.idle_workers.get() == IDLE_WORKERS {
                return;
            }
            self.idle_workers.update(|idle| idle + 1);
            self.queued.notified().await;
        }
    }

    fn next_job(&self) -> Option<Job> {
        self.queue.borrow_mut().pop_front()
    }

    async fn exchange(&self, Job { number, arrival, credentials }: Job) -> Result<Outcome, Broken> {
        let line = &self.lines[arrival.stream];
        let replica = self.open_replica(arrival.replica, &line.replicas);
        let connections = &self.replicas[replica as usize];
        let _inside = connections.door.enter();
        let first = replica * self.workers;
        // A service of the user's may say anything of itself.
        let own = |instance: &u32| (first..first + self.workers).contains(instance);
        self.is_with(number, first);
        let connection = connections.take(arrival.connection).await?;
        self.is_with(number, connection.instance().filter(own).unwrap_or(first));
        if let Some(under_way) = self.under_way.borrow_mut().get_mut(number) {
            under_way.sent = Some(self.clock.now());
        }
        let write =
            |request: &mut Vec<u8>, whereto: Whereto<'_>| write(request, whereto, &line.path, &credentials);
        let answer = connections.exchange(connection, write).await?;
        self.is_with(number, answer.instance.filter(own).unwrap_or(first));
        Ok(self.statuses.outcome(answer.status))
    }

    /// Notes which instance has a request.
    fn is_with(&self, number: usize, instance: u32) {
        if let Some(under_way) = self.under_way.borrow_mut().get_mut(number) {
            under_way.instance = instance;
        }
    }

    /// This replica, or the next one of the stream while it takes no requests.
    fn open_replica(&self, replica: u32, replicas: &[u32]) -> u32 {
        let is_open = |replica: &u32| !self.replicas[*replica as usize].door.is_shut();
        if is_open(&replica) {
            return replica;
        }
        let place = replicas.iter().position(|other| *other == replica).unwrap_or_default();
        let others = replicas[place..].iter().chain(&replicas[..place]);
        others.copied().find(is_open).unwrap_or(replica)
    }

    fn end(&self, number: usize, outcome: Outcome) {
        let Some(request) = self.under_way.borrow_mut().try_remove(number) else { return };
        self.note(&request, outcome);
        self.ended.notify_one();
    }

    /// Folds a request away and lets its session react.
    fn note(&self, request: &UnderWay, outcome: Outcome) {
        let now = self.clock.now();
        let UnderWay { arrival, token, token_number, instance, sent } = request;
        let mut fold = self.fold.borrow_mut();
        let denied = fold.take(&Observation {
            arrival: *arrival,
            instance: *instance,
            token: *token,
            sent: *sent,
            ended: now,
            outcome,
        });
        self.gauge.count(outcome, denied);
        if let Some(session) = arrival.session {
            let mut sessions = self.sessions.borrow_mut();
            if sessions.ended(session, *token_number, (outcome, denied), now) {
                fold.locked_out(now, session);
            }
            if matches!(outcome, Outcome::Rejected(_)) {
                self.rescheduled.notify_one();
            }
        }
    }

    /// Renews tokens when they are due.
    async fn keep_sessions(self: Rc<Self>) {
        loop {
            let next = self.sessions.borrow().next_due().unwrap_or(Time::NEVER);
            let now = self.clock.now();
            if now < next {
                let wake = tokio::time::sleep_until(self.clock.instant(next).into());
                tokio::select! {
                    () = wake => {}
                    () = self.rescheduled.notified() => {}
                }
                continue;
            }
            let due = || self.sessions.borrow_mut().due(now);
            for renewal in std::iter::from_fn(due) {
                self.fold.borrow_mut().token_requested(now, renewal.forced);
                tokio::task::spawn_local(Rc::clone(&self).renew(renewal));
            }
        }
    }

    async fn renew(self: Rc<Self>, renewal: Renewal) {
        let before = self.clock.now();
        let refresh_token = (!renewal.relogin)
            .then(|| self.sessions.borrow().held(renewal.session).token.refresh_token.clone());
        let signing = signing_key(&self.timeline, before);
        let answer = self.token_client.renew(renewal.session, refresh_token.as_deref(), signing).await;
        let now = self.clock.now();
        let mut sessions = self.sessions.borrow_mut();
        match answer {
            Ok(token) => sessions.renewed(renewal.session, token, now),
            Err(_) => sessions.not_renewed(renewal, now),
        }
        self.rescheduled.notify_one();
    }

    /// Waits for what is under way; each request ends with its time-out at the latest.
    async fn drain(&self, interrupted: bool) {
        let patience = if interrupted { INTERRUPTED_DRAIN } else { self.timeout + INTERRUPTED_DRAIN };
        let all_ended = async {
            while !self.under_way.borrow().is_empty() {
                self.ended.notified().await;
            }
        };
        // What is left then has no end.
        let _ = tokio::time::timeout(patience, all_ended).await;
        let left = std::mem::take(&mut *self.under_way.borrow_mut());
        for (_, request) in left {
            self.note(&request, Outcome::Unfinished);
        }
    }
}

/// A request with its credentials; `/session` expects the nonce of the login in a header of its own.
fn write(request: &mut Vec<u8>, whereto: Whereto<'_>, path: &str, credentials: &Credentials) {
    let Credentials { authorization, nonce, .. } = credentials;
    let parts: [&[u8]; 8] = [
        b"GET ",
        whereto.base.as_bytes(),
        path.as_bytes(),
        b" HTTP/1.1\r\nhost: ",
        whereto.host.as_bytes(),
        b"\r\nauthorization: ",
        authorization.as_bytes(),
        b"\r\n",
    ];
    parts.into_iter().for_each(|part| request.extend_from_slice(part));
    if let Some(nonce) = nonce {
        request.extend_from_slice(b"x-nonce: ");
        request.extend_from_slice(nonce.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
}
