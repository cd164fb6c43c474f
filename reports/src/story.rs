//! What happened in an episode, in sentences that a newcomer understands.

use std::collections::BTreeMap;

use crate::format;
use crate::record::{
    Cell, Episode, EpisodeMetrics, Exposure, Lasting, LoginStorm, Orphaned, Recovering, Recovery,
    RecoverySpread, RecoveryState,
};
use crate::table::Tone;

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

/// A recovery in the width of a table's column.
fn recovery(recovery: &Recovery) -> (String, Tone) {
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
    kinds.map(|(kind, &number)| format!("{} {kind}", format::count(number))).collect::<Vec<_>>().join(", ")
}

impl Story {
    fn new(index: usize, episode: &Episode) -> Self {
        let metrics = &episode.metrics;
        let title =
            format!("Episode {}: {}, at {}.", index + 1, episode.title, format::seconds(episode.from_s));
        let mut sentences = of_cohort(&episode.cohort, &metrics.cohort);
        sentences.extend(of_all(metrics));
        sentences.extend(metrics.by_instance.as_ref().and_then(of_instances));
        let (jwks, peak) = (metrics.jwks.jwks_requests, metrics.jwks.jwks_peak_per_second);
        let peak = if jwks > 1 {
            format!(", at most {} within one second", format::count(peak))
        } else {
            String::new()
        };
        sentences.push(format!("The IdP answered {}{peak}.", format::counted(jwks, "JWKS request")));
        sentences.extend(of_causes(&metrics.causes));
        sentences.extend(metrics.outage_survival.map(of_survival));
        sentences.extend(metrics.revocation_exposure.iter().map(of_exposure));
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
        _ if spread.max_s == Some(0.0) => None,
        (Some(median), Some(max)) => {
            Some(format!("Of {instances} half had recovered after {median}, the slowest after {max}."))
        }
        (Some(median), None) => Some(format!(
            "Of {instances} half had recovered after {median}, but {missing} did not recover at all."
        )),
        (None, _) => Some(format!("Of {instances} {missing} did not recover.")),
    }
}

fn of_causes(causes: &BTreeMap<String, u64>) -> Option<String> {
    let mut causes: Vec<(&str, u64)> =
        causes.iter().map(|(cause, number)| (cause.as_str(), *number)).collect();
    causes.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let counted: Vec<String> =
        causes.iter().map(|(cause, number)| format!("{cause} ({})", format::count(*number))).collect();
    (!counted.is_empty()).then(|| format!("Why requests were denied: {}.", counted.join(", ")))
}

fn of_survival(survival: Lasting) -> String {
    let lasted = format::seconds(survival.seconds);
    if survival.at_least {
        format!("Tokens of known keys passed through the whole outage, for {lasted} at least.")
    } else {
        format!("Tokens of known keys passed for {lasted} of the outage, then the first was denied.")
    }
}

fn of_exposure(exposure: &Exposure) -> String {
    let Exposure { stream, key, fresh, alone, lasted } = exposure;
    let tokens = if *fresh { "a new token each time" } else { "one token again and again" };
    let company = if *alone { "where nothing else went" } else { "amid other traffic" };
    let seconds = format::seconds(lasted.seconds);
    let verdict = match lasted {
        Lasting { at_least: true, .. } => format!("was still accepted at the end, {seconds} later"),
        Lasting { seconds: 0.0, .. } => "was refused from the first moment".to_owned(),
        _ => format!("was accepted for {seconds}"),
    };
    format!("The revoked {key}, tried by {stream} with {tokens} {company}, {verdict}.")
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
