//! Traffic as streams: the sessions, the background, and what the scenario names beside them.

use keyquake_core::{Span, Time};
use keyquake_idp::{Forgery, Timeline};

use super::check::{NAME, is_name};
use super::{Disturbance, Stream};
use crate::scenario::{Document, Scenario, TokenSource};

/// The names of the streams that are always there, and of sets of requests that are no stream.
const RESERVED: [&str; 5] = ["sessions", "expired", "forged", "cohort", "all"];
/// The most streams, and the most requests of one burst.
const MAX_STREAMS: usize = 32;
const MAX_BURST: u32 = 100_000;

/// The streams of a scenario: the sessions first.
pub(super) fn check(
    source: &Document<'_>,
    scenario: &Scenario,
    timeline: &Timeline,
) -> Result<Vec<Stream>, String> {
    let traffic = &scenario.traffic;
    let named: Vec<Stream> = traffic
        .stream
        .iter()
        .enumerate()
        .map(|(i, _)| {
            Check { source, scenario, path: format!("traffic.stream[{i}]"), number: i }.stream(timeline)
        })
        .collect::<Result<_, _>>()?;
    if named.len() > MAX_STREAMS {
        return Err(source.complain("traffic.stream", format!("more than {MAX_STREAMS} streams"), None));
    }
    let shared: Vec<u32> = (0..scenario.fleet.replicas)
        .filter(|replica| !named.iter().any(|stream| stream.alone && stream.replicas.contains(replica)))
        .collect();
    if shared.is_empty() {
        return Err(source.complain("traffic.stream", "no replica is left for the sessions", None));
    }
    let always = |name: &str, token, share: f64| Stream {
        name: name.to_owned(),
        token,
        fresh: false,
        endpoint: traffic.endpoint,
        per_second: traffic.rate.per_second() * share,
        spacing: traffic.arrivals,
        burst: None,
        from: Time::ZERO - scenario.warmup,
        until: Time::ZERO + scenario.duration,
        replicas: shared.clone(),
        alone: false,
    };
    let (expired, forged) = (traffic.background.expired.fraction(), traffic.background.forged.fraction());
    let mut streams = vec![
        always("sessions", TokenSource::Session, 1.0 - expired - forged),
        always("expired", TokenSource::Forged(Forgery::Expired), expired),
        always("forged", TokenSource::Forged(Forgery::BadSignature), forged),
    ];
    streams.extend(named.into_iter().map(|stream| {
        let replicas = if stream.replicas.is_empty() { shared.clone() } else { stream.replicas };
        Stream { replicas, ..stream }
    }));
    Ok(streams)
}

/// How a stream disturbs the fleet by itself: tokens that must be refused, in a burst or for part of the run. What comes
/// from the start of the warm-up is background.
pub(super) fn floods(stream: &Stream, start: Time) -> impl Iterator<Item = Disturbance> {
    let tokens = match stream.token {
        TokenSource::Forged(forgery) => Some(in_words(forgery)),
        TokenSource::Session | TokenSource::Login | TokenSource::Key(_) => None,
    };
    let lasting =
        (stream.per_second > 0.0 && stream.from > start).then_some(("flood", stream.from, stream.until));
    let burst = stream.burst.map(|(at, _)| ("burst", at, at));
    lasting.into_iter().chain(burst).filter_map(move |(what, from, until)| {
        Some(Disturbance {
            from,
            until,
            title: format!("{what} of {}", tokens?),
            new_key: None,
            hits_jwks: false,
            curable_from: until,
        })
    })
}

const fn in_words(forgery: Forgery) -> &'static str {
    match forgery {
        Forgery::Expired => "expired tokens",
        Forgery::NotYetValid => "tokens not yet valid",
        Forgery::WrongAudience => "tokens for others",
        Forgery::WrongIssuer => "tokens of others",
        Forgery::BadSignature => "bad signatures",
        Forgery::UnknownKid => "unknown kids",
        Forgery::AlgNone => "unsigned tokens",
    }
}

impl Stream {
    /// What comes of it while it lasts: `flood (unknown_kid, 20/s)`.
    pub(crate) fn title(&self) -> String {
        format!("{} ({}, {}/s)", self.name, self.token, (self.per_second * 1e3).round() / 1e3)
    }

    /// Its burst, and what comes in it: `strays (500 × unknown_kid)`.
    pub(crate) fn titled_burst(&self) -> Option<(Time, String)> {
        self.burst.map(|(at, count)| (at, format!("{} ({count} × {})", self.name, self.token)))
    }
}

struct Check<'s> {
    source: &'s Document<'s>,
    scenario: &'s Scenario,
    path: String,
    number: usize,
}

impl Check<'_> {
    fn require(&self, holds: bool, field: &str, message: &str) -> Result<(), String> {
        let path = if field.is_empty() { self.path.clone() } else { format!("{}.{field}", self.path) };
        if holds { Ok(()) } else { Err(self.source.complain(&path, message, None)) }
    }

    fn stream(&self, timeline: &Timeline) -> Result<Stream, String> {
        let Scenario { traffic, duration, warmup, .. } = self.scenario;
        let written = &traffic.stream[self.number];
        let name = written.name.as_str();
        let earlier = &traffic.stream[..self.number];
        self.require(is_name(name), "name", NAME)?;
        self.require(!RESERVED.contains(&name), "name", "this name means something else")?;
        self.require(!earlier.iter().any(|other| other.name == name), "name", "this name is taken")?;
        let per_second = written.rate.map_or(0.0, |rate| rate.per_second());
        self.require(
            per_second > 0.0 || written.burst.is_some(),
            "",
            "a stream has a `rate` above zero, or a `burst`",
        )?;
        self.endpoint()?;
        if let TokenSource::Key(key) = written.token {
            let known = timeline.life(key).is_some();
            self.require(
                known,
                "token",
                "there is no such key: they are numbered from `key-1` as they activate",
            )?;
        }
        let within = |span: Option<Span>| span.is_none_or(|span| span < *duration);
        self.require(within(written.from), "from", "the stream begins after the end of the run")?;
        let ordered = written.until.is_none_or(|until| until > written.from.unwrap_or_default());
        self.require(ordered, "until", "the stream ends before it begins")?;
        let end = Time::ZERO + *duration;
        Ok(Stream {
            name: name.to_owned(),
            token: written.token,
            fresh: self.fresh()?,
            endpoint: written.endpoint,
            per_second,
            spacing: written.arrivals,
            burst: self.burst()?,
            from: written.from.map_or(Time::ZERO - *warmup, |from| Time::ZERO + from),
            until: written.until.map_or(end, |until| end.min(Time::ZERO + until)),
            replicas: self.replicas()?,
            alone: written.alone,
        })
    }

    fn endpoint(&self) -> Result<(), String> {
        let written = &self.scenario.traffic.stream[self.number];
        let shares_sessions = written.token == TokenSource::Session;
        let same = written.endpoint == self.scenario.traffic.endpoint;
        self.require(
            !shares_sessions || same,
            "endpoint",
            "the sessions hold tokens for `traffic.endpoint` only",
        )
    }

    /// Logins, unknown kids and tokens of the future are always fresh, and a session's token never is.
    fn fresh(&self) -> Result<bool, String> {
        let written = &self.scenario.traffic.stream[self.number];
        match written.token {
            TokenSource::Session => {
                self.require(!written.fresh, "fresh", "a session keeps its token; a `login` does not")?;
                Ok(false)
            }
            // What is not valid yet would be valid in an hour.
            TokenSource::Login | TokenSource::Forged(Forgery::UnknownKid | Forgery::NotYetValid) => Ok(true),
            TokenSource::Key(_) | TokenSource::Forged(_) => Ok(written.fresh),
        }
    }

    fn burst(&self) -> Result<Option<(Time, u32)>, String> {
        let Some(burst) = self.scenario.traffic.stream[self.number].burst else { return Ok(None) };
        let message = "the burst comes after the end of the run";
        self.require(burst.at < self.scenario.duration, "burst.at", message)?;
        let fits = (1..=MAX_BURST).contains(&burst.count);
        self.require(fits, "burst.count", &format!("must lie between 1 and {MAX_BURST}"))?;
        Ok(Some((Time::ZERO + burst.at, burst.count)))
    }

    /// Where it goes; nowhere in particular when empty.
    fn replicas(&self) -> Result<Vec<u32>, String> {
        let traffic = &self.scenario.traffic;
        let written = &traffic.stream[self.number];
        let Some(replicas) = &written.replicas else {
            self.require(!written.alone, "alone", "a stream that is alone names its `replicas`")?;
            return Ok(Vec::new());
        };
        let known = replicas.iter().all(|replica| *replica < self.scenario.fleet.replicas);
        self.require(known, "replicas", "replicas are numbered from 0, and there are fewer")?;
        self.require(!replicas.is_empty(), "replicas", "the stream goes nowhere")?;
        // Those that are alone may share: none of them draws the caches' attention.
        let lone = traffic.stream.iter().filter(|other| other.alone && !written.alone);
        let is_taken =
            |replica| lone.clone().filter_map(|it| it.replicas.as_ref()).any(|it| it.contains(replica));
        let is_free = !replicas.iter().any(is_taken);
        self.require(is_free, "replicas", "another stream wants one of these replicas `alone`")?;
        Ok(replicas.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::plan;

    #[test]
    fn sessions_leave_replicas_that_others_want_alone() {
        let plan = plan(
            "[fleet]\nreplicas = 3\n[traffic]\nrate = \"100/s\"\n[[traffic.stream]]\nname = \"probe\"\n\
             token = \"key:key-1\"\nrate = \"5/s\"\nreplicas = [2]\nalone = true\n",
        );
        let replicas: Vec<_> = plan.streams.iter().map(|stream| stream.replicas.clone()).collect();
        assert_eq!(replicas, [vec![0, 1], vec![0, 1], vec![0, 1], vec![2]]);
        let rates: Vec<_> = plan.streams.iter().map(|stream| stream.per_second).collect();
        assert!((rates[..3].iter().sum::<f64>() - 100.0).abs() < 1e-9, "{rates:?}");
    }

    #[test]
    fn strays_that_begin_within_the_run_are_a_disturbance() {
        let floods = |lines: &str| {
            let plan = plan(&format!(
                "warmup = \"5s\"\n[traffic]\nrate = \"10/s\"\n[[traffic.stream]]\nname = \"s\"\nrate = \"1/s\"\n{lines}"
            ));
            plan.disturbances.iter().map(|it| it.title.clone()).collect::<Vec<_>>()
        };
        assert_eq!(floods("token = \"unknown_kid\"\nfrom = \"5s\""), ["flood of unknown kids"]);
        assert_eq!(floods("token = \"alg_none\"\nfrom = \"0s\""), ["flood of unsigned tokens"]);
        assert_eq!(floods("token = \"unknown_kid\""), [""; 0], "a background is none");
        assert_eq!(floods("token = \"login\"\nfrom = \"5s\""), [""; 0]);
    }

    #[test]
    fn a_burst_disturbs_beside_the_flood_of_its_stream() {
        let spans = |from: &str| {
            let plan = plan(&format!(
                "[traffic]\nrate = \"10/s\"\n[[traffic.stream]]\nname = \"s\"\nrate = \"1/s\"\n\
                 token = \"bad_signature\"\nburst = {{ at = \"30s\", count = 9 }}\nuntil = \"20s\"\n{from}"
            ));
            let seconds = |it: &Disturbance| (it.from.as_secs_f64(), it.curable_from.as_secs_f64());
            plan.disturbances.iter().map(|it| (it.title.clone(), seconds(it))).collect::<Vec<_>>()
        };
        let burst = ("burst of bad signatures".to_owned(), (30.0, 30.0));
        let flood = ("flood of bad signatures".to_owned(), (5.0, 20.0));
        assert_eq!(spans("from = \"5s\""), [flood, burst.clone()]);
        assert_eq!(spans(""), [burst], "what comes from the start is background");
    }
}
