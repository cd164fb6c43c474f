//! What the provider remembers of a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyquake_core::Time;

use crate::timeline::{Event, KeyId};

/// An event that has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedEvent {
    /// What happened.
    pub event: Event,
    /// When it was to happen, and from when on everybody saw it.
    pub planned: Time,
    /// When the provider noticed.
    pub applied: Time,
}

/// One request for the key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksLogEntry {
    /// When it arrived.
    pub at: Time,
    /// When it was answered, if it was.
    pub answered: Option<Time>,
    /// The status of the answer.
    pub status: u16,
    /// The cache that asked, if the URL told.
    pub instance: Option<u32>,
    /// The keys of the set that was delivered; none if the answer was not a key set.
    pub keys: Arc<[KeyId]>,
}

/// The place of a request in the log.
#[derive(Debug)]
pub struct JwksTicket(Option<usize>);

/// The requests for the key set: the first [`JwksLog::MAX_ENTRIES`] one by one, all of them by number.
#[derive(Debug, Default)]
pub struct JwksLog {
    entries: Vec<JwksLogEntry>,
    dropped: u64,
    by_status: BTreeMap<u16, u64>,
}

impl JwksLog {
    /// The most requests that are kept: about 60 MB.
    pub const MAX_ENTRIES: usize = 1 << 20;

    /// The requests in the order of their arrival.
    pub fn entries(&self) -> &[JwksLogEntry] {
        &self.entries
    }

    /// How many requests came when the log was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The number of all requests by the status of their answer.
    pub fn by_status(&self) -> &BTreeMap<u16, u64> {
        &self.by_status
    }

    pub(super) fn open(&mut self, entry: JwksLogEntry) -> JwksTicket {
        *self.by_status.entry(entry.status).or_default() += 1;
        if self.entries.len() >= Self::MAX_ENTRIES {
            self.dropped += 1;
            return JwksTicket(None);
        }
        self.entries.push(entry);
        JwksTicket(Some(self.entries.len() - 1))
    }

    pub(super) fn close(&mut self, ticket: JwksTicket, answered: Time) {
        if let Some(entry) = ticket.0.and_then(|index| self.entries.get_mut(index)) {
            entry.answered = Some(answered);
        }
    }
}

/// The number of token requests by grant type and status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts(BTreeMap<(&'static str, u16), u64>);

impl TokenCounts {
    /// Each pair of grant type and status that has occurred, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        self.0.iter().map(|((grant, status), count)| (*grant, *status, *count))
    }

    pub(super) fn count(&mut self, grant: &'static str, status: u16) {
        *self.0.entry((grant, status)).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_counts_on() {
        let entry = JwksLogEntry {
            at: Time::ZERO,
            answered: None,
            status: 200,
            instance: None,
            keys: Arc::default(),
        };
        let mut log = JwksLog::default();
        for _ in 0..JwksLog::MAX_ENTRIES {
            log.open(entry.clone());
        }
        let ticket = log.open(entry);
        log.close(ticket, Time::ZERO);
        assert_eq!((log.entries().len(), log.dropped()), (JwksLog::MAX_ENTRIES, 1));
        assert_eq!(log.by_status()[&200], JwksLog::MAX_ENTRIES as u64 + 1);
        assert!(log.entries().iter().all(|entry| entry.answered.is_none()));
    }
}
