//! What the page draws: the few curves and numbers of a record that a person compares while moving a slider.

use std::collections::BTreeMap;

use keyquake_reports::record::{Cell, Event, EventKind, Metric, Record, Windows};
use keyquake_reports::worst;
use serde::Serialize;

use super::settings::Effective;

/// The most points of a curve: there are not many more pixels for it.
const MAX_POINTS: usize = 300;

/// The numbers under the curves.
const NUMBERS: [Metric; 10] = [
    Metric::TimeToRecover,
    Metric::DeniedShare,
    Metric::PeakDeniedShare,
    Metric::FalseRejects,
    Metric::Failures,
    Metric::JwksRequests,
    Metric::JwksPeakPerSecond,
    Metric::RevocationExposure,
    Metric::OutageSurvival,
    Metric::LoginStorm,
];

/// What became of one setting of the controls.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    name: String,
    question: Option<String>,
    settings: Effective,
    warnings: Vec<String>,
    /// By the names of metrics; `None` without data.
    pub(super) numbers: BTreeMap<&'static str, Option<Number>>,
    exposures: Vec<Exposed>,
    moments: Vec<Moment>,
    faults: Vec<Fault>,
    pub(super) curves: Curves,
}

/// A number, and how a person reads it.
#[derive(Debug, Serialize)]
pub(super) struct Number {
    pub(super) value: f64,
    text: String,
}

/// How long a stream passed with tokens of a revoked key.
#[derive(Debug, Serialize)]
struct Exposed {
    stream: String,
    alone: bool,
    lasted: String,
}

/// Something that happened at one moment.
#[derive(Debug, Serialize)]
struct Moment {
    at_s: f64,
    what: String,
}

/// A fault from its beginning to its end, which may lie after that of the run.
#[derive(Debug, Serialize)]
struct Fault {
    from_s: f64,
    to_s: Option<f64>,
    what: String,
}

/// Columns over windows of equal length, from the start of event time.
#[derive(Debug, Default, Serialize)]
pub(super) struct Curves {
    width_s: f64,
    first_s: f64,
    pub(super) must_pass: Vec<u64>,
    false_rejects: Vec<u64>,
    failures: Vec<u64>,
    cohort_must_pass: Vec<u64>,
    cohort_false_rejects: Vec<u64>,
    cohort_failures: Vec<u64>,
    pub(super) jwks_requests: Vec<u64>,
    false_accepts: Vec<u64>,
}

impl Answer {
    /// What a record says; `None` if it holds nothing, which a simulation's does not.
    pub(super) fn of(record: Record, settings: Effective) -> Option<Self> {
        let cell = record.cells.first()?;
        let number = |worst: keyquake_reports::Worst| Number { value: worst.value, text: worst.to_string() };
        Some(Self {
            settings,
            numbers: NUMBERS.map(|metric| (metric.name(), worst(cell, metric).map(number))).into(),
            exposures: exposures(cell),
            moments: cell.events.iter().filter_map(moment).collect(),
            faults: faults(&cell.events),
            curves: Curves::of(&cell.windows),
            name: record.scenario.name,
            question: record.scenario.question,
            warnings: record.warnings,
        })
    }
}

fn exposures(cell: &Cell) -> Vec<Exposed> {
    let all = cell.episodes.iter().flat_map(|episode| &episode.metrics.revocation_exposure);
    all.map(|exposure| Exposed {
        stream: exposure.stream.clone(),
        alone: exposure.alone,
        lasted: exposure.lasted.to_string(),
    })
    .collect()
}

/// Events that a reader looks for; faults have a length and are not among them.
fn moment(event: &Event) -> Option<Moment> {
    let name = event.key.as_deref().or(event.detail.as_deref()).unwrap_or_default();
    let is_stream = matches!(event.kind, EventKind::StreamOn | EventKind::StreamOff);
    // What a stream carries is in the scenario.
    let name = if is_stream { name.split(" (").next().unwrap_or_default() } else { name };
    let verb = match event.kind {
        EventKind::Publish => " published",
        EventKind::Activate => " signs",
        EventKind::Remove => " removed",
        EventKind::Revoke => " revoked",
        EventKind::Burst | EventKind::Runbook | EventKind::Death => "",
        EventKind::StreamOn => " begins",
        EventKind::StreamOff => " ends",
        EventKind::Retire | EventKind::FaultOn | EventKind::FaultOff => return None,
    };
    Some(Moment { at_s: event.planned_s, what: format!("{name}{verb}") })
}

fn faults(events: &[Event]) -> Vec<Fault> {
    let begun = events.iter().enumerate().filter(|(_, event)| event.kind == EventKind::FaultOn);
    begun
        .map(|(number, on)| {
            let mut later = events[number..].iter();
            let off = later.find(|off| off.kind == EventKind::FaultOff && off.detail == on.detail);
            Fault {
                from_s: on.planned_s,
                to_s: off.map(|off| off.planned_s),
                what: on.detail.clone().unwrap_or_default(),
            }
        })
        .collect()
}

impl Curves {
    /// The windows of event time, several in one where there are too many.
    fn of(windows: &Windows) -> Self {
        let start = |number: usize| windows.first_s + windows.width_s * number as f64;
        let all = windows.requests.len();
        // Those of the warm-up count for nothing.
        let skipped = (0..all).take_while(|number| start(number + 1) <= 0.0).count();
        let together = (all - skipped).div_ceil(MAX_POINTS).max(1);
        let merged = |column: &[u64]| -> Vec<u64> {
            let counted = column.get(skipped..).unwrap_or_default();
            counted.chunks(together).map(|windows| windows.iter().sum()).collect()
        };
        Self {
            width_s: windows.width_s * together as f64,
            first_s: start(skipped),
            must_pass: merged(&windows.must_pass),
            false_rejects: merged(&windows.false_rejects),
            failures: merged(&windows.failures),
            cohort_must_pass: merged(&windows.cohort_must_pass),
            cohort_false_rejects: merged(&windows.cohort_false_rejects),
            cohort_failures: merged(&windows.cohort_failures),
            jwks_requests: merged(&windows.jwks_requests),
            false_accepts: merged(&windows.false_accepts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_begin_with_event_time_and_have_few_points() {
        let column: Vec<u64> = (0..1_010).collect();
        let windows = Windows {
            width_s: 2.0,
            first_s: -20.0,
            requests: column.clone(),
            must_pass: column.clone(),
            jwks_requests: vec![1; column.len()],
            ..Windows::default()
        };
        let curves = Curves::of(&windows);
        assert_eq!((curves.first_s, curves.width_s), (0.0, 8.0));
        assert_eq!(curves.must_pass.len(), 250);
        assert_eq!(curves.must_pass[0], 10 + 11 + 12 + 13);
        assert_eq!(curves.jwks_requests.iter().sum::<u64>(), 1_000);
    }

    #[test]
    fn a_fault_ends_where_its_own_end_is() {
        let event = |kind, detail: &str, planned_s| Event {
            kind,
            key: None,
            detail: Some(detail.to_owned()),
            planned_s,
            actual_s: None,
        };
        let events = [
            event(EventKind::FaultOn, "a", 1.0),
            event(EventKind::FaultOn, "b", 2.0),
            event(EventKind::FaultOff, "a", 3.0),
        ];
        let spans: Vec<_> = faults(&events).iter().map(|fault| (fault.from_s, fault.to_s)).collect();
        assert_eq!(spans, [(1.0, Some(3.0)), (2.0, None)]);
    }
}
