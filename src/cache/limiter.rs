//! What holds back fetches: a cooldown, a fixed window, or a bucket.

use super::Cause;
use crate::policy::{LimiterAnchor, LimiterKind, LimiterScope, Policy};
use crate::time::{Span, Time};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limiter {
    /// The last anchor of a cooldown.
    anchored: Option<Time>,
    /// When the current window opened and how many fetches it has admitted.
    window: Option<(Time, u32)>,
    /// When the bucket will be full again.
    full: Option<Time>,
}

impl Limiter {
    /// Until when a fetch of this cause is held back; `None` when it may start.
    pub(super) fn closed_until(&self, policy: &Policy, cause: Cause, now: Time) -> Option<Time> {
        if !in_scope(policy, cause) {
            return None;
        }
        let until = match policy.limiter {
            LimiterKind::None => None,
            LimiterKind::Cooldown => self.anchored.map(|at| at + policy.limiter_interval),
            LimiterKind::Window => self
                .window
                .filter(|(_, admitted)| *admitted >= policy.limiter_burst)
                .map(|(opened, _)| opened + policy.limiter_interval),
            LimiterKind::Bucket => self.full.map(|full| full - bucket(policy, policy.limiter_burst - 1)),
        };
        until.filter(|until| now < *until)
    }

    pub(super) fn started(&mut self, policy: &Policy, cause: Cause, now: Time) {
        if !in_scope(policy, cause) {
            return;
        }
        if policy.limiter_anchor == LimiterAnchor::Attempt {
            self.anchored = Some(now);
        }
        if policy.limiter == LimiterKind::Bucket {
            self.full = Some(self.full.map_or(now, |full| full.max(now)) + policy.limiter_interval);
        }
        self.window = match self.window {
            Some((opened, admitted)) if now < opened + policy.limiter_interval => {
                Some((opened, admitted + 1))
            }
            _ => Some((now, 1)),
        };
    }

    pub(super) fn succeeded(&mut self, policy: &Policy, at: Time) {
        if policy.limiter_anchor == LimiterAnchor::Success {
            self.anchored = Some(at);
        }
    }

    pub(super) fn missed(&mut self, policy: &Policy, at: Time) {
        if policy.limiter_anchor == LimiterAnchor::Miss {
            self.anchored = Some(at);
        }
    }

    /// What of it still matters.
    pub(super) fn ahead(&self, policy: &Policy, now: Time) -> Self {
        let lasts = |at: Time| now < at + policy.limiter_interval;
        Self {
            anchored: self.anchored.filter(|at| policy.limiter == LimiterKind::Cooldown && lasts(*at)),
            window: self.window.filter(|(opened, _)| policy.limiter == LimiterKind::Window && lasts(*opened)),
            full: self.full.filter(|full| policy.limiter == LimiterKind::Bucket && now < *full),
        }
    }

    pub(super) fn shift(&mut self, moved: &impl Fn(Time) -> Time) {
        self.anchored = self.anchored.map(moved);
        self.window = self.window.map(|(opened, admitted)| (moved(opened), admitted));
        self.full = self.full.map(moved);
    }
}

/// How long so many take to refill.
fn bucket(policy: &Policy, count: u32) -> Span {
    Span::from_nanos(policy.limiter_interval.as_nanos().saturating_mul(u64::from(count)))
}

/// Whether it holds back and counts fetches of this cause.
pub(super) fn in_scope(policy: &Policy, cause: Cause) -> bool {
    match policy.limiter_scope {
        LimiterScope::All => true,
        LimiterScope::Miss => matches!(cause, Cause::Miss | Cause::BadSignature),
    }
}
