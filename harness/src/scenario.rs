//! The scenario file: what a person wrote, before any of it is checked against the rest.
//!
//! No type here is internally tagged, untagged or flattened: those lose the line of an error.

pub(crate) mod depth;
mod fault;
mod matrix;
pub(crate) mod range;
mod source;
mod target;
mod token_source;
pub(crate) mod units;
mod value;

use std::collections::BTreeMap;

use keyquake_core::{Algorithm, Policy, Span};
use keyquake_idp::{Share, Style};
use serde::Deserialize;
use serde::de::IgnoredAny;

pub(crate) use self::fault::Fault;
pub(crate) use self::matrix::{Chosen, Matrix};
pub(crate) use self::source::{Document, Source, nearest};
pub(crate) use self::target::{Guard, Target};
pub(crate) use self::token_source::TokenSource;
use self::units::{Rate, SignedSpan};
use crate::profiles::{ClientProfile, IdpProfile, Known};

/// A scenario as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    #[serde(default = "default_seed")]
    pub(crate) seed: u64,
    pub(crate) duration: Span,
    #[serde(default)]
    pub(crate) warmup: Span,
    #[serde(default = "default_speed")]
    pub(crate) speed: f64,
    #[serde(default = "default_recover_below")]
    pub(crate) recover_below: Share,
    #[serde(default)]
    pub(crate) idp: Idp,
    #[serde(default)]
    pub(crate) rotation: Vec<Rotation>,
    #[serde(default)]
    pub(crate) fault: Vec<Fault>,
    #[serde(default)]
    pub(crate) runbook: Vec<Runbook>,
    #[serde(default)]
    pub(crate) fleet: Fleet,
    /// The service under test; the reference service unless it is there.
    pub(crate) target: Option<Target>,
    #[serde(default)]
    pub(crate) guard: Guard,
    pub(crate) traffic: Traffic,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    pub(crate) simulate: Simulate,
    #[serde(default)]
    pub(crate) gate: Vec<Gate>,
    #[serde(default)]
    pub(crate) gates: BTreeMap<String, String>,
    /// Of a sweep, whose cells do not have it any more.
    pub(crate) matrix: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) find: Vec<Find>,
    #[serde(default)]
    pub(crate) recommend: BTreeMap<String, String>,
}

impl Scenario {
    /// Lays the file over the profiles that it names.
    ///
    /// # Errors
    ///
    /// A name that is none.
    fn follow_profiles(&mut self) -> Result<(), UnknownProfile> {
        if let Some(name) = self.fleet.profile.as_ref().filter(|name| ClientProfile::find(name).is_none()) {
            let names = ClientProfile::all().iter().map(|profile| profile.name.as_str());
            let field = "fleet.profile";
            return Err(UnknownProfile { field, name: name.clone(), nearest: nearest(name, names) });
        }
        let Some(name) = &self.idp.profile else { return Ok(()) };
        let profile = IdpProfile::find(name).ok_or_else(|| UnknownProfile {
            field: "idp.profile",
            name: name.clone(),
            nearest: nearest(name, IdpProfile::all().iter().map(|profile| profile.name.as_str())),
        })?;
        self.idp.follow(profile);
        self.rotation.iter_mut().for_each(|rotation| rotation.follow(profile));
        Ok(())
    }
}

/// The name of no profile, where it stands, and the name most like it.
struct UnknownProfile {
    field: &'static str,
    name: String,
    nearest: Option<&'static str>,
}

fn default_seed() -> u64 {
    1
}

fn default_speed() -> f64 {
    1.0
}

fn default_recover_below() -> Share {
    Share::percent(0.1)
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Idp {
    /// The real provider whose numbers fill in what the file leaves out.
    pub(crate) profile: Option<String>,
    pub(crate) algorithm: Algorithm,
    token_lifetime: Option<Span>,
    /// The `max-age` of the JWKS.
    pub(crate) max_age: Option<Span>,
    /// The `Cache-Control` header of the JWKS in full; empty for none.
    pub(crate) cache_control: Option<String>,
    /// Whether it serves HTTPS, which virtual time knows nothing of.
    pub(crate) tls: bool,
    /// The port of a live run's IdP; a free one unless said.
    pub(crate) port: Option<u16>,
}

impl Default for Idp {
    fn default() -> Self {
        Self {
            profile: None,
            algorithm: Algorithm::Rs256,
            token_lifetime: None,
            max_age: None,
            cache_control: None,
            tls: false,
            port: None,
        }
    }
}

impl Idp {
    pub(crate) fn token_lifetime(&self) -> Span {
        self.token_lifetime.unwrap_or(Span::from_secs(3_600))
    }

    /// The `Cache-Control` header of the JWKS; `None` if it has none.
    pub(crate) fn cache_control(&self) -> Option<String> {
        let max_age = self.max_age.unwrap_or(Span::from_secs(300)).as_secs();
        let header = self.cache_control.clone().unwrap_or_else(|| format!("public, max-age={max_age}"));
        (!header.is_empty()).then_some(header)
    }

    /// Fills in what the file leaves out.
    fn follow(&mut self, profile: &IdpProfile) {
        self.token_lifetime =
            self.token_lifetime.or(profile.token_lifetime.as_ref().map(|known| known.value));
        if self.max_age.is_none() && self.cache_control.is_none() {
            self.cache_control = profile.cache_control.as_ref().map(|known| known.value.clone());
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    pub(crate) at: Span,
    /// The time between one of `times` rotations and the next.
    pub(crate) every: Option<Span>,
    pub(crate) times: Option<u32>,
    #[serde(default)]
    pub(crate) phase: Phase,
    pub(crate) style: Option<Style>,
    pub(crate) lead: Option<SignedSpan>,
    pub(crate) retention: Option<Span>,
    pub(crate) replace: Option<bool>,
}

impl Rotation {
    /// The style as written, or as the numbers have it; `None` where neither says.
    pub(crate) fn style(&self) -> Option<Style> {
        let lead = || {
            self.lead.map(|lead| match lead {
                SignedSpan { negative: true, .. } => Style::Late,
                SignedSpan { length, .. } if length > Span::ZERO => Style::Overlap,
                _ if self.retention == Some(Span::ZERO) => Style::NoOverlap,
                _ => Style::JustInTime,
            })
        };
        self.style.or_else(lead)
    }

    /// Fills in what the file leaves out, as far as the style leaves it open.
    fn follow(&mut self, profile: &IdpProfile) {
        let value = |known: &Option<Known<Span>>| known.as_ref().map(|known| known.value);
        if self.times.is_some_and(|times| times > 1) {
            self.every = self.every.or(value(&profile.every));
        }
        let lead = value(&profile.lead).filter(|lead| match self.style {
            None => true,
            Some(style) => style == Style::Overlap && *lead > Span::ZERO,
        });
        let lead = lead.map(|length| SignedSpan { negative: false, length });
        self.lead = self.lead.or(lead);
        if matches!(self.style, None | Some(Style::Overlap | Style::JustInTime | Style::Late)) {
            self.retention = self.retention.or(value(&profile.retention));
        }
    }
}

/// How rotations that repeat fall onto the ages of the caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// As they come.
    #[default]
    Fixed,
    /// Each a further part of the cache's lifetime later, so that together they meet all ages.
    Spread,
}

/// What the people on call do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Runbook {
    pub(crate) when: Span,
    #[serde(rename = "do")]
    pub(crate) action: Action,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Every replica starts anew with a cold cache.
    Restart(Restart),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    /// One replica after the other, evenly over this time; all at once when left out.
    #[serde(default)]
    pub(crate) rolling: Span,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fleet {
    /// The real client whose policy this is, but for what is written.
    pub(crate) profile: Option<String>,
    pub(crate) replicas: u32,
    /// Caches in each replica: connections are handed to its workers in turn.
    pub(crate) workers: u32,
    /// How many requests each worker handles at a time.
    pub(crate) concurrency: Option<u32>,
    /// How many more wait for that in each.
    pub(crate) queue: Option<u32>,
    pub(crate) cache: Cache,
    pub(crate) policy: Policy,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            profile: None,
            replicas: 1,
            workers: 1,
            concurrency: None,
            queue: None,
            cache: Cache::Staggered,
            policy: Policy::default(),
        }
    }
}

/// How old each cache is when event time starts.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cache {
    /// Nothing is loaded until the first request, which may fall into the warm-up.
    Cold,
    /// Ages spread evenly over the lifetime.
    Staggered,
    /// All of this age.
    Age(Span),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Traffic {
    pub(crate) rate: Rate,
    #[serde(default = "Traffic::default_sessions")]
    pub(crate) sessions: u32,
    #[serde(default)]
    pub(crate) arrivals: Arrivals,
    #[serde(default = "Traffic::default_renew_at")]
    pub(crate) renew_at: Share,
    #[serde(default)]
    pub(crate) on_reject: OnReject,
    #[serde(default = "Traffic::default_connections")]
    pub(crate) connections: u32,
    #[serde(default)]
    pub(crate) balance: Balance,
    #[serde(default = "Traffic::default_timeout")]
    pub(crate) timeout: Span,
    #[serde(default)]
    pub(crate) endpoint: Endpoint,
    #[serde(default = "Traffic::default_max_in_flight")]
    pub(crate) max_in_flight: u32,
    #[serde(default)]
    pub(crate) background: Background,
    #[serde(default)]
    pub(crate) stream: Vec<Stream>,
}

/// Traffic beside the sessions: logins, probes, floods.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) rate: Option<Rate>,
    pub(crate) burst: Option<Burst>,
    pub(crate) token: TokenSource,
    /// Whether each request carries a token of its own. Sessions never do, logins and strays always.
    #[serde(default)]
    pub(crate) fresh: bool,
    #[serde(default)]
    pub(crate) endpoint: Endpoint,
    #[serde(default)]
    pub(crate) arrivals: Arrivals,
    pub(crate) from: Option<Span>,
    pub(crate) until: Option<Span>,
    /// Where its requests go; everywhere unless said.
    pub(crate) replicas: Option<Vec<u32>>,
    /// Whether nothing else goes there.
    #[serde(default)]
    pub(crate) alone: bool,
}

/// Many requests in one instant.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Burst {
    pub(crate) at: Span,
    pub(crate) count: u32,
}

impl Traffic {
    fn default_sessions() -> u32 {
        100
    }

    fn default_renew_at() -> Share {
        Share::percent(80.0)
    }

    fn default_connections() -> u32 {
        8
    }

    fn default_timeout() -> Span {
        Span::from_secs(10)
    }

    fn default_max_in_flight() -> u32 {
        1_024
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arrivals {
    #[default]
    Poisson,
    Even,
}

/// How requests choose among the connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Balance {
    /// Each takes any connection to any replica.
    #[default]
    Random,
    /// A session keeps to one replica.
    Sticky,
}

/// Where requests go, which decides what kind of token they carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Endpoint {
    /// An access token.
    #[default]
    #[serde(rename = "/api")]
    Api,
    /// An ID token with its nonce.
    #[serde(rename = "/session")]
    Session,
}

/// What a session does when its token is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnReject {
    /// It asks for a new token with its refresh token, after a while.
    Renew(Renew),
    /// It keeps the token until the planned renewal.
    Keep,
    /// It logs in anew, at once.
    Relogin,
}

impl Default for OnReject {
    fn default() -> Self {
        Self::Renew(Renew { after: Span::from_secs(1) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renew {
    pub(crate) after: Span,
}

/// Tokens that must be refused, sent beside the sessions so that baselines and `false_accepts` mean something.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Background {
    pub(crate) expired: Share,
    pub(crate) forged: Share,
}

impl Default for Background {
    fn default() -> Self {
        Self { expired: Share::percent(0.5), forged: Share::percent(0.1) }
    }
}

/// When the generator itself makes a run void.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// The p99 of lateness, in wall time; 10 % of the p99 latency is always allowed.
    pub(crate) lateness: Span,
    pub(crate) shed: Share,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lateness: Span::from_millis(10), shed: Share::percent(0.1) }
    }
}

/// What a live run finds out by itself and virtual time must be told.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Simulate {
    /// How long a request to the IdP is on its way, beside what the IdP takes.
    pub(crate) fetch_time: Span,
}

impl Default for Simulate {
    fn default() -> Self {
        Self { fetch_time: Span::from_millis(3) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gate {
    pub(crate) metric: String,
    #[serde(default = "Gate::default_of")]
    pub(crate) of: String,
    pub(crate) limit: String,
}

impl Gate {
    pub(crate) fn default_of() -> String {
        "cohort".to_owned()
    }
}

/// What a sweep finds by bisection: the `smallest` or the `largest` value of a field with which a gate holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Find {
    pub(crate) smallest: Option<String>,
    pub(crate) largest: Option<String>,
    pub(crate) within: String,
    pub(crate) tolerance: Option<String>,
    /// The only episode that counts, the first being 1.
    pub(crate) episode: Option<u32>,
    pub(crate) metric: String,
    #[serde(default = "Gate::default_of")]
    pub(crate) of: String,
    pub(crate) limit: String,
}
