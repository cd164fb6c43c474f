//! Five numbers that tell how a client meets a rotation: each is what a scenario comes to in virtual time.
//!
//! The cache was filled just before, so that everything takes as long as it can. Between its own numbers a client meets
//! nothing but valid tokens of the old key.

use anyhow::Context;
use keyquake_core::{Policy, Span};
use keyquake_reports::record::{Cell, Engine, Metric};
use keyquake_reports::{Worst, worst};

use super::ClientProfile;
use crate::plan::Plan;
use crate::scenario::Source;
use crate::simulate::{self, Experience};

/// How many requests of a kind a scenario has: its numbers are that exact.
const REQUESTS: f64 = 3_600.0;
/// No scenario is shorter or longer.
const SHORTEST: Span = Span::from_secs(1_200);
const LONGEST: Span = Span::from_secs(15 * 86_400);
/// How long it lasts beyond what the policy knows of.
const MARGIN: f64 = 1.25;

/// A rotation just in time, as soon as the cache was filled: the new key is there when it begins to sign.
const ROTATION: &str = "[[rotation]]\nat = \"10ms\"\nstyle = \"just-in-time\"\n";
const LOGINS: &str = "[[traffic.stream]]\nname = \"logins\"\ntoken = \"login\"\nrate = \"{rate}/s\"\n";
const STRAY: &str =
    "[[traffic.stream]]\nname = \"stray\"\ntoken = \"unknown_kid\"\nburst = { at = \"2ms\", count = 1 }\n";
/// The thief has one token, which a client that remembers tokens has seen before.
const REVOCATION: &str = "[[rotation]]\nat = \"10ms\"\nstyle = \"revoke\"\n\
    [[traffic.stream]]\nname = \"thief\"\ntoken = \"key:key-1\"\nrate = \"{rate}/s\"\n";
/// With new tokens of known keys, which no client remembers.
const OUTAGE: &str = "[[fault]]\nfrom = \"10ms\"\nfor = \"{rest}\"\njwks = { status = 503 }\n\
    [[traffic.stream]]\nname = \"logins\"\ntoken = \"login\"\narrivals = \"even\"\nrate = \"{rate}/s\"\n";
/// One a second for ten minutes.
const STRAYS: &str = "[[traffic.stream]]\nname = \"strays\"\ntoken = \"unknown_kid\"\nrate = \"1/s\"\n\
    from = \"1m\"\nuntil = \"11m\"\n";

/// What sets clients apart. Times are in seconds, `None` where there was nothing to see.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// How long valid tokens of a new key are refused.
    pub(crate) refused: Option<Worst>,
    /// The same if a token with a kid that nobody knows came right before.
    pub(crate) refused_after_stray: Option<Worst>,
    /// How long a token is accepted whose key was taken from the set, while nothing else draws attention.
    pub(crate) exposed: Option<Worst>,
    /// How long known keys verify after the endpoint has failed.
    pub(crate) survives: Option<Worst>,
    /// How many fetches a token with an unknown kid causes, at one such token a second.
    pub(crate) per_stray: Option<Worst>,
}

impl Numbers {
    /// Simulates what they need.
    ///
    /// # Errors
    ///
    /// A profile that no scenario takes; the system has no randomness for keys.
    pub(crate) fn of(profile: &ClientProfile) -> anyhow::Result<Self> {
        let Policy { ttl, inner_ttl, stale_for, last_known_good, token_cache_ttl, .. } = profile.policy()?;
        let Policy { poll_interval, limiter_interval, negative_ttl, http_min, .. } = profile.policy()?;
        let looks = if poll_interval > Span::ZERO { poll_interval } else { ttl };
        let refused = |lines: &[&str]| {
            let cell =
                play(profile, &lines.concat(), length(&[looks, http_min, limiter_interval, negative_ttl]))?;
            Ok::<_, anyhow::Error>(worst(&cell, Metric::TimeToRecover))
        };
        let kept = [looks, http_min, inner_ttl, last_known_good, token_cache_ttl];
        let exposed = play(profile, REVOCATION, length(&kept))?;
        let survives = play(profile, OUTAGE, length(&[ttl, http_min, inner_ttl, stale_for, poll_interval]))?;
        Ok(Self {
            refused: refused(&[ROTATION, LOGINS])?,
            refused_after_stray: refused(&[ROTATION, LOGINS, STRAY])?,
            exposed: worst(&exposed, Metric::RevocationExposure),
            survives: worst(&survives, Metric::OutageSurvival),
            per_stray: worst(&play(profile, STRAYS, SHORTEST)?, Metric::FetchesPerUnknownKid),
        })
    }
}

/// How long a scenario has to last to see the end of what ends after these together.
fn length(spans: &[Span]) -> Span {
    let known =
        spans.iter().filter(|span| **span <= LONGEST).fold(Span::ZERO, |sum, span| sum.saturating_add(*span));
    known.scale(MARGIN).clamp(SHORTEST, LONGEST)
}

fn play(profile: &ClientProfile, lines: &str, length: Span) -> anyhow::Result<Cell> {
    let rate = format!("{:.6}", REQUESTS / length.as_secs_f64());
    let rest = length.saturating_sub(Span::from_millis(10)).to_string();
    let lines = lines.replace("{rate}", &rate).replace("{rest}", &rest);
    // Tokens outlive the scenario, so that none is renewed.
    let text = format!(
        "name = \"{}\"\nduration = \"{length}\"\n[idp]\ntoken_lifetime = \"1000d\"\n[fleet]\nprofile = \"{}\"\n\
         cache = {{ age = \"0s\" }}\n[traffic]\nrate = \"{rate}/s\"\narrivals = \"even\"\nsessions = 10\non_reject = \"keep\"\n\
         background = {{ expired = \"0%\", forged = \"0%\" }}\n{lines}",
        profile.name, profile.name,
    );
    let source = Source::new(&profile.name, &text, &[]).map_err(anyhow::Error::msg)?;
    let plan = Plan::check(&source, Engine::Simulated).map_err(anyhow::Error::msg)?;
    simulate::measure(&plan, &mut Experience::default())?
        .record()
        .cells
        .into_iter()
        .next()
        .context("a run has a cell")
}
