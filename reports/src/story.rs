//! What happened in an episode, in sentences that a newcomer understands.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{
    Cell, Episode, EpisodeMetrics, Exposure, JwksVolume, Lasting, LoginStorm, Orphaned, Recovering, Recovery,
    RecoverySpread, RecoveryState, Unit,
};
use crate::table::Tone;
use crate::{exposure, format, phase};

/// With more replicas than this, only the worst is told of.
const REPLICAS_MAX: usize = 4;

/// More episodes than this are left to the table.
const STORIES_MAX: usize = 20;

/// An episode in words.
pub(crate) struct Story {
    /// `Episode 1: no-overlap rotation to key-2, at 0 s.`
    pub(crate) title: String,
    pub(crate) sentences: Vec<String>,
}

/// The episodes of a cell in words, the first few of them.
pub(crate) fn tell(cell: &Cell) -> Vec<Story> {
    cell.episodes
        .iter()
        .enumerate()
        .take(STORIES_MAX)
        .map(|(index, episode)| Story::new(index, episode))
        .collect()
}

/// A number that matters, with its name.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) tone: Tone,
}

/// The numbers of an episode that matter most.
pub(crate) fn figures(metrics: &EpisodeMetrics) -> [Figure; 6] {
    let cohort = &metrics.cohort;
    let denied = |denied: u64| if denied > 0 { Tone::Bad } else { Tone::Plain };
    let share = |share: Option<f64>| share.map_or_else(|| "–".into(), format::share);
    let (value, tone) = recovery(&cohort.time_to_recover);
    [
        Figure { name: "recovered after", value, tone },
        Figure {
            name: "denied",
            value: share(cohort.traffic.denied_share),
            tone: denied(cohort.traffic.denied),
        },
        Figure { name: "worst second", value: share(cohort.traffic.peak_denied_share), tone: Tone::Plain },
        Figure { name: "requests denied", value: format::count(cohort.traffic.denied), tone: Tone::Plain },
        Figure { name: "of all traffic", value: share(metrics.all.traffic.denied_share), tone: Tone::Plain },
        Figure { name: "JWKS requests", value: format::count(metrics.jwks.jwks_requests), tone: Tone::Plain },
    ]
}

/// The numbers that an episode has only if something was done to it, in the order of the reports.
pub(crate) fn special_figures(metrics: &EpisodeMetrics) -> Vec<Figure> {
    let bad_if = |bad: bool| if bad { Tone::Bad } else { Tone::Plain };
    let lasting = |lasting: Lasting| format::lasting(lasting.seconds, lasting.at_least);
    let survived = metrics.outage_survival.map(|survival| Figure {
        name: "outage survived",
        value: lasting(survival),
        tone: bad_if(!survival.at_least),
    });
    let exposed = exposure::longest(&metrics.revocation_exposure).map(|longest| Figure {
        name: "revoked key accepted",
        value: lasting(longest),
        tone: bad_if(longest.seconds > 0.0),
    });
    let flapped = flapping(metrics).map(|(_, seconds)| Figure {
        name: "answered both ways",
        value: format::seconds(seconds),
        tone: bad_if(seconds > 0.0),
    });
    survived.into_iter().chain(exposed).chain(flapped).collect()
}

/// The replica that answered both ways for longest, and how long that was in seconds; `None` where each has one worker.
pub(crate) fn flapping(metrics: &EpisodeMetrics) -> Option<(u32, f64)> {
    let by_replica = metrics.flapping_s.iter().flatten();
    by_replica.map(|(&replica, &seconds)| (replica, seconds)).rev().max_by(|a, b| a.1.total_cmp(&b.1))
}

/// What is to be said of the whole run, beside its episodes.
pub(crate) fn of_run(cell: &Cell) -> Vec<String> {
    let metrics = &cell.metrics;
    let mut sentences = Vec::new();
    // With one episode its own time to recover says it.
    if let Some(Lasting { seconds, at_least }) = metrics.blackout_worst.filter(|_| cell.episodes.len() > 1) {
        let lasted = format::lasting(seconds, at_least);
        sentences
            .push(format!("The longest blackout after a rotation, over all ages of the caches: {lasted}."));
    }
    sentences.extend(phase::sentence(cell));
    let statuses =
        metrics.jwks.statuses.iter().map(|(status, &n)| format!("{} × {status}", format::count(n)));
    let statuses = statuses.collect::<Vec<_>>().join(", ");
    let by_status = if metrics.jwks.statuses.len() > 1 { format!(" ({statuses})") } else { String::new() };
    sentences.push(format!("In all the IdP answered {}{by_status}.", volume(&metrics.jwks)));
    if let Some(fetches) = metrics.fetches_per_unknown_kid {
        let fetches = format::quantity(Unit::Ratio, fetches);
        sentences.push(format!("Each token with an unknown kid caused {fetches} JWKS requests on average."));
    }
    sentences
}

/// A recovery in the width of a table's column.
pub(crate) fn recovery(recovery: &Recovery) -> (String, Tone) {
    match (recovery.state, recovery.seconds) {
        (RecoveryState::Recovered, Some(seconds)) => (format::seconds(seconds), Tone::Plain),
        (RecoveryState::NotRecovered, Some(seconds)) => {
            (format!("> {}", format::seconds(seconds)), Tone::Bad)
        }
        (RecoveryState::NotRecovered, None) => ("never".into(), Tone::Bad),
        _ => ("too little data".into(), Tone::Doubtful),
    }
}

/// The kinds of tokens that were accepted and must not be, with their number; empty when there are none.
pub(crate) fn false_accepts(by_kind: &BTreeMap<String, u64>) -> String {
    let kinds = by_kind.iter().filter(|&(_, &number)| number > 0);
    kinds.map(|(kind, &number)| format!("{kind} ({})", times(number))).collect::<Vec<_>>().join(", ")
}

impl Story {
    fn new(index: usize, episode: &Episode) -> Self {
        let metrics = &episode.metrics;
        let title =
            format!("Episode {}: {}, at {}.", index + 1, episode.title, format::seconds(episode.from_s));
        let mut sentences = of_cohort(&episode.cohort, &metrics.cohort);
        sentences.extend(of_all(metrics));
        sentences.extend(metrics.by_instance.as_ref().and_then(of_instances));
        sentences.extend(of_flapping(metrics));
        sentences.push(of_jwks(metrics));
        sentences.extend(metrics.outage_survival.map(of_survival));
        sentences.extend(of_exposures(&metrics.revocation_exposure));
        sentences.extend(of_orphaned(&metrics.orphaned));
        sentences.extend(of_false_accepts(&metrics.false_accepts));
        sentences.extend(of_storm(&metrics.login_storm));
        Self { title, sentences }
    }
}

fn of_cohort(cohort: &str, seen: &Recovering) -> Vec<String> {
    let traffic = &seen.traffic;
    let requests = format::counted(traffic.must_pass, "request");
    if traffic.must_pass == 0 {
        return vec![format!("The cohort ({cohort}) made no request, so nothing can be said of it.")];
    }
    if traffic.denied == 0 {
        return vec![format!("All {requests} of the cohort ({cohort}) were accepted.")];
    }
    let share = traffic.denied_share.map_or_else(String::new, |share| format!(", {}", format::share(share)));
    let peak = traffic
        .peak_denied_share
        .map_or_else(String::new, |peak| format!(" and {} in the worst second", format::share(peak)));
    let layers = match (traffic.false_rejects, traffic.failures) {
        (_, 0) => "all with 401 or 403".into(),
        (0, _) => "all with 5xx, resets or time-outs".into(),
        (rejects, failures) => {
            format!(
                "{} with 401 or 403 and {} with 5xx, resets or time-outs",
                format::count(rejects),
                format::count(failures)
            )
        }
    };
    let denied = format::count(traffic.denied);
    let mut sentences =
        vec![format!("Of {requests} of the cohort ({cohort}) {denied} were denied{share}{peak}: {layers}.")];
    sentences.extend(of_recovery(seen));
    sentences
}

fn of_recovery(seen: &Recovering) -> Option<String> {
    let (recovery, lag) = (&seen.time_to_recover, &seen.recovery_lag);
    let seconds = recovery.seconds.map(format::seconds);
    match (recovery.state, seconds) {
        (RecoveryState::Recovered, Some(took)) => {
            let bracket = match (recovery.last_denial_s, recovery.first_pass_after_s) {
                (Some(last), Some(first)) => {
                    format!(
                        " (last denial at {}, first pass after it at {})",
                        format::seconds(last),
                        format::seconds(first)
                    )
                }
                _ => String::new(),
            };
            let own = match lag.seconds.filter(|_| lag.state == RecoveryState::Recovered) {
                Some(lag) if Some(lag) == recovery.seconds => "; all of it is the service's own lag".into(),
                Some(lag) => format!(
                    "; {} of it is the service's own lag, and the rest no validator could have avoided",
                    format::seconds(lag)
                ),
                None => String::new(),
            };
            Some(format!("It took {took} until they passed again{bracket}{own}."))
        }
        (RecoveryState::NotRecovered, Some(waited)) => {
            Some(format!("They had not recovered after {waited}, when the episode ended."))
        }
        (RecoveryState::NotRecovered, None) => Some("They had not recovered when the episode ended.".into()),
        _ => Some("Too few requests followed to say when they recovered.".into()),
    }
}

fn of_all(metrics: &EpisodeMetrics) -> Option<String> {
    let traffic = &metrics.all.traffic;
    let share = traffic.denied_share?;
    if metrics.cohort.traffic.denied == 0 && traffic.denied == 0 {
        return None;
    }
    let peak = traffic
        .peak_denied_share
        .map_or_else(String::new, |peak| format!(", {} in the worst second", format::share(peak)));
    Some(format!(
        "Over all traffic, which is what a dashboard shows, {} were denied{peak}.",
        format::share(share)
    ))
}

fn of_instances(spread: &RecoverySpread) -> Option<String> {
    let known = spread.recovered.saturating_add(spread.not_recovered);
    if known < 2 {
        return None;
    }
    let instances = format::counted(known, "instance");
    let missing = format::count(spread.not_recovered);
    match (spread.p50_s.map(format::seconds), spread.max_s.map(format::seconds)) {
        _ if spread.max_s == Some(0.0) => Some(format!("Each of {instances} passed from the first moment.")),
        (Some(median), Some(max)) => {
            Some(format!("Of {instances} half had recovered after {median}, the slowest after {max}."))
        }
        (Some(median), None) => Some(format!(
            "Of {instances} half had recovered after {median}, but {missing} did not recover at all."
        )),
        (None, _) => Some(format!("Of {instances} {missing} did not recover.")),
    }
}

fn of_flapping(metrics: &EpisodeMetrics) -> Option<String> {
    let by_replica = metrics.flapping_s.as_ref()?;
    let (longest, _) = flapping(metrics)?;
    let flapped: Vec<_> = by_replica.iter().filter(|&(_, &seconds)| seconds > 0.0).collect();
    let each = flapped.iter().take(REPLICAS_MAX).map(|(replica, seconds)| {
        format!("replica {replica} answered both ways for {}", format::seconds(**seconds))
    });
    let each = match flapped.len() {
        0 => return Some("The workers of each replica answered alike.".into()),
        few if few <= REPLICAS_MAX => each.collect::<Vec<_>>().join(", "),
        many => {
            let seconds = by_replica.get(&longest).copied().unwrap_or_default();
            let many = format::counted(many as u64, "replica");
            format!("{many} answered both ways, replica {longest} for longest: {}", format::seconds(seconds))
        }
    };
    let why = match metrics.causes.get("not refreshed") {
        Some(1..) => "one worker had fetched the key, another had not",
        _ => "what one worker accepted, another denied",
    };
    Some(format::sentence(&format!("{each}: {why}")))
}

fn of_jwks(metrics: &EpisodeMetrics) -> String {
    let volume = volume(&metrics.jwks);
    let beyond = metrics.jwks_amplification.map(f64::round).map_or_else(String::new, |more| match more {
        1.0.. => {
            format!("; {} of them are beyond what the undisturbed fleet asks for", format::count(more as u64))
        }
        _ => "; no more than the undisturbed fleet asks for".into(),
    });
    format!("The IdP answered {volume}{beyond}.")
}

/// `141 JWKS requests, at most 12 within one second`.
fn volume(jwks: &JwksVolume) -> String {
    let peak = match jwks.jwks_requests {
        0 | 1 => String::new(),
        _ => format!(", at most {} within one second", format::count(jwks.jwks_peak_per_second)),
    };
    format::counted(jwks.jwks_requests, "JWKS request") + &peak
}

fn of_survival(survival: Lasting) -> String {
    let lasted = format::seconds(survival.seconds);
    if survival.at_least {
        format!("Tokens of known keys passed through the whole outage, for {lasted} at least.")
    } else {
        format!("Tokens of known keys passed for {lasted} of the outage, then the first was denied.")
    }
}

/// One sentence for each key: the table of exposures has the streams.
fn of_exposures(exposures: &[Exposure]) -> Vec<String> {
    let keys: BTreeSet<&str> = exposures.iter().map(|exposure| exposure.key.as_str()).collect();
    keys.into_iter()
        .map(|key| {
            let passed = |alone: bool, company: &str| {
                let tried =
                    exposures.iter().filter(|exposure| exposure.key == key && exposure.alone == alone);
                let lasted = exposure::longest(tried)?;
                let seconds = format::seconds(lasted.seconds);
                Some(match lasted {
                    Lasting { at_least: true, .. } => format!("to the last try, {seconds} later, {company}"),
                    Lasting { seconds: 0.0, .. } => format!("not once {company}"),
                    Lasting { .. } => format!("for up to {seconds} {company}"),
                })
            };
            let passed = [passed(false, "amid other traffic"), passed(true, "where nothing else went")];
            let passed = passed.into_iter().flatten().collect::<Vec<_>>();
            format!("Tokens of the revoked {key} were accepted {}.", passed.join(", and "))
        })
        .collect()
}

fn of_orphaned(orphaned: &Orphaned) -> Option<String> {
    let Orphaned { orphaned_rejects, orphaned_accepts } = *orphaned;
    if orphaned_rejects == 0 && orphaned_accepts == 0 {
        return None;
    }
    Some(format!(
        "Orphaned tokens, valid still while their key had left the JWKS, were refused {} and accepted {}: that is charged to \
         the IdP's timeline, not to the service.",
        times(orphaned_rejects),
        times(orphaned_accepts),
    ))
}

fn of_false_accepts(by_kind: &BTreeMap<String, u64>) -> Option<String> {
    let kinds = false_accepts(by_kind);
    (!kinds.is_empty()).then(|| format!("Tokens that must be refused were accepted: {kinds}."))
}

fn of_storm(storm: &LoginStorm) -> Option<String> {
    if storm.requests == 0 {
        return None;
    }
    let (requests, peak) =
        (format::counted(storm.requests, "token request"), format::count(storm.peak_per_second));
    let locked_out = match storm.locked_out {
        0 => String::new(),
        sessions => format!("; {} saw three denials in a row", format::counted(sessions, "session")),
    };
    Some(format!("Rejections caused {requests}, at most {peak} within one second{locked_out}."))
}

fn times(number: u64) -> String {
    format::counted(number, "time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn replicas_that_answer_both_ways_are_named_and_many_are_counted() {
        let mut metrics = sample::no_overlap().cells.remove(0).episodes.remove(0).metrics;
        let mut said = |seconds: &[f64]| {
            metrics.flapping_s = Some((0..).zip(seconds.iter().copied()).collect());
            (flapping(&metrics), of_flapping(&metrics).unwrap())
        };
        assert_eq!(said(&[0.0, 0.0]), (Some((0, 0.0)), "The workers of each replica answered alike.".into()));
        let why = "one worker had fetched the key, another had not.";
        let (longest, text) = said(&[0.0, 24.9, 38.0]);
        assert_eq!(longest, Some((2, 38.0)));
        assert_eq!(
            text,
            format!("Replica 1 answered both ways for 24.9 s, replica 2 answered both ways for 38 s: {why}")
        );
        let (_, text) = said(&[5.0, 9.0, 5.0, 5.0, 5.0]);
        assert_eq!(text, format!("5 replicas answered both ways, replica 1 for longest: 9 s: {why}"));
        metrics.flapping_s = None;
        assert_eq!((flapping(&metrics), of_flapping(&metrics)), (None, None));
    }
}
