//! What holds back fetches: a cooldown, or a fixed window.

use super::Cause;
use crate::policy::{LimiterAnchor, LimiterKind, LimiterScope, Policy};
use crate::time::Time;

#[derive(Clone, Debug, Default)]
pub(super) struct Limiter {
    /// The last anchor of a cooldown.
    anchored: Option<Time>,
    /// When the current window opened and how many fetches it has admitted.
    window: Option<(Time, u32)>,
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
}

fn in_scope(policy: &Policy, cause: Cause) -> bool {
    match policy.limiter_scope {
        LimiterScope::All => true,
        LimiterScope::Miss => matches!(cause, Cause::Miss | Cause::BadSignature),
    }
}
