//! What a cell's events mean on a time axis: bands that last, and markers of a moment.

use std::collections::BTreeMap;

use super::ink::Ink;
use crate::format;
use crate::record::{Cell, Event, EventKind, RecoveryState};

/// A stretch of time that explains what is seen in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Band {
    pub(super) kind: BandKind,
    pub(super) from: f64,
    pub(super) to: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BandKind {
    /// The new key and the old one are both in the JWKS.
    Overlap,
    /// A key signs and is not in the JWKS.
    SigningGap,
    /// A fault is on.
    Outage,
    /// A stream comes for part of the run.
    Stream,
}

/// A moment to be named.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Marker {
    pub(super) at: f64,
    pub(super) text: String,
}

impl BandKind {
    pub(super) const ALL: [Self; 4] = [Self::Overlap, Self::SigningGap, Self::Outage, Self::Stream];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overlap => "keys overlap",
            Self::SigningGap => "signing gap",
            Self::Outage => "fault",
            Self::Stream => "stream",
        }
    }

    pub(super) fn ink(self) -> Ink {
        match self {
            Self::Overlap => Ink::Overlap,
            Self::SigningGap => Ink::Gap,
            Self::Outage => Ink::Outage,
            Self::Stream => Ink::Stream,
        }
    }
}

/// The bands of a cell; what has no end lasts until `end`.
pub(super) fn bands(events: &[Event], end: f64) -> Vec<Band> {
    let mut bands = between(events, (EventKind::FaultOn, EventKind::FaultOff), BandKind::Outage, end);
    bands.extend(between(events, (EventKind::StreamOn, EventKind::StreamOff), BandKind::Stream, end));
    for (index, activation) in of_kind(events, EventKind::Activate) {
        // A key without a publication of its own was there from the start.
        let published = of_kind(events, EventKind::Publish).find(|(_, event)| event.key == activation.key);
        let published = published.map_or(f64::NEG_INFINITY, |(_, event)| event.at_s());
        if published > activation.at_s() {
            bands.push(Band { kind: BandKind::SigningGap, from: activation.at_s(), to: published });
        }
        let Some(old) = predecessor(events, index) else { continue };
        let removed = events.iter().find(|event| leaves(event) && event.key.as_deref() == Some(old));
        let removed = removed.map_or(end, Event::at_s);
        if removed > published {
            bands.push(Band { kind: BandKind::Overlap, from: published, to: removed });
        }
    }
    bands
}

/// The same with those of a kind that touch as one: drawn over each other, their shades would add up.
pub(super) fn merged(mut bands: Vec<Band>) -> Vec<Band> {
    bands.sort_by(|a, b| a.from.total_cmp(&b.from));
    let mut merged: Vec<Band> = Vec::new();
    for band in bands {
        match merged.iter_mut().find(|other| other.kind == band.kind && band.from <= other.to) {
            Some(other) => other.to = other.to.max(band.to),
            None => merged.push(band),
        }
    }
    merged
}

/// The events and recoveries of a cell, those closer than `apart` put together, in order of time.
pub(super) fn markers(cell: &Cell, apart: f64) -> Vec<Marker> {
    let mut moments: Vec<(f64, Option<&str>, String)> = Vec::new();
    for event in &cell.events {
        if let Some(text) = in_words(event) {
            moments.push((event.at_s(), event.key.as_deref(), text));
        }
    }
    for episode in &cell.episodes {
        let recovery = &episode.metrics.cohort.time_to_recover;
        if let (RecoveryState::Recovered, Some(seconds @ f64::MIN_POSITIVE..)) =
            (recovery.state, recovery.seconds)
        {
            moments.push((
                episode.from_s + seconds,
                None,
                format!("recovered after {}", format::seconds(seconds)),
            ));
        }
    }
    moments.sort_by(|a, b| a.0.total_cmp(&b.0));
    moments
        .chunk_by(|a, b| b.0 - a.0 < apart)
        .map(|near| Marker { at: near[0].0, text: together(near) })
        .collect()
}

/// Pairs each start with the first end of the same thing after it that no other start has taken. What ends without a
/// start was there from the beginning.
fn between(events: &[Event], (on, off): (EventKind, EventKind), kind: BandKind, end: f64) -> Vec<Band> {
    let mut ends = of_kind(events, off).map(|(_, event)| event).collect::<Vec<_>>();
    let mut bands = Vec::new();
    for (_, start) in of_kind(events, on) {
        let from = start.at_s();
        let ends_it = |event: &&Event| event.at_s() >= from && event.detail == start.detail;
        let taken = ends.iter().position(ends_it).map(|index| ends.remove(index).at_s());
        bands.push(Band { kind, from, to: taken.unwrap_or(end) });
    }
    let endings = ends.into_iter().map(|event| Band { kind, from: f64::NEG_INFINITY, to: event.at_s() });
    bands.extend(endings);
    bands
}

/// The key that signed before the activation at `index`: the one activated last, or else one that was there from the start
/// and stops signing or leaves with this activation or after it.
fn predecessor(events: &[Event], index: usize) -> Option<&str> {
    let new = events[index].key.as_deref();
    let activated = |key: Option<&str>| {
        of_kind(events, EventKind::Activate).any(|(_, event)| event.key.as_deref() == key)
    };
    let before = events[..index].iter().rev().find(|event| event.kind == EventKind::Activate);
    let ends = |event: &&Event| event.kind == EventKind::Retire || leaves(event);
    let since = |event: &&Event| event.at_s() >= events[index].at_s();
    before
        .or_else(|| events.iter().filter(ends).filter(since).find(|event| !activated(event.key.as_deref())))
        .and_then(|event| event.key.as_deref())
        .filter(|&old| Some(old) != new)
}

fn leaves(event: &Event) -> bool {
    matches!(event.kind, EventKind::Remove | EventKind::Revoke)
}

fn of_kind(events: &[Event], kind: EventKind) -> impl Iterator<Item = (usize, &Event)> {
    events.iter().enumerate().filter(move |(_, event)| event.kind == kind)
}

/// What a marker says of an event, the key aside; `None` for what a band shows well enough.
fn in_words(event: &Event) -> Option<String> {
    let detail = event.detail.as_deref();
    Some(match event.kind {
        EventKind::Publish => "published".into(),
        EventKind::Activate => "active".into(),
        EventKind::Remove => "removed".into(),
        EventKind::Revoke => "revoked".into(),
        EventKind::FaultOn => format!("fault: {}", detail.unwrap_or("on")),
        EventKind::StreamOn => format!("stream: {}", detail.unwrap_or("on")),
        EventKind::Burst => format!("burst: {}", detail.unwrap_or("many requests")),
        EventKind::Runbook => detail.unwrap_or("runbook").into(),
        EventKind::Death => detail.unwrap_or("a replica died").into(),
        EventKind::Retire | EventKind::FaultOff | EventKind::StreamOff => return None,
    })
}

/// `key-2 published, active; key-1 removed`.
fn together(moments: &[(f64, Option<&str>, String)]) -> String {
    let mut keys: BTreeMap<usize, (Option<&str>, Vec<&str>)> = BTreeMap::new();
    for (_, key, text) in moments {
        let place = keys.values().position(|(known, _)| known == key && key.is_some()).unwrap_or(keys.len());
        keys.entry(place).or_insert((*key, Vec::new())).1.push(text);
    }
    let phrases = keys.values().map(|(key, texts)| match key {
        Some(key) => format!("{} {}", format::shortened(key, 24), texts.join(", ")),
        None => texts.join(", "),
    });
    format::shortened(&phrases.collect::<Vec<_>>().join("; "), 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, key: &str, at: f64) -> Event {
        Event { kind, key: Some(key.into()), detail: None, planned_s: at, actual_s: None }
    }

    #[test]
    fn both_keys_in_the_jwks_is_an_overlap() {
        let events = [
            event(EventKind::Publish, "b", -30.0),
            event(EventKind::Activate, "b", 0.0),
            event(EventKind::Retire, "a", 0.0),
            event(EventKind::Publish, "c", 70.0),
            event(EventKind::Remove, "a", 60.0),
            event(EventKind::Activate, "c", 100.0),
            event(EventKind::Retire, "b", 100.0),
        ];
        let overlap = |from, to| Band { kind: BandKind::Overlap, from, to };
        assert_eq!(bands(&events, 200.0), [overlap(-30.0, 60.0), overlap(70.0, 200.0)]);
    }

    #[test]
    fn a_swap_in_one_instant_has_no_band() {
        let events = [
            event(EventKind::Publish, "b", 0.0),
            event(EventKind::Activate, "b", 0.0),
            event(EventKind::Remove, "a", 0.0),
        ];
        assert_eq!(bands(&events, 60.0), []);
    }

    #[test]
    fn signing_before_publication_is_a_gap() {
        let events = [
            event(EventKind::Activate, "b", 0.0),
            event(EventKind::Publish, "b", 20.0),
            event(EventKind::Remove, "a", 20.0),
        ];
        assert_eq!(bands(&events, 60.0), [Band { kind: BandKind::SigningGap, from: 0.0, to: 20.0 }]);
    }

    #[test]
    fn a_fault_lasts_until_its_end_or_that_of_the_run() {
        let fault =
            |kind, at| Event { kind, key: None, detail: Some("503".into()), planned_s: at, actual_s: None };
        let events = [
            fault(EventKind::FaultOn, 0.0),
            fault(EventKind::FaultOff, 20.0),
            fault(EventKind::FaultOn, 30.0),
        ];
        let outage = |from, to| Band { kind: BandKind::Outage, from, to };
        assert_eq!(bands(&events, 60.0), [outage(0.0, 20.0), outage(30.0, 60.0)]);
    }

    #[test]
    fn streams_that_overlap_end_each_at_their_own_end() {
        let stream = |kind, name: &str, at| Event {
            kind,
            key: None,
            detail: Some(name.into()),
            planned_s: at,
            actual_s: None,
        };
        let events = [
            stream(EventKind::StreamOn, "flood", 10.0),
            stream(EventKind::StreamOff, "from the start", 15.0),
            stream(EventKind::StreamOn, "logins", 20.0),
            stream(EventKind::StreamOff, "logins", 30.0),
            stream(EventKind::StreamOff, "flood", 40.0),
        ];
        let band = |from, to| Band { kind: BandKind::Stream, from, to };
        let expected = [band(10.0, 40.0), band(20.0, 30.0), band(f64::NEG_INFINITY, 15.0)];
        assert_eq!(bands(&events, 60.0), expected);
        assert_eq!(merged(expected.into()), [band(f64::NEG_INFINITY, 40.0)]);
        let apart = Band { kind: BandKind::Overlap, ..band(20.0, 30.0) };
        assert_eq!(merged(vec![apart, band(10.0, 25.0)]), [band(10.0, 25.0), apart], "of one kind only");
    }

    #[test]
    fn a_burst_and_the_start_of_a_stream_are_named() {
        let said = |kind, detail: &str| {
            let event = Event { key: None, detail: Some(detail.into()), ..event(kind, "", 5.0) };
            in_words(&event)
        };
        assert_eq!(said(EventKind::Burst, "storm (500 × login)").unwrap(), "burst: storm (500 × login)");
        assert_eq!(said(EventKind::StreamOn, "x (login, 5/s)").unwrap(), "stream: x (login, 5/s)");
        assert_eq!(said(EventKind::StreamOff, "x (login, 5/s)"), None, "its band shows it");
    }
}
