//! What there is to say of a service of the user's, beside what its answers say.

use std::ops::RangeInclusive;

use keyquake_reports::record::{Event, EventKind, Target, TargetKind};

use super::Run;
use crate::observe::Tally;
use crate::plan::Service;

/// Statuses of failures that may be meant as a refusal: a redirect to a login page, for instance.
const MEANT: RangeInclusive<u16> = 300..=499;

impl Run<'_> {
    pub(super) fn target(&self) -> Option<Target> {
        let target = self.plan.target.as_ref().filter(|_| self.aftermath.is_some())?;
        let kind = match target.service {
            Service::Command(_) => TargetKind::Command,
            Service::Urls(_) => TargetKind::Url,
        };
        Some(Target { kind, what: target.title(), unattributed_jwks_requests: self.unattributed() })
    }

    fn unattributed(&self) -> u64 {
        self.jwks.iter().filter(|entry| entry.instance.is_none()).count() as u64
    }

    /// The replicas that ended by themselves.
    pub(super) fn deaths(&self) -> impl Iterator<Item = Event> {
        let deaths = self.aftermath.iter().flat_map(|aftermath| &aftermath.deaths);
        deaths.map(|death| Event {
            kind: EventKind::Death,
            key: None,
            detail: Some(death.what.clone()),
            planned_s: death.at.as_secs_f64(),
            actual_s: Some(death.at.as_secs_f64()),
        })
    }

    pub(super) fn target_warnings(&self) -> Vec<String> {
        let Some(aftermath) = &self.aftermath else { return Vec::new() };
        let deaths = aftermath.deaths.iter();
        let deaths = deaths.map(|death| format!("{} at {:.1} s", death.what, death.at.as_secs_f64()));
        let mut warnings: Vec<String> = deaths.chain(aftermath.remarks.iter().cloned()).collect();
        warnings.extend(self.doubts());
        let unattributed = self.unattributed();
        if unattributed > 0 {
            warnings.push(format!(
                "{unattributed} JWKS requests came over a path and a connection that name no replica: they count for the \
                 target as a whole, and the causes of denials do not know them"
            ));
        }
        warnings
    }

    /// What answers tell of a target that is not set up as the scenario says.
    fn doubts(&self) -> Vec<String> {
        let segments = &self.fold.segments;
        let tally = Tally::merged(segments.iter().flat_map(|segment| segment.tallies.values()));
        let mut doubts = Vec::new();
        if tally.counts.denials.must_pass > 0 && !tally.has_accepted() {
            doubts.push(
                "the target accepted no token at all: are its path, issuer, audience and algorithm those of the scenario?"
                    .to_owned(),
            );
        }
        doubts.extend(unanswered(&tally));
        let most =
            tally.failed().filter(|(status, _)| MEANT.contains(status)).max_by_key(|(_, count)| *count);
        if let Some((status, count)) = most {
            doubts.push(format!(
                "{count} answers with status {status} count as failures; if this is how the target refuses a token, say \
                 `[target] rejected = [401, 403, {status}]`"
            ));
        }
        doubts
    }
}

/// Requests without an answer: causes are told of refusals, and know nothing of a service that is not there.
fn unanswered(tally: &Tally) -> Option<String> {
    let outcomes = tally.traffic(None).outcomes;
    let count = |outcome| outcomes.get(outcome).copied().unwrap_or_default();
    let lost = count("failed") - tally.failed().map(|(_, count)| count).sum::<u64>();
    // Where others are answered, that some time out is what is measured.
    let late = if tally.has_accepted() { 0 } else { count("timed_out") };
    let kinds = [(lost, "found nobody, lost their connection or got no HTTP"), (late, "timed out")];
    let kinds: Vec<String> =
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!kinds.is_empty()).then(|| format!("requests that the target did not answer: {}", kinds.join(", ")))
}
