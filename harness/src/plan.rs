//! The plan: a scenario whose parts were checked against each other. Only a plan is run.

mod caches;
mod check;
mod coupled;
mod faults;
mod pairs;
mod streams;
mod target;

pub(crate) use self::faults::fault_title;
pub(crate) use self::target::{Launch, Place, Ready, Service, Target};

use std::sync::OnceLock;

use keyquake_core::{Algorithm, Freshness, Policy, Span, Time};
use keyquake_idp::{KeyRing, Timeline};
use keyquake_reports::record::{Extreme, Gate};

use crate::observe::Statuses;
use crate::scenario::range::Range;
use crate::scenario::{Arrivals, Cache, Endpoint, Limits, TokenSource, Traffic};
use crate::sut::Capacity;

/// What will run. It can only come from [`Plan::check`], so whoever holds one need not check again.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) question: Option<String>,
    /// Names everything that was typed, overrides included.
    pub(crate) hash: String,
    /// What a reader of the report wants to see of the settings.
    pub(crate) parameters: std::collections::BTreeMap<String, String>,
    /// What a real provider lends to it, in a line.
    pub(crate) follows: Option<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) duration: Span,
    pub(crate) warmup: Span,
    pub(crate) speed: f64,
    /// The share of denied requests below which a fleet counts as recovered.
    pub(crate) recover_below: f64,
    pub(crate) algorithm: Algorithm,
    pub(crate) token_lifetime: Span,
    /// The `Cache-Control` of the JWKS, if it has one.
    pub(crate) cache_control: Option<String>,
    /// What that says to a cache.
    pub(crate) freshness: Freshness,
    /// Whether the IdP of a run serves HTTPS.
    pub(crate) tls: bool,
    /// How long a request to the IdP is on its way in virtual time, beside what the IdP takes.
    pub(crate) fetch_time: Span,
    pub(crate) timeline: Timeline,
    pub(crate) disturbances: Vec<Disturbance>,
    pub(crate) replicas: u32,
    /// Instances, that is caches, per replica.
    pub(crate) workers: u32,
    /// How many requests each worker handles at a time; `None` for as many as come.
    pub(crate) capacity: Option<Capacity>,
    /// How the caches behave: of the reference service, and of a target what is assumed of it in virtual time.
    pub(crate) policy: Policy,
    /// The service of the user's under test, if it is not the reference service.
    pub(crate) target: Option<Target>,
    pub(crate) statuses: Statuses,
    /// The port of the live IdP; a free one if there is none.
    pub(crate) idp_port: u16,
    /// How old the caches are when event time starts.
    cache: Cache,
    /// When the cache of each instance was filled; `None` for a cold one. The workers of a replica stand together.
    pub(crate) caches: Vec<Option<Time>>,
    pub(crate) traffic: Traffic,
    /// The sessions first, then the background, then what the scenario names.
    pub(crate) streams: Vec<Stream>,
    pub(crate) runbook: Runbook,
    pub(crate) limits: Limits,
    pub(crate) gates: Vec<Gate>,
    /// Why a simulation must play each request, if it must.
    pub(crate) coupled: Option<&'static str>,
    /// What a cell of a sweep must reach to be recommended.
    pub(crate) wishes: Vec<Gate>,
    /// What a sweep finds by bisection.
    pub(crate) searches: Vec<Search>,
    /// The keys of its simulations, once there was one. Nothing is signed with them, so that all share them.
    pub(crate) simulated_keys: OnceLock<KeyRing>,
    _checked: Checked,
}

/// Only this module can make one.
#[derive(Debug)]
struct Checked;

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) token: TokenSource,
    /// Whether each request carries a token of its own.
    pub(crate) fresh: bool,
    pub(crate) endpoint: Endpoint,
    pub(crate) per_second: f64,
    pub(crate) spacing: Arrivals,
    pub(crate) burst: Option<(Time, u32)>,
    pub(crate) from: Time,
    pub(crate) until: Time,
    /// Where its requests go; at least one.
    pub(crate) replicas: Vec<u32>,
    /// Whether nothing else goes there.
    pub(crate) alone: bool,
}

/// What the people on call do.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Runbook {
    /// In words, in order.
    pub(crate) actions: Vec<(Time, String)>,
    /// When each replica that is restarted starts anew, in order.
    pub(crate) restarts: Vec<(Time, u32)>,
}

/// The search for the smallest or the largest value of a field with which a gate holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Search {
    /// Its place among the searches of the scenario.
    pub(crate) number: usize,
    /// The field.
    pub(crate) path: String,
    pub(crate) extreme: Extreme,
    pub(crate) range: Range,
    /// How far what holds may lie from what does not, in the unit of the range.
    pub(crate) tolerance: f64,
    /// The only episode that counts, the first being 1.
    pub(crate) episode: Option<u32>,
    pub(crate) gate: Gate,
}

/// Something that starts an episode, or belongs to one that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Disturbance {
    pub(crate) from: Time,
    /// When its own effect ends: at once for a rotation, with its end for a fault.
    pub(crate) until: Time,
    pub(crate) title: String,
    /// The new key of a rotation, whose tokens are its cohort.
    pub(crate) new_key: Option<keyquake_idp::KeyId>,
    /// Whether it is a fault of the JWKS endpoint.
    pub(crate) hits_jwks: bool,
    /// From then on a validator that fetched at once would pass.
    pub(crate) curable_from: Time,
}

impl Plan {
    /// How many caches there are.
    pub(crate) fn instances(&self) -> u32 {
        self.replicas * self.workers
    }

    /// Draws anew from this seed, at the cost of the draws alone.
    pub(crate) fn reseed(&mut self, seed: u64) {
        let instances = self.caches.len();
        self.caches =
            caches::filled(self.cache, self.policy.period(self.freshness), self.warmup, instances, seed);
        self.seed = seed;
    }

    /// The same with fetches that take this long in virtual time.
    pub(crate) fn with_fetch_time(self, fetch_time: Span) -> Self {
        Self { fetch_time, ..self }
    }

    /// The end of event time.
    pub(crate) fn end(&self) -> Time {
        Time::ZERO + self.duration
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::Plan;
    use keyquake_reports::record::Engine;

    use crate::scenario::Source;

    /// The plan of a scenario with these lines, and few requests unless they say otherwise.
    pub(crate) fn plan(lines: &str) -> Plan {
        check(lines, Engine::Live)
    }

    /// The same for virtual time.
    pub(crate) fn simulated(lines: &str) -> Plan {
        check(lines, Engine::Simulated)
    }

    fn check(lines: &str, engine: Engine) -> Plan {
        let text = if lines.contains("[traffic]") {
            lines.to_owned()
        } else {
            format!("{lines}\n[traffic]\nrate = \"10/s\"\n")
        };
        let duration = if lines.contains("duration =") { "" } else { "duration = \"60s\"\n" };
        let text = format!("name = \"test\"\n{duration}{text}");
        Source::new("test.toml", &text, &[])
            .and_then(|source| Plan::check(&source, engine))
            .expect("a sound scenario")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    use keyquake_core::{Policy, Span, Time};

    use keyquake_reports::record::Engine;

    use super::Plan;
    use super::testing::{plan, simulated};
    use crate::profiles::{ClientProfile, IdpProfile};
    use crate::scenario::{Matrix, Source};

    fn at(secs: i64) -> Time {
        Time::from_nanos(secs * 1_000_000_000)
    }

    #[test]
    fn a_style_follows_from_the_numbers() {
        let style = |numbers: &str| {
            let plan = plan(&format!("[[rotation]]\nat = \"30s\"\n{numbers}"));
            plan.disturbances[0].title.clone()
        };
        assert_eq!(style("lead = \"10s\""), "overlap rotation to key-2");
        assert_eq!(style("lead = \"-10s\""), "late rotation to key-2");
        assert_eq!(style("lead = \"0s\""), "just-in-time rotation to key-2");
        assert_eq!(style("lead = \"0s\"\nretention = \"0s\""), "no-overlap rotation to key-2");
        assert_eq!(style("style = \"revoke\"\nreplace = false"), "revoke without a replacement");
    }

    /// The style of the first rotation, its lead and its retention.
    fn first(plan: &Plan) -> (String, Span, Span) {
        let life = |key: &str| *plan.timeline.life(key.parse().unwrap()).unwrap();
        let (old, new) = (life("key-1"), life("key-2"));
        let style = plan.disturbances[0].title.split(' ').next().unwrap().to_owned();
        (style, new.active.since(new.published), old.removed.since(old.retired))
    }

    #[test]
    fn a_profile_fills_in_what_the_file_leaves_out() {
        let day = Span::from_secs(86_400);
        let with = |idp: &str, rotation: &str| {
            plan(&format!("[idp]\n{idp}\n[[rotation]]\nat = \"30s\"\n{rotation}"))
        };
        let dex = with("profile = \"dex\"", "");
        assert_eq!(first(&dex), ("just-in-time".to_owned(), Span::ZERO, day));
        assert_eq!(
            (dex.token_lifetime, dex.cache_control.as_deref()),
            (day, Some("max-age=600, must-revalidate"))
        );
        assert_eq!(dex.parameters["idp.profile"], "dex");
        assert!(dex.follows.as_ref().unwrap().contains("as with Dex (ab64ed77"), "{:?}", dex.follows);

        let own = with("profile = \"dex\"\ntoken_lifetime = \"1h\"\nmax_age = \"1m\"", "lead = \"10s\"");
        assert_eq!(first(&own), ("overlap".to_owned(), Span::from_secs(10), day));
        assert_eq!(own.token_lifetime, Span::from_secs(3_600));
        assert_eq!(own.cache_control.as_deref(), Some("public, max-age=60"));
        assert_eq!(first(&with("profile = \"dex\"", "retention = \"2h\"")).2, Span::from_secs(7_200));
        let emergency = with("profile = \"zitadel\"", "style = \"revoke\"");
        assert_eq!(first(&emergency), ("revoke".to_owned(), Span::ZERO, Span::ZERO));

        assert_eq!(first(&with("profile = \"authentik\"", "")).0, "no-overlap");
        assert_eq!(
            first(&with("profile = \"duende\"", "")),
            ("overlap".to_owned(), day.scale(14.0), day.scale(14.0))
        );
        assert_eq!(with("profile = \"hydra\"", "").cache_control, None);
        let said = with("profile = \"hydra\"\ncache_control = \"no-store\"", "");
        assert_eq!(said.cache_control.as_deref(), Some("no-store"));
        assert_eq!(with("", "style = \"rekey\"").follows, None);
    }

    #[test]
    fn rotations_that_repeat_do_so_as_often_as_the_provider() {
        let lines = "duration = \"1d\"\n[idp]\nprofile = \"dex\"\n[[rotation]]\nat = \"1h\"\ntimes = 3";
        let moments: Vec<Time> = simulated(lines).disturbances.iter().map(|rotation| rotation.from).collect();
        assert_eq!(moments, [1, 7, 13].map(|hour| at(hour * 3_600)));
    }

    #[test]
    fn a_profile_comes_after_the_file_and_before_what_is_laid_over_it() {
        let text = "name = \"s\"\nduration = \"60s\"\n[idp]\nprofile = \"dex\"\n[[rotation]]\nat = \"30s\"\n\
                    [traffic]\nrate = \"10/s\"";
        let with = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(|&typed| typed.to_owned()).collect();
            Plan::check(&Source::new("", text, &overrides).unwrap(), Engine::Live).unwrap()
        };
        assert_eq!(first(&with(&["idp.profile=\"duende\""])).0, "overlap");
        assert_eq!(with(&["idp.token_lifetime=5m"]).token_lifetime, Span::from_secs(300));
    }

    #[test]
    fn the_policy_of_a_client_comes_before_what_is_written_of_it() {
        let jose = simulated("[fleet]\nprofile = \"jose\"");
        assert_eq!(jose.policy, ClientProfile::find("jose").unwrap().policy().unwrap());
        assert_eq!(jose.parameters["fleet.profile"], "jose");
        let own = simulated("[fleet]\nprofile = \"jose\"\npolicy = { ttl = \"7m\" }");
        assert_eq!(own.policy, Policy { ttl: Span::from_secs(420), ..jose.policy });

        let text = "name = \"s\"\nduration = \"60s\"\n[fleet.policy]\nleeway = \"9s\"\n[traffic]\nrate = \"10/s\"\n\
                    [matrix]\n\"fleet.profile\" = [\"jose\", \"pyjwt\"]";
        let source = Source::new("", text, &["fleet.policy.http_limited=429".to_owned()]).unwrap();
        let matrix = Matrix::of(&source).unwrap();
        for (cell, name) in ["jose", "pyjwt"].into_iter().enumerate() {
            let plan = Plan::of(&matrix.document(cell, None).unwrap(), Engine::Simulated).unwrap();
            let policy = ClientProfile::find(name).unwrap().policy().unwrap();
            assert_eq!(plan.policy, Policy { leeway: Span::from_secs(9), http_limited: 429, ..policy });
        }
    }

    #[test]
    fn every_profile_that_knows_its_lead_makes_a_plan() {
        for profile in IdpProfile::all().iter().filter(|profile| profile.lead.is_some()) {
            let lines = format!("[idp]\nprofile = \"{}\"\n[[rotation]]\nat = \"30s\"", profile.name);
            assert_eq!(plan(&lines).disturbances.len(), 1, "{}", profile.name);
        }
    }

    #[test]
    fn an_old_key_is_kept_as_long_as_its_tokens_live() {
        let lines = "[idp]\ntoken_lifetime = \"10s\"\n[fleet.policy]\nleeway = \"5s\"\n\
                     [[rotation]]\nat = \"30s\"\nstyle = \"just-in-time\"";
        let life = *plan(lines).timeline.life("key-1".parse().unwrap()).unwrap();
        assert_eq!((life.retired, life.removed), (at(30), at(45)));
        let short = format!("{lines}\nretention = \"3s\"");
        assert!(plan(&short).warnings[0].contains("valid tokens will lose their key"));
    }

    #[test]
    fn a_validator_is_curable_once_the_key_is_published_and_the_fault_is_over() {
        let late = plan("[[rotation]]\nat = \"30s\"\nlead = \"-3s\"");
        assert_eq!((late.disturbances[0].from, late.disturbances[0].curable_from), (at(30), at(33)));
        let outage = plan("[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\njwks = { status = 503 }");
        assert_eq!((outage.disturbances[0].until, outage.disturbances[0].curable_from), (at(30), at(30)));
    }

    #[test]
    fn staggered_caches_are_spread_over_a_lifetime_that_ends_after_the_warmup() {
        let plan = plan("warmup = \"5s\"\n[fleet]\nreplicas = 20\npolicy = { ttl = \"20s\" }");
        let mut expiries: Vec<Time> =
            plan.caches.iter().map(|loaded| loaded.unwrap() + Span::from_secs(20)).collect();
        expiries.sort();
        assert!(expiries.iter().all(|expiry| (at(-5)..=at(20)).contains(expiry)), "{expiries:?}");
        assert!(expiries.windows(2).all(|pair| pair[1].since(pair[0]) <= Span::from_secs(3)));
        assert!(plan.caches.iter().all(|loaded| loaded.unwrap() <= at(-5)));
    }

    #[test]
    fn another_seed_later_is_as_good_as_another_seed_at_once() {
        let seeded = |seed: u64| plan(&format!("seed = {seed}\n[fleet]\nreplicas = 5"));
        let mut later = seeded(1);
        assert_ne!(later.caches, seeded(2).caches);
        later.reseed(2);
        assert_eq!((later.seed, &later.caches), (2, &seeded(2).caches));
    }

    #[test]
    fn short_timeouts_at_high_speed_are_warned_of() {
        let plan = plan("speed = 200");
        assert_eq!(plan.warnings.len(), 1, "10 s are 50 ms, 5 s are 25 ms: {:?}", plan.warnings);
        assert!(plan.warnings[0].contains("fetch_timeout"));
    }

    #[test]
    fn faults_that_strike_nobody_are_warned_of() {
        let warnings = |endpoint: &str| {
            let fault = format!("[[fault]]\nfrom = \"10s\"\nfor = \"20s\"\n{endpoint} = {{ status = 503 }}");
            plan(&fault).warnings.clone()
        };
        assert_eq!(warnings("jwks"), Vec::<String>::new());
        assert_eq!(warnings("token"), Vec::<String>::new());
        let discovery = warnings("discovery");
        assert!(discovery.len() == 1 && discovery[0].contains("fault 1"), "{discovery:?}");
    }

    #[test]
    fn every_scenario_of_the_repository_is_sound_and_asks_a_question() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut warnings = BTreeMap::new();
        for entry in fs::read_dir(root.join("scenarios")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let source = Source::new("", &text, &[]).unwrap();
            let plans: Result<Vec<Plan>, String> = if text.contains("\n[matrix]") {
                let matrix = Matrix::of(&source).unwrap();
                let plan = |cell| Plan::of(&matrix.document(cell, None)?, Engine::Live);
                (0..matrix.len()).map(plan).collect()
            } else {
                Plan::check(&source, Engine::Live).map(|plan| vec![plan])
            };
            let plans = plans.unwrap_or_else(|complaint| panic!("{}: {complaint}", path.display()));
            let plan = &plans[0];
            assert_eq!(plan.name, path.file_stem().unwrap().to_str().unwrap());
            let question = plan.question.as_ref();
            assert!(question.is_some_and(|question| question.contains('?')), "{}", path.display());
            assert!(!plan.gates.is_empty(), "{}", path.display());
            let found: BTreeSet<&String> = plans.iter().flat_map(|plan| &plan.warnings).collect();
            let found: String = found.into_iter().map(|warning| format!("  {warning}\n")).collect();
            warnings.insert(plan.name.clone(), if found.is_empty() { "  none\n".to_owned() } else { found });
        }
        // Each of these is what the scenario is there to show, and those without show what is sound.
        let warnings: String = warnings.iter().map(|(name, found)| format!("{name}\n{found}")).collect();
        insta::assert_snapshot!(warnings);
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        let example = |n| readme.split("```toml\n").nth(n).unwrap().split("```").next().unwrap();
        let source = Source::new("README.md", example(1), &[]).unwrap();
        Plan::check(&source, Engine::Live).unwrap_or_else(|complaint| panic!("{complaint}"));
        let sweep = Source::new("README.md", &format!("{}{}", example(1), example(2)), &[]).unwrap();
        let matrix = Matrix::of(&sweep).unwrap();
        assert_eq!(matrix.len(), 10, "3 times 2 times 2, less two");
        for cell in 0..matrix.len() {
            let plan = Plan::of(&matrix.document(cell, None).unwrap(), Engine::Simulated);
            plan.unwrap_or_else(|complaint| panic!("{complaint}"));
        }
    }

    #[test]
    fn the_examples_are_sound() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        for name in ["node", "python"] {
            let path = root.join(format!("examples/{name}/{name}.toml"));
            let text = fs::read_to_string(&path).unwrap();
            let plan =
                Source::new(path.to_str().unwrap(), &text, &[]).and_then(|it| Plan::check(&it, Engine::Live));
            let plan = plan.unwrap_or_else(|complaint| panic!("{complaint}"));
            assert_eq!((plan.name.as_str(), plan.warnings.len()), (name, 0));
            assert!(plan.question.is_some_and(|question| question.contains('?')));
            assert!(readme.contains(&format!("examples/{name}/{name}.toml")));
            let service = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
            let service = service.filter(|path| path.file_stem().is_some_and(|stem| stem == "server"));
            for code in service {
                assert!(fs::read_to_string(&code).unwrap().lines().count() < 40, "{}", code.display());
            }
        }
    }

    #[test]
    fn the_hash_names_everything_that_was_typed() {
        let hash = |lines: &str| plan(lines).hash.clone();
        assert_eq!(hash("seed = 7"), hash("seed = 7"));
        assert_ne!(hash("seed = 7"), hash("seed = 8"));
    }
}
