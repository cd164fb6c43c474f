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
    /// The cache that asked, if the URL told.
    pub instance: Option<u32>,
    /// When it was answered; `None` while it was not.
    pub answered: Option<Time>,
    /// The status that was sent; `None` while none was.
    pub status: Option<u16>,
    /// Which of the provider's keys were sent; none if the answer was not a whole key set.
    pub keys: Arc<[KeyId]>,
}

/// The place of a request in the log, and what is to be noted there once it is answered.
#[derive(Debug)]
pub struct JwksTicket {
    entry: Option<usize>,
    status: Option<u16>,
    keys: Arc<[KeyId]>,
}

/// The requests for the key set: the first [`JwksLog::MAX_ENTRIES`] one by one, all of them by number.
#[derive(Debug, Default)]
pub struct JwksLog {
    entries: Vec<JwksLogEntry>,
    dropped: u64,
    by_status: BTreeMap<Option<u16>, u64>,
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

    /// The number of all requests by the status of their answer; `None` for those without one, or without one yet.
    pub fn by_status(&self) -> &BTreeMap<Option<u16>, u64> {
        &self.by_status
    }

    /// Notes a request, and returns where its answer is to be noted.
    pub(super) fn open(
        &mut self,
        at: Time,
        instance: Option<u32>,
        status: Option<u16>,
        keys: Arc<[KeyId]>,
    ) -> JwksTicket {
        *self.by_status.entry(None).or_default() += 1;
        if self.entries.len() >= Self::MAX_ENTRIES {
            self.dropped += 1;
            return JwksTicket { entry: None, status, keys };
        }
        let entry = Some(self.entries.len());
        self.entries.push(JwksLogEntry { at, instance, answered: None, status: None, keys: Arc::default() });
        JwksTicket { entry, status, keys }
    }

    pub(super) fn close(&mut self, ticket: JwksTicket, answered: Time) {
        let waiting = self.by_status.entry(None).or_default();
        *waiting -= 1;
        if *waiting == 0 {
            self.by_status.remove(&None);
        }
        *self.by_status.entry(ticket.status).or_default() += 1;
        if let Some(entry) = ticket.entry.and_then(|index| self.entries.get_mut(index)) {
            (entry.answered, entry.status, entry.keys) = (Some(answered), ticket.status, ticket.keys);
        }
    }
}

/// The number of token requests by grant type and status; requests that are never answered have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts(BTreeMap<(&'static str, Option<u16>), u64>);

impl TokenCounts {
    /// Each pair of grant type and status that has occurred, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Option<u16>, u64)> {
        self.0.iter().map(|((grant, status), count)| (*grant, *status, *count))
    }

    pub(super) fn count(&mut self, grant: &'static str, status: Option<u16>) {
        *self.0.entry((grant, status)).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_counts_on() {
        let mut log = JwksLog::default();
        for _ in 0..=JwksLog::MAX_ENTRIES {
            let ticket = log.open(Time::ZERO, None, Some(200), Arc::default());
            log.close(ticket, Time::ZERO);
        }
        assert_eq!((log.entries().len(), log.dropped()), (JwksLog::MAX_ENTRIES, 1));
        assert_eq!(log.by_status(), &BTreeMap::from([(Some(200), JwksLog::MAX_ENTRIES as u64 + 1)]));
    }

    #[test]
    fn what_was_sent_is_noted_once_it_is_sent() {
        let mut log = JwksLog::default();
        let keys: Arc<[KeyId]> = [KeyId::FIRST].into();
        let answered = log.open(Time::ZERO, None, Some(200), Arc::clone(&keys));
        log.open(Time::ZERO, Some(3), Some(503), Arc::clone(&keys));
        assert_eq!(log.by_status(), &BTreeMap::from([(None, 2)]));
        log.close(answered, Time::NEVER);
        assert_eq!(log.by_status(), &BTreeMap::from([(None, 1), (Some(200), 1)]));
        let noted = |index: usize| {
            let JwksLogEntry { answered, status, keys, .. } = log.entries()[index].clone();
            (answered, status, keys.to_vec())
        };
        assert_eq!(noted(0), (Some(Time::NEVER), Some(200), keys.to_vec()));
        assert_eq!(noted(1), (None, None, Vec::new()));
    }
}
