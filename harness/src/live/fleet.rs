//! What is under test: a fleet of the reference service, or a service of the user's.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use keyquake_core::Time;
use keyquake_idp::Clock;
use tokio::task::JoinSet;

use super::door::Door;
use super::reference::Reference;
use crate::sut::TimedFetch;
use crate::target::{Aftermath, Target};

/// A fleet that answers requests.
pub(super) enum Fleet {
    Reference(Reference),
    Target(Arc<Target>),
}

impl Fleet {
    /// The way to each replica.
    pub(super) fn doors(&self) -> &[Arc<Door>] {
        match self {
            Self::Reference(fleet) => fleet.doors(),
            Self::Target(target) => target.doors(),
        }
    }

    /// Its fetches by its own account, if it gives one.
    pub(super) fn fetches(&self) -> Vec<TimedFetch> {
        match self {
            Self::Reference(fleet) => fleet.fetches().entries(),
            Self::Target(_) => Vec::new(),
        }
    }

    /// Lets a fleet of our own begin at that moment: its timers run, and its windows open, from the moments of the plan. A
    /// target has begun when it was ready.
    pub(super) async fn begin(&self, at: Time, clock: Clock) {
        let Self::Reference(fleet) = self else { return };
        tokio::time::sleep_until(clock.instant(at).into()).await;
        fleet.begin();
    }

    /// Restarts replicas at their moments, and notes when each began. Those of one moment are restarted together, those
    /// of different moments by turns.
    pub(super) async fn keep_restarting(
        self: Arc<Self>,
        restarts: Vec<(Time, u32)>,
        clock: Clock,
        restarted: Arc<Mutex<Vec<Time>>>,
    ) {
        for together in restarts.chunk_by(|(a, _), (b, _)| a == b) {
            tokio::time::sleep_until(clock.instant(together[0].0).into()).await;
            let mut turn = JoinSet::new();
            for (_, replica) in together {
                restarted.lock().unwrap_or_else(PoisonError::into_inner).push(clock.now());
                turn.spawn(Arc::clone(&self).restart(*replica));
            }
            turn.join_all().await;
        }
    }

    async fn restart(self: Arc<Self>, replica: u32) {
        match &*self {
            Self::Reference(fleet) => fleet.restart(replica),
            Self::Target(target) => target.restart(replica).await,
        }
    }

    /// Waits until nobody is left who could answer.
    pub(super) async fn died(&self) {
        match self {
            Self::Reference(_) => pending().await,
            Self::Target(target) => target.died().await,
        }
    }

    /// Ends what was started, and says what happened to it.
    pub(super) async fn end(&self) -> Option<Aftermath> {
        match self {
            Self::Reference(_) => None,
            Self::Target(target) => Some(target.end().await),
        }
    }
}
