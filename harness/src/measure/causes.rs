//! Why requests were denied: what was sent, against what the JWKS log shows for the instance that refused it.

use std::collections::BTreeMap;

use keyquake_core::Time;
use keyquake_idp::{JwksLogEntry, KeyId, Timeline};

use crate::observe::Denial;

/// Why a valid token was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Its key was not published yet.
    Premature,
    /// A fetch was under way.
    FetchInFlight,
    /// The instance's last fetch had failed.
    JwksUnavailable,
    /// The instance had been given the key.
    RefusedThoughDelivered,
    /// The instance had not asked since the key was published.
    NotRefreshed,
}

impl Cause {
    const fn name(self) -> &'static str {
        match self {
            Self::Premature => "premature",
            Self::FetchInFlight => "fetch in flight",
            Self::JwksUnavailable => "JWKS unavailable",
            Self::RefusedThoughDelivered => "refused though delivered",
            Self::NotRefreshed => "not refreshed",
        }
    }
}

/// What finds causes: the IdP's timeline, and each instance's requests for keys.
pub(super) struct Causes<'r> {
    timeline: &'r Timeline,
    /// By instance, each one's in the order of their arrival.
    requests: Vec<(u32, &'r JwksLogEntry)>,
    /// When the cache of each instance was filled at the start.
    filled: &'r [Option<Time>],
}

impl<'r> Causes<'r> {
    pub(super) fn new(timeline: &'r Timeline, log: &'r [JwksLogEntry], filled: &'r [Option<Time>]) -> Self {
        let of_instances = log.iter().filter_map(|entry| Some((entry.instance?, entry)));
        let mut requests: Vec<(u32, &JwksLogEntry)> = of_instances.collect();
        requests.sort_by_key(|(instance, _)| *instance);
        Self { timeline, requests, filled }
    }

    /// The denials by the names of their causes.
    pub(super) fn count<'d>(&self, denials: impl IntoIterator<Item = &'d Denial>) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for denial in denials {
            *counts.entry(self.of(denial).name().to_owned()).or_default() += denial.count;
        }
        counts
    }

    fn of(&self, denial: &Denial) -> Cause {
        let key = denial.lane.key;
        if !self.timeline.key_state(key, denial.ended).published {
            return Cause::Premature;
        }
        // The last request that the instance had made when it answered.
        let came = (denial.instance, denial.ended);
        let until = self.requests.partition_point(|(instance, entry)| (*instance, entry.at) <= came);
        let before = self.requests[..until].last().filter(|(instance, _)| *instance == denial.instance);
        let Some((_, last)) = before else {
            return if self.was_filled_with(denial.instance, key) {
                Cause::RefusedThoughDelivered
            } else {
                Cause::NotRefreshed
            };
        };
        if last.answered.is_none_or(|answered| answered > denial.ended) {
            return Cause::FetchInFlight;
        }
        if last.status != Some(200) {
            return Cause::JwksUnavailable;
        }
        if last.keys.contains(&key) { Cause::RefusedThoughDelivered } else { Cause::NotRefreshed }
    }

    fn was_filled_with(&self, instance: u32, key: KeyId) -> bool {
        let filled = self.filled.get(instance as usize).copied().flatten();
        filled.is_some_and(|at| self.timeline.key_state(key, at).published)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Lane;
    use keyquake_core::Span;
    use keyquake_idp::{Rotation, Style};

    fn at(secs: i64) -> Time {
        Time::from_nanos(secs * 1_000_000_000)
    }

    fn request(asked: i64, answered: Option<i64>, status: u16, keys: &[&str]) -> JwksLogEntry {
        JwksLogEntry {
            at: at(asked),
            answered: answered.map(at),
            status: Some(status),
            instance: Some(0),
            keys: keys.iter().map(|key| key.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_cause_follows_from_the_last_request_of_the_instance() {
        let late = Rotation { lead: Span::from_secs(5), ..Rotation::new(at(10), Style::Late) };
        let timeline = Timeline::new(vec![late], vec![]).unwrap();
        let cause = |key: &str, ended: i64, log: &[JwksLogEntry]| {
            let lane = Lane { stream: 0, key: key.parse().unwrap() };
            let denial = Denial { at: at(ended), ended: at(ended), lane, instance: 0, count: 1 };
            Causes::new(&timeline, log, &[Some(at(-5))]).of(&denial)
        };
        assert_eq!(cause("key-2", 12, &[]), Cause::Premature);
        assert_eq!(cause("key-2", 16, &[]), Cause::NotRefreshed);
        assert_eq!(cause("key-1", 9, &[]), Cause::RefusedThoughDelivered);
        assert_eq!(cause("key-2", 20, &[request(11, Some(11), 200, &["key-1"])]), Cause::NotRefreshed);
        assert_eq!(cause("key-2", 20, &[request(19, Some(21), 200, &["key-2"])]), Cause::FetchInFlight);
        assert_eq!(cause("key-2", 20, &[request(19, None, 0, &[])]), Cause::FetchInFlight);
        assert_eq!(cause("key-2", 20, &[request(19, Some(19), 503, &[])]), Cause::JwksUnavailable);
        assert_eq!(
            cause("key-2", 20, &[request(19, Some(19), 200, &["key-2"])]),
            Cause::RefusedThoughDelivered
        );
        assert_eq!(cause("key-2", 20, &[request(21, Some(21), 200, &["key-2"])]), Cause::NotRefreshed);
    }
}
