//! The open-loop load generator: every arrival is sent when it is due, whatever became of those before it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use keyquake_core::Time;
use keyquake_idp::{Clock, Timeline};
use tokio::sync::{Notify, mpsc};

use super::connections::{Answer, Broken, Connections};
use super::credentials::{Credentials, SessionToken};
use super::minter::Prepared;
use super::progress::Gauge;
use super::token_client::TokenClient;
use crate::arrivals::Arrival;
use crate::observe::{Fold, Observation, Outcome};
use crate::sessions::{Held, Renewal, Sessions};
use crate::tokens::signing_key;

/// The request header in which `/session` expects the nonce of the login.
const NONCE: HeaderName = HeaderName::from_static("x-nonce");
/// How long requests under way are waited for when a run is interrupted.
const INTERRUPTED_DRAIN: Duration = Duration::from_secs(2);

/// Everything that the generator needs; it is built before the clock starts.
pub(crate) struct Generator {
    pub(crate) clock: Clock,
    pub(crate) timeline: Timeline,
    /// Where each stream goes.
    pub(crate) paths: Vec<&'static str>,
    /// By wall time.
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
    /// Instances per replica.
    pub(crate) workers: u32,
    pub(crate) replicas: Vec<Connections>,
    pub(crate) sessions: RefCell<Sessions<SessionToken>>,
    pub(crate) token_client: TokenClient,
    pub(crate) fold: RefCell<Fold>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) under_way: RefCell<BTreeMap<u64, UnderWay>>,
    pub(crate) started: Cell<u64>,
    /// The sessions' queue has changed.
    pub(crate) rescheduled: Notify,
    pub(crate) idle: Notify,
}

/// A request that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    arrival: Arrival,
    credentials: Credentials,
    /// Which of its session's tokens it carries, if a session's.
    token_number: u64,
    /// The cache that it goes to, as far as is known: the first of its replica until its connection has answered.
    instance: u32,
    sent: Option<Time>,
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
    pub(crate) async fn run(
        self: Rc<Self>,
        mut due: mpsc::Receiver<Prepared>,
        interrupted: impl Fn() -> bool,
    ) {
        let renewals = tokio::task::spawn_local(Rc::clone(&self).keep_sessions());
        while let Some(request) = due.recv().await {
            self.dispatch(request);
        }
        renewals.abort();
        self.drain(interrupted()).await;
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
        let instance = arrival.replica * self.workers;
        let request = UnderWay { arrival, credentials, token_number, instance, sent: None };
        if self.under_way.borrow().len() >= self.max_in_flight {
            self.note(&request, Outcome::Shed);
            return;
        }
        let number = self.started.get();
        self.started.set(number + 1);
        self.under_way.borrow_mut().insert(number, request);
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let outcome = match tokio::time::timeout(this.timeout, this.send(number)).await {
                Ok(Ok(answer)) => this.answered(number, answer),
                Ok(Err(Broken)) => Outcome::Failed(None),
                Err(_) => Outcome::TimedOut,
            };
            this.end(number, outcome);
        });
    }

    async fn send(&self, number: u64) -> Result<Answer, Broken> {
        let Some(UnderWay { arrival, credentials, .. }) = self.under_way.borrow().get(&number).cloned()
        else {
            return Err(Broken);
        };
        let connections = &self.replicas[arrival.replica as usize];
        let connection = connections.take(arrival.connection).await?;
        let mut request = Request::get(self.paths[arrival.stream])
            .header(HOST, HeaderValue::from_static("localhost"))
            .header(AUTHORIZATION, credentials.authorization);
        if let Some(nonce) = credentials.nonce {
            request = request.header(NONCE, nonce);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| Broken)?;
        if let Some(under_way) = self.under_way.borrow_mut().get_mut(&number) {
            under_way.instance = connection.instance().unwrap_or(under_way.instance);
            under_way.sent = Some(self.clock.now());
        }
        connections.send(connection, request).await
    }

    fn answered(&self, number: u64, answer: Answer) -> Outcome {
        let mut under_way = self.under_way.borrow_mut();
        if let (Some(request), Some(instance)) = (under_way.get_mut(&number), answer.instance) {
            request.instance = instance;
        }
        Outcome::of_status(answer.status)
    }

    fn end(&self, number: u64, outcome: Outcome) {
        let Some(request) = self.under_way.borrow_mut().remove(&number) else { return };
        self.note(&request, outcome);
        if self.under_way.borrow().is_empty() {
            self.idle.notify_one();
        }
    }

    /// Folds a request away and lets its session react.
    fn note(&self, request: &UnderWay, outcome: Outcome) {
        let now = self.clock.now();
        let UnderWay { arrival, credentials, token_number, instance, sent } = request;
        let mut fold = self.fold.borrow_mut();
        let denied = fold.take(&Observation {
            arrival: *arrival,
            instance: *instance,
            token: credentials.facts,
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
            let due = self.sessions.borrow_mut().due(now);
            for renewal in due {
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
                self.idle.notified().await;
            }
        };
        // What is left then has no end.
        let _ = tokio::time::timeout(patience, all_ended).await;
        let left = std::mem::take(&mut *self.under_way.borrow_mut());
        for request in left.into_values() {
            self.note(&request, Outcome::Unfinished);
        }
    }
}
