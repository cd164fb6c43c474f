//! Episodes: disturbances that overlap, or follow each other before recovery.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use keyquake_core::Time;
use keyquake_idp::KeyId;
use keyquake_reports::record::{
    self, EpisodeMetrics, Exposure, Lasting, Recovering, Recovery, RecoverySpread, RecoveryState,
};

use super::causes::Causes;
use super::flapping::{Answer, flapping};
use super::{Run, login_storm};
use crate::observe::{Denials, Lane, Segment, Tally, Track, Window};
use crate::plan::Disturbance;

/// One episode of a run.
pub(super) struct Episode<'r> {
    disturbances: &'r [Disturbance],
    segments: &'r [Segment],
    /// Whose tokens count as the cohort: those of the new keys, or everybody's when no key was rotated.
    new_keys: BTreeSet<KeyId>,
    pub(super) from: Time,
    pub(super) until: Time,
}

impl<'r> Episode<'r> {
    /// The episodes of a run, in order.
    pub(super) fn all(run: &'r Run<'_>) -> Vec<Self> {
        let begun = run.plan.disturbances.partition_point(|disturbance| disturbance.from < run.ended);
        let mut starts: Vec<usize> = Vec::new();
        for next in 0..begun {
            let belongs_to_last = starts.last().is_some_and(|first| {
                let at = run.plan.disturbances[next].from;
                !Self::new(run, *first..next, at).is_over(run, at)
            });
            if !belongs_to_last {
                starts.push(next);
            }
        }
        let ends = starts.iter().skip(1).copied().chain([begun]);
        starts
            .iter()
            .zip(ends)
            .map(|(first, end)| {
                let until = if end < begun { run.plan.disturbances[end].from } else { run.ended };
                Self::new(run, *first..end, until)
            })
            .collect()
    }

    fn new(run: &'r Run<'_>, numbers: std::ops::Range<usize>, until: Time) -> Self {
        let disturbances = &run.plan.disturbances[numbers.clone()];
        Self {
            disturbances,
            // Segment n + 1 begins with disturbance n.
            segments: &run.fold.segments[numbers.start + 1..=numbers.end],
            new_keys: disturbances.iter().filter_map(|disturbance| disturbance.new_key).collect(),
            from: disturbances.first().map_or(until, |first| first.from),
            until,
        }
    }

    /// Whether nothing of it is left at `at`: its disturbances have ended, and its cohort has recovered.
    fn is_over(&self, run: &Run<'_>, at: Time) -> bool {
        let ended = self.disturbances.iter().all(|disturbance| disturbance.until <= at);
        let recovery =
            self.track(run, |lane| self.has(lane.key)).recovery(self.from, at, run.plan.recover_below);
        ended && recovery.state == RecoveryState::Recovered
    }

    /// Whether tokens of this key belong to the cohort.
    fn has(&self, key: KeyId) -> bool {
        self.new_keys.is_empty() || self.new_keys.contains(&key)
    }

    fn track(&self, run: &Run<'_>, of: impl Fn(Lane) -> bool) -> Track {
        let tracks = self.segments.iter().flat_map(|segment| &segment.tracks);
        let wanted = tracks.filter(|(lane, _)| of(**lane)).map(|(_, track)| track);
        Track::merged(run.fold.track_step, wanted)
    }

    /// The cohort's track of each instance, one after the other.
    fn tracks_by_instance(&self, run: &Run<'_>) -> Vec<Cow<'r, Track>> {
        let lanes = self.segments.iter().flat_map(|segment| &segment.instance_tracks);
        let lanes: Vec<_> = lanes.filter(|(lane, _)| self.has(lane.key)).map(|(_, tracks)| tracks).collect();
        let track = |instance: usize| match lanes[..] {
            [only] => Cow::Borrowed(&only[instance]),
            _ => Cow::Owned(Track::merged(run.fold.track_step, lanes.iter().map(|lane| &lane[instance]))),
        };
        (0..run.plan.instances() as usize).map(track).collect()
    }

    fn tally(&self, of: impl Fn(Lane) -> bool) -> Tally {
        let tallies = self.segments.iter().flat_map(|segment| &segment.tallies);
        Tally::merged(tallies.filter(|(lane, _)| of(**lane)).map(|(_, tally)| tally))
    }

    pub(super) fn is_rotation(&self) -> bool {
        !self.new_keys.is_empty()
    }

    /// From then on a validator that fetched at once would pass.
    fn curable_from(&self) -> Time {
        self.disturbances.iter().map(|disturbance| disturbance.curable_from).fold(self.from, Time::max)
    }

    pub(super) fn cohort_denials(&self, window: &Window) -> Denials {
        window.denials_of_all(|key| self.has(key))
    }

    /// The recovery of the cohort.
    pub(super) fn recovery(&self, run: &Run<'_>) -> Recovery {
        self.track(run, |lane| self.has(lane.key)).recovery(self.from, self.until, run.plan.recover_below)
    }

    /// The recovery of each instance, by the cohort.
    pub(super) fn recoveries(&self, run: &Run<'_>) -> Vec<Recovery> {
        let tracks = self.tracks_by_instance(run);
        let recovery = |track: &Cow<'_, Track>| track.recovery(self.from, self.until, run.plan.recover_below);
        tracks.iter().map(recovery).collect()
    }

    /// The episode as the record has it, with its own of these events.
    pub(super) fn record(
        &self,
        run: &Run<'_>,
        events: &[record::Event],
        causes: &Causes<'_>,
    ) -> record::Episode {
        let titles: Vec<&str> =
            self.disturbances.iter().map(|disturbance| disturbance.title.as_str()).collect();
        record::Episode {
            title: titles.join(", "),
            from_s: self.from.as_secs_f64(),
            to_s: self.until.as_secs_f64(),
            cohort: self.cohort(),
            events: self.events(events),
            metrics: self.metrics(run, causes),
        }
    }

    fn cohort(&self) -> String {
        if self.new_keys.is_empty() {
            return "all valid tokens".to_owned();
        }
        let keys: Vec<String> = self.new_keys.iter().map(ToString::to_string).collect();
        format!("valid tokens signed by {}", keys.join(" or "))
    }

    /// Everything within it, and the publications that prepared it.
    fn events(&self, all: &[record::Event]) -> Vec<record::Event> {
        let (from, until) = (self.from.as_secs_f64(), self.until.as_secs_f64());
        let names: Vec<String> = self.new_keys.iter().map(ToString::to_string).collect();
        let prepares = |event: &record::Event| event.key.as_ref().is_some_and(|key| names.contains(key));
        let events = all.iter().cloned();
        events
            .filter(|event| event.planned_s < until && (from <= event.planned_s || prepares(event)))
            .collect()
    }

    fn metrics(&self, run: &Run<'_>, causes: &Causes<'_>) -> EpisodeMetrics {
        let all = self.tally(|_| true);
        EpisodeMetrics {
            cohort: self.recovering(run, |lane| self.has(lane.key)),
            all: self.recovering(run, |_| true),
            streams: run
                .named_streams()
                .map(|(stream, name)| (name, self.recovering(run, |lane| lane.stream == stream)))
                .collect(),
            jwks: run.jwks_volume(self.from, self.until),
            orphaned: all.counts.orphaned,
            false_accepts: all.false_accepts_by_name(),
            login_storm: login_storm(self.segments, run.fold.sessions_each),
            revocation_exposure: self.exposures(run),
            outage_survival: self.outage_survival(run),
            jwks_amplification: self.amplification(run),
            causes: self.causes(run, causes),
            fidelity: run.fidelity(&all),
            by_instance: spread(&self.recoveries(run)),
            flapping_s: (run.plan.workers > 1).then(|| self.flapping(run)),
        }
    }

    /// For how long each replica answered the cohort both ways.
    fn flapping(&self, run: &Run<'_>) -> BTreeMap<u32, f64> {
        let mut answers: BTreeMap<u32, Vec<Answer>> = BTreeMap::new();
        for (instance, track) in (0..).zip(self.tracks_by_instance(run)) {
            let (replica, worker) = (instance / run.plan.workers, instance % run.plan.workers);
            let of_replica = answers.entry(replica).or_default();
            of_replica.extend(track.answers().map(|(at, denied)| (at, worker, denied)));
        }
        answers
            .into_iter()
            .map(|(replica, answers)| (replica, flapping(answers, self.until).as_secs_f64()))
            .collect()
    }

    /// How long tokens of each key that was revoked in it were accepted, by the streams that tried.
    fn exposures(&self, run: &Run<'_>) -> Vec<Exposure> {
        let mut worst: BTreeMap<Lane, Lasting> = BTreeMap::new();
        for ((lane, _), afterlife) in &run.fold.afterlives {
            let Some(revoked) = run.plan.timeline.life(lane.key).map(|life| life.revoked) else { continue };
            if revoked < self.from || self.until <= revoked {
                continue;
            }
            // Nobody knows what would have become of a later one.
            let at_least = afterlife.last_accepted > afterlife.last_refused;
            let seconds = afterlife.last_accepted.map_or(0.0, |at| at.since(revoked).as_secs_f64());
            let lasting = worst.entry(*lane).or_insert(Lasting { seconds: 0.0, at_least: false });
            if (seconds, at_least) > (lasting.seconds, lasting.at_least) {
                *lasting = Lasting { seconds, at_least };
            }
        }
        let streams = &run.plan.streams;
        worst
            .into_iter()
            .map(|(lane, lasted)| Exposure {
                stream: streams[lane.stream].name.clone(),
                key: lane.key.to_string(),
                fresh: streams[lane.stream].fresh,
                alone: streams[lane.stream].alone,
                lasted,
            })
            .collect()
    }

    /// From the first JWKS fault of the episode until a token was denied whose key had been published before it.
    fn outage_survival(&self, run: &Run<'_>) -> Option<Lasting> {
        let fault = self.disturbances.iter().find(|disturbance| disturbance.hits_jwks)?;
        let known = |lane: Lane| run.plan.timeline.key_state(lane.key, fault.from).published;
        let denied = run.fold.denials.iter().filter(|denial| known(denial.lane)).map(|denial| denial.at);
        let first = denied.filter(|at| fault.from <= *at && *at < self.until).min();
        Some(Lasting {
            seconds: first.unwrap_or(fault.until.min(self.until)).since(fault.from).as_secs_f64(),
            at_least: first.is_none(),
        })
    }

    /// What the episode cost beyond what the fleet asks for when nothing happens.
    fn amplification(&self, run: &Run<'_>) -> Option<f64> {
        let length = self.until.since(self.from).as_secs_f64();
        let requests = run.jwks_count(self.from, self.until) as f64;
        run.calm_jwks_rate().map(|rate| requests - rate * length)
    }

    fn causes(&self, run: &Run<'_>, causes: &Causes<'_>) -> BTreeMap<String, u64> {
        let within =
            run.fold.denials.iter().filter(|denial| self.from <= denial.at && denial.at < self.until);
        causes.count(within)
    }

    fn recovering(&self, run: &Run<'_>, of: impl Fn(Lane) -> bool) -> Recovering {
        let track = self.track(run, &of);
        let recovery = |from| track.recovery(from, self.until, run.plan.recover_below);
        Recovering {
            traffic: self.tally(&of).traffic(track.worst_second()),
            time_to_recover: recovery(self.from),
            recovery_lag: recovery(self.curable_from()),
        }
    }
}

/// The recoveries of instances, ranked.
fn spread(recoveries: &[Recovery]) -> Option<RecoverySpread> {
    let count = |state| recoveries.iter().filter(|recovery| recovery.state == state).count() as u64;
    let recovered = recoveries.iter().filter(|recovery| recovery.state == RecoveryState::Recovered);
    let mut times: Vec<f64> = recovered.filter_map(|recovery| recovery.seconds).collect();
    times.sort_by(f64::total_cmp);
    // Those that did not recover are slower than all that did.
    let not_recovered = count(RecoveryState::NotRecovered);
    let ranked = times.len() as u64 + not_recovered;
    // The nearest rank: the smallest time that at least this share of the instances has.
    let rank = |share: f64| {
        let rank = (share * ranked as f64).ceil() as usize;
        times.get(rank.saturating_sub(1)).copied()
    };
    (ranked > 0).then(|| RecoverySpread {
        p50_s: rank(0.5),
        p95_s: rank(0.95),
        max_s: rank(1.0),
        recovered: times.len() as u64,
        not_recovered,
        inconclusive: count(RecoveryState::Inconclusive),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recovery(state: RecoveryState, seconds: Option<f64>) -> Recovery {
        Recovery { state, seconds, last_denial_s: None, first_pass_after_s: None, following: 100 }
    }

    #[test]
    fn who_did_not_recover_is_slower_than_all_who_did() {
        let recovered = |seconds| recovery(RecoveryState::Recovered, Some(seconds));
        let never = recovery(RecoveryState::NotRecovered, Some(90.0));
        let unknown = recovery(RecoveryState::Inconclusive, None);
        let all = spread(&[recovered(3.0), unknown, recovered(1.0), never]).unwrap();
        assert_eq!((all.p50_s, all.p95_s, all.max_s), (Some(3.0), None, None));
        assert_eq!((all.recovered, all.not_recovered, all.inconclusive), (2, 1, 1));
        assert_eq!(spread(&[recovered(3.0), recovered(1.0)]).unwrap().max_s, Some(3.0));
        assert_eq!(spread(&[unknown]), None);
    }
}
