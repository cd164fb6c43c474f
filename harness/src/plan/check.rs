//! From what was typed to what will run: every value in its range, every relation between values checked.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::http::HeaderValue;
use keyquake_core::{Policy, Span, Time};
use keyquake_idp::{Endpoint, FaultWindow, Forgery, Rotation, Share, Style, Timeline};
use keyquake_reports::record::{Comparison, Engine, Extreme, Gate, Metric, Unit};

use super::coupled;
use super::faults::{self, fault_title};
use super::pairs::Pair;
use super::{Checked, Disturbance, Plan, Runbook, Search, caches, streams, target};
use crate::profiles::{Evidence, IdpProfile};
use crate::scenario::range::Range;
use crate::scenario::units::SignedSpan;
use crate::scenario::{
    self, Action, Cache, Document, Fleet, Idp, Phase, Restart, Scenario, Source, TokenSource, nearest,
};
use crate::seed;
use crate::sut::{Capacity, freshness_of};

/// The longest run, by the wall clock.
const MAX_WALL: Span = Span::from_secs(24 * 3_600);
/// The longest simulation.
const MAX_VIRTUAL: Span = Span::from_secs(366 * 24 * 3_600);
/// The most requests of a simulation: some minutes.
const MAX_SIMULATED: f64 = 1e9;
/// The highest rate that a run may ask of this process, by the wall clock.
const MAX_WALL_RATE: f64 = 50_000.0;
/// Shorter time-outs than this, by the wall clock, are decided by the scheduler.
const MIN_WALL_TIMEOUT: Span = Span::from_millis(50);
/// The most searches of a sweep.
const MAX_SEARCHES: usize = 10;
/// The most actions of a runbook.
const MAX_ACTIONS: usize = 100;
/// The most often that one rotation repeats.
const MAX_TIMES: u32 = 200;
/// The most requests that a worker handles at a time, and that wait for it.
const MAX_PLACES: u32 = 100_000;
/// How many wait for a worker unless the file says.
const QUEUE: u32 = 1_000;

impl Plan {
    /// Checks a scenario against itself.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be run, with its place, as a finished text.
    pub(crate) fn check(source: &Source, engine: Engine) -> Result<Self, String> {
        Self::of(&source.document()?, engine)
    }

    /// The same for a source that was read already.
    ///
    /// # Errors
    ///
    /// As [`Plan::check`].
    pub(crate) fn of(source: &Document<'_>, engine: Engine) -> Result<Self, String> {
        let mut scenario = source.scenario()?;
        if engine == Engine::Simulated {
            // Virtual time has no wall clock to run against.
            scenario.speed = 1.0;
        }
        target::settle(source, &mut scenario, engine)?;
        let check = Check { source, scenario: &scenario, engine };
        check.tables()?;
        let (target, statuses) =
            (target::check(source, &scenario, engine)?, target::statuses(source, &scenario)?);
        let (rotations, faults) = (check.rotations()?, faults::windows(source, &scenario)?);
        let timeline = check.timeline(&rotations, &faults)?;
        let streams = streams::check(source, &scenario, &timeline)?;
        target::within_caps(source, &scenario, &streams)?;
        let runbook = check.runbook()?;
        let risks = check.risks(&rotations);
        let rotations: Vec<Rotation> = rotations.into_iter().map(|(_, rotation)| rotation).collect();
        let (gates, wishes, searches) = (check.gates()?, check.wishes()?, check.searches()?);
        let capacity = check.capacity()?;
        let warnings = risks.into_iter().chain(check.warnings()).collect();
        let Scenario { fleet, warmup, seed, .. } = &scenario;
        let instances = fleet.replicas as usize * fleet.workers as usize;
        let caches = caches::filled(fleet.cache, check.period(), *warmup, instances, *seed);
        let start = Time::ZERO - scenario.warmup;
        let floods = streams.iter().flat_map(|stream| streams::floods(stream, start));
        let mut plan = Self {
            question: source.question(),
            hash: check.hash(),
            parameters: check.parameters(),
            follows: check.follows(),
            warnings,
            disturbances: disturbances(&timeline, &rotations, &faults, floods),
            streams,
            runbook,
            timeline,
            cache: fleet.cache,
            caches,
            gates,
            wishes,
            searches,
            seed: scenario.seed,
            duration: scenario.duration,
            warmup: scenario.warmup,
            speed: scenario.speed,
            recover_below: scenario.recover_below.fraction(),
            algorithm: scenario.idp.algorithm,
            token_lifetime: scenario.idp.token_lifetime(),
            cache_control: scenario.idp.cache_control(),
            freshness: freshness_of(scenario.idp.cache_control().as_deref()),
            tls: scenario.idp.tls,
            fetch_time: scenario.simulate.fetch_time,
            replicas: scenario.fleet.replicas,
            workers: scenario.fleet.workers,
            capacity,
            policy: scenario.fleet.policy,
            target,
            statuses,
            idp_port: scenario.idp.port.unwrap_or_default(),
            traffic: scenario.traffic,
            limits: scenario.limits,
            name: scenario.name,
            coupled: None,
            simulated_keys: OnceLock::new(),
            _checked: Checked,
        };
        plan.coupled = coupled::reason(&plan);
        if engine == Engine::Simulated {
            playable(source, &mut plan)?;
        }
        Ok(plan)
    }
}

struct Check<'s> {
    source: &'s Document<'s>,
    scenario: &'s Scenario,
    engine: Engine,
}

impl Check<'_> {
    /// Refuses what is wrong within one table.
    fn tables(&self) -> Result<(), String> {
        self.is_one_run()?;
        self.run()?;
        self.traffic()?;
        self.fleet()?;
        self.cache()
    }

    /// An error at this path unless the rule holds.
    fn require(&self, holds: bool, path: &str, message: &str) -> Result<(), String> {
        if holds { Ok(()) } else { Err(self.source.complain(path, message, None)) }
    }

    /// What only a sweep can do is not left out silently.
    fn is_one_run(&self) -> Result<(), String> {
        let Scenario { matrix, find, recommend, .. } = self.scenario;
        let tables = [
            ("matrix", matrix.is_some(), "`[matrix]` makes this scenario a sweep of many runs"),
            ("find", !find.is_empty(), "`[[find]]` takes many runs"),
            ("recommend", !recommend.is_empty(), "`[recommend]` chooses among many runs"),
        ];
        match tables.into_iter().find(|(_, is_there, _)| *is_there && !self.source.is_cell()) {
            None => Ok(()),
            Some((table, _, message)) => {
                let hint = "`keyquake sweep` plays it; for a single run, leave these tables out and `--set` the values";
                Err(self.source.complain(table, message, Some(hint.to_owned())))
            }
        }
    }

    fn run(&self) -> Result<(), String> {
        let Scenario { name, duration, warmup, speed, idp, .. } = self.scenario;
        self.require(is_name(name), "name", NAME)?;
        self.require(
            (0.01..=100_000.0).contains(speed),
            "speed",
            "`speed` must lie between 0.01 and 100,000",
        )?;
        let positive = |span: Span| span > Span::ZERO && !span.is_infinite();
        self.require(positive(*duration), "duration", "`duration` must be longer than zero and finite")?;
        self.require(!warmup.is_infinite(), "warmup", "`warmup` must be finite")?;
        let wall = duration.saturating_add(*warmup).scale(1.0 / speed);
        let (longest, message) = match self.engine {
            Engine::Live => (MAX_WALL, "a run may not last longer than 24h of wall time"),
            Engine::Simulated => (MAX_VIRTUAL, "a simulation may not last longer than 366d"),
        };
        self.require(wall <= longest, "duration", message)?;
        let lifetime = idp.token_lifetime();
        let whole = lifetime.as_nanos().is_multiple_of(1_000_000_000);
        self.require(
            positive(lifetime) && whole,
            "idp.token_lifetime",
            "`token_lifetime` must be a whole number of seconds: claims count nothing smaller",
        )?;
        self.require(idp.port != Some(0), "idp.port", "leave the port out for a free one")?;
        self.header()
    }

    fn header(&self) -> Result<(), String> {
        let Idp { max_age, cache_control, .. } = &self.scenario.idp;
        let finite = max_age.is_none_or(|max_age| !max_age.is_infinite());
        self.require(finite, "idp.max_age", "`max_age` must be finite")?;
        let Some(header) = cache_control else { return Ok(()) };
        let message = "`max_age` is a part of `cache_control`: leave one of the two out";
        self.require(max_age.is_none(), "idp.cache_control", message)?;
        let sendable = HeaderValue::from_str(header).is_ok();
        self.require(sendable, "idp.cache_control", "this cannot be the value of a header")
    }

    fn traffic(&self) -> Result<(), String> {
        let Scenario { traffic, speed, .. } = self.scenario;
        let rate = traffic.rate.per_second();
        self.require(rate > 0.0, "traffic.rate", "the rate must be above zero")?;
        let wall_rate = rate * speed;
        if self.engine == Engine::Live && wall_rate > MAX_WALL_RATE {
            let message =
                format!("{wall_rate:.0} requests a second of wall time are more than one machine sends");
            let hint =
                (*speed != 1.0).then(|| format!("`speed = {speed}` multiplies the rate of {}", traffic.rate));
            return Err(self.source.complain("traffic.rate", message, hint));
        }
        let most_replicas = match self.engine {
            Engine::Live => 1_000,
            Engine::Simulated => 100_000,
        };
        let counts = [
            ("traffic.sessions", traffic.sessions, 1_000_000),
            ("traffic.connections", traffic.connections, 1_024),
            ("traffic.max_in_flight", traffic.max_in_flight, 16_384),
            ("fleet.replicas", self.scenario.fleet.replicas, most_replicas),
            ("fleet.workers", self.scenario.fleet.workers, 64),
        ];
        for (path, count, most) in counts {
            self.require((1..=most).contains(&count), path, &format!("must lie between 1 and {most}"))?;
        }
        let timeout = traffic.timeout;
        self.require(
            timeout > Span::ZERO && !timeout.is_infinite(),
            "traffic.timeout",
            "`timeout` must be longer than zero and finite",
        )?;
        self.require(
            traffic.renew_at > Share::NONE,
            "traffic.renew_at",
            "tokens cannot be renewed at the moment of their issue",
        )?;
        let background = traffic.background.expired.fraction() + traffic.background.forged.fraction();
        self.require(background <= 1.0, "traffic.background", "the shares add up to more than 100%")
    }

    fn fleet(&self) -> Result<(), String> {
        self.scenario.fleet.policy.check().map_err(|error| {
            self.source.complain(
                &format!("fleet.policy.{}", error.field),
                format!("`{}` {}", error.field, error.message),
                None,
            )
        })
    }

    /// Each rotation is tried with those before it, so that the one at fault can be shown.
    fn timeline(&self, rotations: &[(usize, Rotation)], faults: &[FaultWindow]) -> Result<Timeline, String> {
        let mut so_far = Vec::new();
        for (i, rotation) in rotations {
            so_far.push(*rotation);
            Timeline::new(so_far.clone(), Vec::new())
                .map_err(|error| self.source.complain(&format!("rotation[{i}]"), error.to_string(), None))?;
        }
        Timeline::new(so_far, faults.to_vec())
            .map_err(|error| self.source.complain("fault", error.to_string(), None))
    }

    /// All rotations, those that repeat one by one, each with the place where it was written.
    fn rotations(&self) -> Result<Vec<(usize, Rotation)>, String> {
        let mut all = Vec::new();
        for (i, written) in self.scenario.rotation.iter().enumerate() {
            let first = self.rotation(i, written)?;
            let times = written.times.unwrap_or(1);
            let path = |field: &str| format!("rotation[{i}].{field}");
            self.require((1..=MAX_TIMES).contains(&times), &path("times"), "must lie between 1 and 200")?;
            let message = "a rotation that repeats needs `every` longer than zero";
            self.require(times == 1 || written.every > Some(Span::ZERO), &path("times"), message)?;
            let shift = match written.phase {
                Phase::Fixed => Span::ZERO,
                Phase::Spread => caches::oldest(self.period()).scale(1.0 / f64::from(times)),
            };
            let step = written.every.unwrap_or_default().saturating_add(shift);
            let last = written.at.saturating_add(step.scale(f64::from(times - 1)));
            let message = "the last of these rotations comes after the end of the run";
            self.require(last < self.scenario.duration, &path("times"), message)?;
            all.extend(
                (0..times).map(|n| (i, Rotation { at: first.at + step.scale(f64::from(n)), ..first })),
            );
        }
        Ok(all)
    }

    /// What the people on call do, and when each replica that they restart starts anew.
    fn runbook(&self) -> Result<Runbook, String> {
        let mut runbook = Runbook::default();
        let few = self.scenario.runbook.len() <= MAX_ACTIONS;
        self.require(few, "runbook", &format!("more than {MAX_ACTIONS} actions"))?;
        for (i, written) in self.scenario.runbook.iter().enumerate() {
            let message = "the action comes after the end of the run";
            self.require(written.when < self.scenario.duration, &format!("runbook[{i}].when"), message)?;
            let Action::Restart(Restart { rolling }) = written.action;
            let done = written.when.saturating_add(rolling);
            let message = "the restart is not through by the end of the run";
            self.require(done <= self.scenario.duration, &format!("runbook[{i}].do"), message)?;
            let at = Time::ZERO + written.when;
            let replicas = self.scenario.fleet.replicas;
            let turn = |replica: u32| rolling.scale(f64::from(replica) / f64::from(replicas));
            runbook.restarts.extend((0..replicas).map(|replica| (at + turn(replica), replica)));
            let how = if rolling > Span::ZERO {
                format!("restart, rolling {rolling}")
            } else {
                "restart".to_owned()
            };
            runbook.actions.push((at, how));
        }
        runbook.actions.sort();
        runbook.restarts.sort();
        Ok(runbook)
    }

    fn rotation(&self, i: usize, written: &scenario::Rotation) -> Result<Rotation, String> {
        let path = |field: &str| format!("rotation[{i}].{field}");
        self.require(
            written.at < self.scenario.duration,
            &path("at"),
            "the rotation comes after the end of the run",
        )?;
        let style = self.style(i, written)?;
        let lead = match (written.lead, style) {
            (Some(lead), Style::Late) => lead.length,
            (Some(SignedSpan { negative: true, length }), _) if length > Span::ZERO => {
                let hint = Some("`style = \"late\"` publishes after the activation".to_owned());
                return Err(self.source.complain(&path("lead"), "the lead is negative", hint));
            }
            (Some(lead), _) => lead.length,
            (None, Style::Overlap | Style::Late) => {
                let message = format!("a rotation of style `{style}` needs a `lead`");
                return Err(self.source.complain(&format!("rotation[{i}]"), message, None));
            }
            (None, _) => Span::ZERO,
        };
        let keeps_old = matches!(style, Style::Overlap | Style::JustInTime | Style::Late);
        let retention = written.retention.unwrap_or(if keeps_old { self.token_reach() } else { Span::ZERO });
        Ok(Rotation {
            at: Time::ZERO + written.at,
            style,
            lead,
            retention,
            replace: written.replace.unwrap_or(true),
        })
    }

    fn style(&self, i: usize, written: &scenario::Rotation) -> Result<Style, String> {
        written.style().ok_or_else(|| {
            let hint = "the styles are `overlap`, `just-in-time`, `no-overlap`, `late`, `revoke` and `rekey`";
            let message = match self.profile() {
                Some(profile) => format!(
                    "the rotation has neither `style` nor `lead`, and how far ahead {} publishes is not known",
                    profile.provider
                ),
                None => "the rotation has neither `style` nor `lead`".to_owned(),
            };
            self.source.complain(&format!("rotation[{i}]"), message, Some(hint.into()))
        })
    }

    /// How long after its issue a token can still be accepted.
    fn token_reach(&self) -> Span {
        self.scenario.idp.token_lifetime().saturating_add(self.scenario.fleet.policy.leeway)
    }

    fn cache(&self) -> Result<(), String> {
        let Scenario { fleet, warmup, .. } = self.scenario;
        let is_young = matches!(fleet.cache, Cache::Age(age) if age < *warmup);
        let message = "the caches are filled before the warm-up, so they cannot be younger than it";
        self.require(!is_young, "fleet.cache", message)
    }

    fn gates(&self) -> Result<Vec<Gate>, String> {
        let long = self.scenario.gate.iter().enumerate().map(|(i, gate)| {
            self.gate(
                gate,
                &format!("gate[{i}].metric"),
                &format!("gate[{i}].of"),
                &format!("gate[{i}].limit"),
            )
        });
        long.chain(self.short_gates("gates", &self.scenario.gates)).collect()
    }

    /// What a setting must reach to be recommended.
    fn wishes(&self) -> Result<Vec<Gate>, String> {
        self.short_gates("recommend", &self.scenario.recommend).collect()
    }

    /// Gates as lines of a table.
    fn short_gates(
        &self,
        table: &str,
        lines: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = Result<Gate, String>> {
        lines.iter().map(move |(metric, limit)| {
            let (path, of) = (format!("{table}.{metric}"), scenario::Gate::default_of());
            let gate = scenario::Gate { metric: metric.clone(), of, limit: limit.clone() };
            self.gate(&gate, &path, &path, &path)
        })
    }

    /// What is to be found by bisection.
    fn searches(&self) -> Result<Vec<Search>, String> {
        let few = self.scenario.find.len() <= MAX_SEARCHES;
        self.require(few, "find", &format!("more than {MAX_SEARCHES} searches"))?;
        self.scenario.find.iter().enumerate().map(|(i, written)| self.search(i, written)).collect()
    }

    fn search(&self, i: usize, written: &scenario::Find) -> Result<Search, String> {
        let place = |field: &str| format!("find[{i}].{field}");
        let (extreme, path) = match (&written.smallest, &written.largest) {
            (Some(path), None) => (Extreme::Smallest, path),
            (None, Some(path)) => (Extreme::Largest, path),
            _ => {
                let hint = "write `smallest = \"rotation[0].lead\"` or `largest = \"fleet.policy.ttl\"`";
                let message = "a search is for the `smallest` or the `largest` value of a field";
                return Err(self.source.complain(&format!("find[{i}]"), message, Some(hint.to_owned())));
            }
        };
        let range: Range = written
            .within
            .parse()
            .map_err(|error: String| self.source.complain(&place("within"), error, None))?;
        let tolerance = match &written.tolerance {
            None => range.thousandth(),
            Some(text) => {
                range.step(text).map_err(|error| self.source.complain(&place("tolerance"), error, None))?
            }
        };
        let message = "the first episode is 1";
        self.require(written.episode != Some(0), &place("episode"), message)?;
        let gate = scenario::Gate {
            metric: written.metric.clone(),
            of: written.of.clone(),
            limit: written.limit.clone(),
        };
        let gate = self.gate(&gate, &place("metric"), &place("of"), &place("limit"))?;
        Ok(Search {
            number: i,
            path: path.clone(),
            extreme,
            range,
            tolerance,
            episode: written.episode,
            gate,
        })
    }

    fn gate(&self, written: &scenario::Gate, metric: &str, of: &str, limit: &str) -> Result<Gate, String> {
        let Some(known) = Metric::from_name(&written.metric) else {
            let near = nearest(&written.metric, Metric::ALL.map(Metric::name));
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("unknown metric `{}`", written.metric);
            return Err(self.source.complain(metric, message, hint));
        };
        let streams = self.scenario.traffic.stream.iter().map(|stream| stream.name.as_str());
        let mut requests = ["cohort", "all"].into_iter().chain(streams);
        let message = "a gate is on requests of the `cohort`, of `all`, or of a stream by its name";
        self.require(requests.any(|known| known == written.of), of, message)?;
        let (comparison, number) = comparison(&written.limit).ok_or_else(|| {
            let hint = Some("write `<= 60s`, `>= 3h50m`, `< 1%` or `== 0`".to_owned());
            self.source.complain(limit, "a limit begins with `<=`, `<`, `>=`, `>` or `==`", hint)
        })?;
        let value = quantity(known.unit(), number).map_err(|error| {
            self.source.complain(limit, format!("limit of `{}`: {error}", known.name()), None)
        })?;
        Ok(Gate { metric: known, of: written.of.clone(), comparison, limit: value })
    }

    /// How this IdP and this client go together. The cells of a sweep are there to find out.
    fn risks(&self, rotations: &[(usize, Rotation)]) -> Vec<String> {
        // How a target caches nobody knows: a policy is only assumed of it.
        let is_unknown = self.scenario.target.is_some() && self.engine == Engine::Live;
        if self.source.is_cell() || is_unknown {
            return Vec::new();
        }
        let Scenario { idp, fleet, traffic, .. } = self.scenario;
        let stray = TokenSource::Forged(Forgery::UnknownKid);
        let pair = Pair {
            idp,
            policy: &fleet.policy,
            token_reach: self.token_reach(),
            strays: traffic.stream.iter().any(|stream| stream.token == stray),
        };
        pair.risks(rotations)
    }

    /// What is odd about a scenario that can be run.
    fn warnings(&self) -> Vec<String> {
        let Scenario { speed, traffic, fleet, .. } = self.scenario;
        let mut warnings = Vec::new();
        for (i, fault) in self.scenario.fault.iter().enumerate() {
            if fault.discovery.is_some() && self.scenario.target.is_none() {
                warnings.push(format!(
                    "fault {}: the reference service is told where the JWKS is and never asks `discovery`, so a fault \
                     there strikes nobody",
                    i + 1,
                ));
            }
        }
        let timeouts = [
            ("traffic.timeout", traffic.timeout),
            ("fleet.policy.fetch_timeout", fleet.policy.fetch_timeout),
        ];
        for (name, timeout) in timeouts {
            let wall = timeout.scale(1.0 / speed);
            if wall < MIN_WALL_TIMEOUT {
                warnings.push(format!(
                    "`{name}` is {wall} of wall time at speed {speed}: shorter than this machine can be trusted with"
                ));
            }
        }
        warnings
    }

    fn profile(&self) -> Option<&'static IdpProfile> {
        self.scenario.idp.profile.as_deref().and_then(IdpProfile::find)
    }

    fn capacity(&self) -> Result<Option<Capacity>, String> {
        let fleet = &self.scenario.fleet;
        let message = "a queue is for those that `concurrency` leaves waiting: set that too";
        self.require(fleet.queue.is_none() || fleet.concurrency.is_some(), "fleet.queue", message)?;
        let Some(concurrency) = fleet.concurrency else { return Ok(None) };
        let queue = fleet.queue.unwrap_or(QUEUE);
        let counts = [("fleet.concurrency", 1, concurrency), ("fleet.queue", 0, queue)];
        for (path, least, count) in counts {
            let message = format!("must lie between {least} and {MAX_PLACES}");
            self.require((least..=MAX_PLACES).contains(&count), path, &message)?;
        }
        Ok(Some(Capacity { concurrency, queue }))
    }

    /// How long a cache goes without fetching while nothing happens.
    fn period(&self) -> Span {
        let freshness = freshness_of(self.scenario.idp.cache_control().as_deref());
        self.scenario.fleet.policy.period(freshness)
    }

    /// What the IdP's profile fills in, in a line: numbers that are a guess are called one.
    fn follows(&self) -> Option<String> {
        let profile = self.profile()?;
        let (guessed, known): (Vec<_>, Vec<_>) =
            profile.values().partition(|(_, _, evidence)| *evidence == Evidence::Inferred);
        let list = |values: Vec<(&str, String, Evidence)>| {
            let each: Vec<String> =
                values.iter().map(|(name, value, _)| format!("{name} = \"{value}\"")).collect();
            each.join(", ")
        };
        let mut line = format!("what is not written is as with {} ({})", profile.provider, profile.read);
        for (title, values) in [("", list(known)), ("; a guess: ", list(guessed))] {
            if !values.is_empty() {
                line.push_str(if title.is_empty() { ": " } else { title });
                line.push_str(&values);
            }
        }
        Some(line)
    }

    fn hash(&self) -> String {
        let typed: Vec<&str> = self.source.typed().collect();
        format!("{:016x}", seed::fnv1a(typed.join("\n").as_bytes()))
    }

    fn parameters(&self) -> BTreeMap<String, String> {
        let Scenario { duration, warmup, idp, fleet, traffic, target, .. } = self.scenario;
        let own = [
            ("duration", duration.to_string()),
            ("warmup", warmup.to_string()),
            ("idp.algorithm", idp.algorithm.to_string()),
            ("idp.token_lifetime", idp.token_lifetime().to_string()),
            ("fleet.replicas", fleet.replicas.to_string()),
            ("traffic.rate", traffic.rate.to_string()),
            ("traffic.sessions", traffic.sessions.to_string()),
        ];
        let tls = idp.tls.then(|| ("idp.tls", "true".to_owned()));
        let lent = [("idp.profile", &idp.profile), ("idp.cache_control", &idp.cache_control)];
        let lent = lent.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let own = own.into_iter().chain(tls).chain(lent).map(|(name, value)| (name.to_owned(), value));
        if target.is_some() && self.engine == Engine::Live {
            // What is assumed of a target is no setting of its run.
            return own.collect();
        }
        policy_parameters(&fleet.policy).into_iter().chain(own).chain(fleet_parameters(fleet)).collect()
    }
}

/// What a name is.
pub(super) const NAME: &str = "a name has 1 to 64 letters, digits, `-`, `_` and `.`";

/// Whether a text can name a folder, a column of a table and a gate's requests.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('.')
}

/// What the replicas are like beside their policy.
fn fleet_parameters(fleet: &Fleet) -> impl Iterator<Item = (String, String)> {
    let cache = match fleet.cache {
        Cache::Cold => "cold".to_owned(),
        Cache::Staggered => "staggered".to_owned(),
        Cache::Age(age) => age.to_string(),
    };
    let all = [
        ("fleet.workers", Some(fleet.workers.to_string())),
        ("fleet.cache", Some(cache)),
        ("fleet.profile", fleet.profile.clone()),
        ("fleet.concurrency", fleet.concurrency.map(|count| count.to_string())),
        ("fleet.queue", fleet.queue.map(|count| count.to_string())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
}

/// The policy by its field names, as it would be written.
fn policy_parameters(policy: &Policy) -> BTreeMap<String, String> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(policy) else { return BTreeMap::new() };
    let shown = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    fields.into_iter().map(|(name, value)| (format!("fleet.policy.{name}"), shown(value))).collect()
}

/// Splits `<= 60s` into its sign and what follows.
fn comparison(limit: &str) -> Option<(Comparison, &str)> {
    let limit = limit.trim();
    Comparison::ALL
        .into_iter()
        .find_map(|comparison| Some((comparison, limit.strip_prefix(comparison.sign())?.trim())))
}

/// Reads a limit in the unit of its metric.
fn quantity(unit: Unit, text: &str) -> Result<f64, String> {
    let span = || text.parse::<Span>().map_err(|error| error.to_string());
    match unit {
        Unit::Seconds => Ok(span()?.as_secs_f64()),
        Unit::Milliseconds => Ok(span()?.as_secs_f64() * 1_000.0),
        Unit::Share => Ok(text.parse::<Share>().map_err(|error| error.to_string())?.fraction()),
        Unit::Ratio => {
            let ratio = text.parse::<f64>().ok().filter(|ratio| ratio.is_finite());
            ratio.ok_or_else(|| "expected a number".to_owned())
        }
        Unit::Count | Unit::PerSecond => {
            text.parse::<u32>().map(f64::from).map_err(|_| "expected a whole number".to_owned())
        }
    }
}

/// What will disturb the fleet, in order. Publications and removals do not: the former prepare a rotation, the latter
/// take away keys that only orphaned tokens need.
fn disturbances(
    timeline: &Timeline,
    rotations: &[Rotation],
    faults: &[FaultWindow],
    floods: impl Iterator<Item = Disturbance>,
) -> Vec<Disturbance> {
    let rotations = rotations.iter().map(|rotation| {
        let new_key = if rotation.replace { timeline.active_key(rotation.at) } else { None };
        let title = match new_key {
            Some(key) => format!("{} rotation to {key}", rotation.style),
            None => format!("{} without a replacement", rotation.style),
        };
        let (from, until) = (rotation.at, rotation.at);
        Disturbance {
            from,
            until,
            title,
            new_key,
            hits_jwks: false,
            curable_from: from.max(rotation.published()),
        }
    });
    let faults = faults.iter().map(|window| Disturbance {
        from: window.from,
        until: window.until,
        title: fault_title(&window.fault),
        new_key: None,
        hits_jwks: window.fault.endpoint == Endpoint::Jwks,
        curable_from: window.until,
    });
    let mut all: Vec<_> = rotations.chain(faults).chain(floods).collect();
    all.sort_by_key(|disturbance| disturbance.from);
    all
}
/// A simulation that would take hours is a mistake.
fn playable(source: &Document<'_>, plan: &mut Plan) -> Result<(), String> {
    let Some(reason) = plan.coupled else { return Ok(()) };
    let per_second: f64 = plan.streams.iter().map(|stream| stream.per_second).sum();
    let requests = per_second * plan.duration.saturating_add(plan.warmup).as_secs_f64();
    if requests > MAX_SIMULATED {
        let message = format!(
            "{requests:.0} requests are more than a simulation plays one by one ({MAX_SIMULATED:.0})"
        );
        let hint = Some(format!("it must play each, because {reason}"));
        return Err(source.complain("traffic.rate", message, hint));
    }
    plan.warnings.push(format!("each request was played, because {reason}"));
    Ok(())
}
