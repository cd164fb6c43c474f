//! The user's own service as a plan has it: how it is started or where it runs, and what may be sent there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use keyquake_core::Span;
use keyquake_reports::record::Engine;
use reqwest::Url;

use super::Stream;
use crate::observe::Statuses;
use crate::scenario::units::Rate;
use crate::scenario::{Action, Cache, Document, Endpoint, Restart, Scenario, nearest};
use crate::target::template;

/// The most replicas of a target.
const MAX_PROCESSES: u32 = 100;
/// The longest that a target may take to become ready.
const MAX_READY: Span = Span::from_secs(3_600);

/// A service of the user's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) service: Service,
    /// Where requests go.
    pub(crate) path: String,
    pub(crate) ready: Ready,
    pub(crate) ready_within: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Service {
    /// keyquake starts each replica.
    Command(Launch),
    /// The replicas run already.
    Urls(Vec<Place>),
}

/// How a replica is started; argv and environment still have their placeholders.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Launch {
    pub(crate) argv: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
}

/// Where a replica runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What comes before each path.
    pub(crate) base: String,
    /// Whether it may be another machine.
    pub(crate) beyond: bool,
}

/// What tells that a replica is ready.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ready {
    /// An answer below 500 to this path.
    Path(String),
    /// A connection.
    Tcp,
}

impl Target {
    /// What it is, as it was typed.
    pub(crate) fn title(&self) -> String {
        match &self.service {
            Service::Command(launch) => launch.argv.join(" "),
            Service::Urls(places) => places.iter().map(Place::url).collect::<Vec<_>>().join(", "),
        }
    }

    /// What makes it ready, and how long that may take.
    pub(crate) fn readiness(&self) -> String {
        let sign = match &self.ready {
            Ready::Path(path) => format!("answers `{path}`"),
            Ready::Tcp => "takes a connection".to_owned(),
        };
        format!("each replica {sign}, for {} at the most", self.ready_within)
    }

    pub(crate) fn command(&self) -> Option<&Launch> {
        match &self.service {
            Service::Command(launch) => Some(launch),
            Service::Urls(_) => None,
        }
    }
}

impl Place {
    /// As the `Host` header has it (RFC 9110 section 7.2).
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.authority(), self.base)
    }
}

/// Settles what fleet and target say of each other, before anything looks at the fleet.
///
/// # Errors
///
/// They contradict each other.
pub(super) fn settle(source: &Document<'_>, scenario: &mut Scenario, engine: Engine) -> Result<(), String> {
    let Some(target) = &scenario.target else { return Ok(()) };
    let urls = target.url.as_ref().map(|urls| urls.0.len() as u32);
    let said = urls.or(target.replicas);
    let place = if urls.is_some() { "target.url" } else { "target.replicas" };
    if let (Some(urls), Some(replicas)) = (urls, target.replicas)
        && urls != replicas
    {
        let message = format!("each URL is a replica, and there are {urls} of them, not {replicas}");
        return Err(source.complain("target.replicas", message, Some("leave it out".to_owned())));
    }
    let fleet = source.written("fleet.replicas").map(|_| scenario.fleet.replicas);
    if let Some(strange) = said.filter(|said| !(1..=MAX_PROCESSES).contains(said)) {
        let message = format!("a target has between 1 and {MAX_PROCESSES} replicas, not {strange}");
        return Err(source.complain(place, message, None));
    }
    if let (Some(target), Some(fleet)) = (said, fleet)
        && target != fleet
    {
        let message = format!("the target has {target} replicas, and `fleet.replicas` is {fleet}");
        let hint = "say it once: the simulated fleet is as large as the target";
        return Err(source.complain(place, message, Some(hint.to_owned())));
    }
    scenario.fleet.replicas = said.or(fleet).unwrap_or(1);
    if engine == Engine::Live {
        // How many caches a process of the user's has, and how old they are, nobody can see: they count as one.
        (scenario.fleet.workers, scenario.fleet.cache) = (1, Cache::Cold);
    }
    Ok(())
}

/// The target of a scenario, if it has one.
///
/// # Errors
///
/// The first thing about it that cannot be run.
pub(super) fn check(
    source: &Document<'_>,
    scenario: &Scenario,
    engine: Engine,
) -> Result<Option<Target>, String> {
    let check = Check { source, scenario, engine };
    let allowed = check.allowed()?;
    let Some(target) = &scenario.target else { return Ok(None) };
    check.whole(target)?;
    let service = match (&target.command, &target.url) {
        (Some(argv), None) => Service::Command(check.launch(target, &argv.0)?),
        (None, Some(urls)) => Service::Urls(check.places(&urls.0, &allowed)?),
        _ => {
            let hint = "write `command = [\"node\", \"server.js\"]`, or `url = \"http://127.0.0.1:3000\"`";
            let message = "a target has either a `command` or a `url`";
            return Err(source.complain("target", message, Some(hint.to_owned())));
        }
    };
    let ready = match target.ready.as_str() {
        "tcp" => Ready::Tcp,
        path => {
            let hint = "write a path like `\"/healthz\"`, or `\"tcp\"`";
            check.path("target.ready", path, hint)?;
            Ready::Path(path.to_owned())
        }
    };
    let ready_within = target.ready_within;
    Ok(Some(Target { service, path: target.path.clone(), ready, ready_within }))
}

/// What statuses mean in a scenario.
///
/// # Errors
///
/// A status that means nothing, or two things.
pub(super) fn statuses(source: &Document<'_>, scenario: &Scenario) -> Result<Statuses, String> {
    let Some(target) = &scenario.target else { return Ok(Statuses::default()) };
    let (accepted, rejected) = (&target.accepted, &target.rejected);
    for (path, list) in [("target.accepted", accepted), ("target.rejected", rejected)] {
        let strange = list.iter().flatten().find(|status| !(200..=599).contains(*status));
        if let Some(strange) = strange {
            let message = format!("{strange} is no status that ends a request: they lie between 200 and 599");
            return Err(source.complain(path, message, None));
        }
        if list.as_ref().is_some_and(Vec::is_empty) {
            return Err(source.complain(path, "the list is empty: leave it out for the default", None));
        }
    }
    let statuses = Statuses::new(accepted.clone(), rejected.clone());
    if let Some(both) = (200..=599).find(|status| statuses.means_two_things(*status)) {
        let path = if rejected.is_some() { "target.rejected" } else { "target.accepted" };
        let message = format!("{both} cannot mean both accepted and rejected");
        return Err(source.complain(path, message, None));
    }
    Ok(statuses)
}

/// Whether all that is planned stays below the rates that hosts are allowed with.
///
/// # Errors
///
/// It does not.
pub(super) fn within_caps(
    source: &Document<'_>,
    scenario: &Scenario,
    streams: &[Stream],
) -> Result<(), String> {
    let Some(urls) = scenario.target.as_ref().and_then(|target| target.url.as_ref()) else { return Ok(()) };
    let allowed = Check { source, scenario, engine: Engine::Live }.allowed()?;
    let bursts = streams.iter().filter_map(|stream| stream.burst).map(|(_, count)| f64::from(count));
    let most = streams.iter().map(|stream| stream.per_second).sum::<f64>() + bursts.fold(0.0, f64::max);
    let hosts = urls.0.iter().filter_map(|url| Url::parse(url).ok()?.host_str().map(bare));
    for host in hosts {
        if let Some(Some(cap)) = allowed.get(&host).filter(|cap| cap.is_some_and(|cap| cap < most)) {
            let message =
                format!("`{host}` may get {cap} requests a second, and the plan sends up to {most}");
            let hint = "lower the rate and the bursts, or allow more".to_owned();
            return Err(source.complain("traffic.rate", message, Some(hint)));
        }
    }
    Ok(())
}

/// A host without the brackets of an address.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

struct Check<'s> {
    source: &'s Document<'s>,
    scenario: &'s Scenario,
    engine: Engine,
}

impl Check<'_> {
    fn require(&self, holds: bool, path: &str, message: &str, hint: &str) -> Result<(), String> {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        if holds { Ok(()) } else { Err(self.source.complain(path, message, hint)) }
    }

    /// What holds for either kind.
    fn whole(&self, target: &crate::scenario::Target) -> Result<(), String> {
        let Scenario { traffic, speed, .. } = self.scenario;
        let hint = "only the reference service can be made to live faster: leave `speed` out";
        self.require(*speed == 1.0, "speed", "a target reads the clock on the wall", hint)?;
        self.path("target.path", &target.path, "a path begins with `/`, like `\"/api\"`")?;
        let within = target.ready_within;
        let message = "must lie between zero and an hour";
        self.require(within > Span::ZERO && within <= MAX_READY, "target.ready_within", message, "")?;
        let message = "only the reference service has `/session`, for ID tokens with their nonce";
        let hint = "a target gets access tokens at `target.path`: leave `endpoint` out";
        self.require(traffic.endpoint == Endpoint::Api, "traffic.endpoint", message, hint)?;
        for (i, stream) in traffic.stream.iter().enumerate() {
            let path = format!("traffic.stream[{i}].endpoint");
            self.require(stream.endpoint == Endpoint::Api, &path, message, hint)?;
        }
        Ok(())
    }

    fn path(&self, place: &str, path: &str, hint: &str) -> Result<(), String> {
        let is_path = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic() && c != '#');
        self.require(is_path, place, "this is no path", hint)
    }

    fn launch(&self, target: &crate::scenario::Target, argv: &[String]) -> Result<Launch, String> {
        let is_program = argv.first().is_some_and(|program| !program.is_empty());
        let hint = "write the program and its arguments one by one: `[\"node\", \"server.js\"]`";
        self.require(is_program, "target.command", "there is no program in it", hint)?;
        // Those of the fleet, where the target says nothing of them.
        let few = self.scenario.fleet.replicas <= MAX_PROCESSES;
        let message = format!("a target has between 1 and {MAX_PROCESSES} replicas");
        self.require(few, "fleet.replicas", &message, "")?;
        for (i, argument) in argv.iter().enumerate() {
            self.template(&format!("target.command[{i}]"), argument)?;
        }
        for (name, value) in &target.env {
            let path = format!("target.env.{name}");
            let is_name = !name.is_empty() && !name.contains(['=', '\0']);
            self.require(is_name, &path, "this is no name of a variable", "")?;
            self.template(&path, value)?;
        }
        let dir = self.source.folder().join(target.dir.as_deref().unwrap_or_default());
        let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
        if self.engine == Engine::Live && !dir.is_dir() {
            let message = format!("`{}` is no folder", dir.display());
            let hint = "`dir` is seen from the folder of the scenario's file";
            return Err(self.source.complain("target.dir", message, Some(hint.to_owned())));
        }
        Ok(Launch { argv: argv.to_vec(), dir, env: target.env.clone() })
    }

    /// Nothing in it that looks like a placeholder and is none.
    fn template(&self, path: &str, text: &str) -> Result<(), String> {
        self.require(!text.contains('\0'), path, "no argument holds a zero byte", "")?;
        let trusts = self.scenario.idp.tls || !template::has(text, "ca");
        let hint = "`[idp] tls = true` makes one";
        self.require(trusts, path, "there is no CA to trust where the IdP speaks plain HTTP", hint)?;
        let Some(unknown) = template::unknown(text) else { return Ok(()) };
        let hint = nearest(unknown, template::NAMES).map_or_else(
            || {
                format!(
                    "the placeholders are {}",
                    template::NAMES.map(|name| format!("{{{name}}}")).join(" ")
                )
            },
            |near| format!("did you mean `{{{near}}}`?"),
        );
        let message = format!("unknown placeholder `{{{unknown}}}`");
        Err(self.source.complain(path, message, Some(hint)))
    }

    fn places(&self, urls: &[String], allowed: &Allowed) -> Result<Vec<Place>, String> {
        let target = self.scenario.target.as_ref();
        let starts = target.is_some_and(|target| target.dir.is_some() || !target.env.is_empty());
        let message = "`dir` and `env` are for a `command`: this service runs already";
        self.require(!starts, "target", message, "")?;
        let message = "a service that runs already has to know where the IdP will be";
        let hint = "choose a port, `[idp] port = 8400`, and point the service at \
                    http://127.0.0.1:8400/.well-known/jwks.json";
        self.require(self.scenario.idp.port.is_some(), "target.url", message, hint)?;
        let message = "a service that runs already cannot trust a CA that is made for this run";
        self.require(
            !self.scenario.idp.tls,
            "idp.tls",
            message,
            "leave `tls` out, or give the target a `command`",
        )?;
        for (i, runbook) in self.scenario.runbook.iter().enumerate() {
            let Action::Restart(Restart { .. }) = runbook.action;
            let message = "keyquake cannot restart a service that it has not started";
            let hint = "give the target a `command` instead of a `url`";
            self.require(false, &format!("runbook[{i}].do"), message, hint)?;
        }
        let places: Vec<Place> = urls.iter().map(|url| self.place(url, allowed)).collect::<Result<_, _>>()?;
        let twice = places.iter().enumerate().find(|(i, place)| places[..*i].contains(place));
        if let Some((_, place)) = twice {
            let hint =
                "each replica has a URL of its own; `traffic.connections` opens more connections to one";
            let message = format!("`{}` is there twice", place.url());
            return Err(self.source.complain("target.url", message, Some(hint.to_owned())));
        }
        Ok(places)
    }

    fn place(&self, text: &str, allowed: &Allowed) -> Result<Place, String> {
        let wrong =
            |message: String, hint: &str| self.source.complain("target.url", message, Some(hint.to_owned()));
        let like = "write it like `http://127.0.0.1:3000`";
        let url = Url::parse(text).map_err(|error| wrong(format!("`{text}` is no URL: {error}"), like))?;
        if url.scheme() == "https" {
            let hint = "name the port where the service itself speaks HTTP, behind whatever ends TLS";
            return Err(wrong(format!("`{text}`: requests go out over plain HTTP only"), hint));
        }
        let plain = url.scheme() == "http"
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let (Some(host), Some(port), true) = (url.host_str().map(bare), url.port_or_known_default(), plain)
        else {
            return Err(wrong(format!("`{text}` is no base URL of plain HTTP"), like));
        };
        let beyond = allowed.contains_key(&host);
        if let (Ok(address), false) = (host.parse::<IpAddr>(), beyond)
            && !address.to_canonical().is_loopback()
        {
            let hint = format!("allow it with `--allow-target {host}`, or `[guard] allow = [\"{host}\"]`");
            return Err(wrong(format!("`{host}` is not this machine"), &hint));
        }
        let base = url.path().trim_end_matches('/').to_owned();
        Ok(Place { host, port, base, beyond })
    }

    /// The hosts that requests may go to beside this machine, each with its highest rate.
    fn allowed(&self) -> Result<Allowed, String> {
        let guard = &self.scenario.guard;
        let lists = [("guard.allow", &guard.allow), ("guard.--allow-target", &guard.allow_target)];
        let mut allowed = Allowed::new();
        for (path, list) in lists {
            for entry in list {
                let (host, cap) =
                    entry.split_once('=').map_or((entry.as_str(), None), |(host, cap)| (host, Some(cap)));
                let cap = cap.map(|cap| cap.trim().parse::<Rate>()).transpose();
                let cap =
                    cap.map_err(|error| self.source.complain(path, format!("`{entry}`: {error}"), None))?;
                let host = bare(host.trim());
                let is_host =
                    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-.:_".contains(c));
                let hint =
                    "write a host like `staging.example`, or with its highest rate `staging.example=200/s`";
                self.require(is_host, path, &format!("`{entry}` names no host"), hint)?;
                allowed.insert(host, cap.map(Rate::per_second));
            }
        }
        Ok(allowed)
    }
}

/// Hosts, and the highest rate of each if it has one.
type Allowed = BTreeMap<String, Option<f64>>;
