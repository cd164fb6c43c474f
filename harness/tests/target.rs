//! Services of all kinds under `keyquake run`: good ones, and those that fail in each way that a service can.
//!
//! The services are this binary itself: keyquake starts its test `service` with a `MODE` in the environment.

#![cfg(target_os = "linux")]

#[cfg(test)]
mod service;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use keyquake_reports::Record;
use keyquake_reports::record::{EventKind, TargetKind, Verdict};

/// Two replicas, and a rotation that nobody announces.
const SCENARIO: &str = r#"# Does a service of one's own get through a rotation?
name = "own"
duration = "3s"
warmup = "1s"

[idp]
algorithm = "ES256"
token_lifetime = "60s"

[[rotation]]
at = "1s"
style = "just-in-time"

[target]
replicas = 2
ready_within = "20s"

[traffic]
rate = "40/s"
sessions = 10
connections = 2

[[traffic.stream]]         # the first to come with the new key
name = "logins"
rate = "20/s"
token = "login"

[limits]                   # whoever else uses this machine
lateness = "1m"
shed = "100%"
"#;

/// What keyquake starts.
#[test]
fn service() {
    if let Ok(mode) = std::env::var("MODE") {
        service::run(&mode);
    }
}

/// A folder with a scenario in it, and what a run leaves there. The processes of its target are known by its path, which
/// all of them have in their environment.
struct Home(tempfile::TempDir);

impl Home {
    fn new(mode: &str) -> Self {
        let home = tempfile::tempdir().expect("there is room");
        let exe = std::env::current_exe().expect("this test has a file");
        let command = [exe.to_str().expect("a plain path"), "--exact", "service", "--nocapture"];
        let path = home.path().to_str().expect("a plain path");
        let target =
            format!("[target]\ncommand = {command:?}\nenv = {{ MODE = {mode:?}, HOME_OF_TEST = {path:?} }}");
        fs::write(home.path().join("own.toml"), SCENARIO.replace("[target]", &target))
            .expect("there is room");
        Self(home)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn keyquake(&self, settings: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyquake"));
        command.args(["run", "own.toml"]).current_dir(self.0.path());
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, settings: &[&str]) -> (Option<i32>, String) {
        let output = self.keyquake(settings).output().expect("the binary runs");
        (output.status.code(), said(&output))
    }

    fn record(&self) -> Record {
        Record::load(&self.path("keyquake-out/own/result.json")).expect("there is a record")
    }

    /// The processes that are still there.
    fn survivors(&self) -> Vec<String> {
        let mark = format!("HOME_OF_TEST={}", self.0.path().display()).into_bytes();
        let marked =
            |environment: &[u8]| environment.split(|byte| *byte == 0).any(|variable| variable == mark);
        let processes = fs::read_dir("/proc").expect("this is Linux").flatten();
        let alive =
            processes.filter(|process| fs::read(process.path().join("environ")).is_ok_and(|it| marked(&it)));
        alive.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Waits until none is there.
    fn outlive_all(&self) {
        for _ in 0..400 {
            if self.survivors().is_empty() {
                return;
            }
            pause(Duration::from_millis(50));
        }
        panic!("still there: {:?}", self.survivors());
    }
}

/// Waits in real time, for what other processes do.
fn pause(length: Duration) {
    let (_kept, never) = channel::<()>();
    let _ = never.recv_timeout(length);
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Reads what a run says up to this.
fn until(child: &mut Child, sign: &str) {
    let mut talk = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains(sign) {
        line.clear();
        assert!(talk.read_line(&mut line).expect("it says text") > 0, "it ended without saying `{sign}`");
    }
    // Whoever talks on needs a listener.
    std::thread::spawn(move || std::io::copy(&mut talk, &mut std::io::sink()));
}

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill")
            .args([&format!("-{name}"), &child.id().to_string()])
            .status()
            .expect("`kill` runs")
            .success()
    );
}

#[test]
fn a_service_of_ones_own_is_measured_like_the_reference() {
    let home = Home::new("good");
    let (code, told) = home.run(&["gates.false_accepts='== 0'"]);
    let record = home.record();
    assert_eq!((code, record.verdict), (Some(0), Verdict::Pass), "{told}");
    let target = record.target.unwrap();
    assert_eq!((target.kind, target.unattributed_jwks_requests), (TargetKind::Command, 0));
    assert!(target.what.ends_with("--exact service --nocapture"), "{}", target.what);
    assert_eq!(record.warnings, [""; 0]);
    let cell = &record.cells[0];
    assert_eq!(
        (cell.metrics.all.denied, cell.metrics.all.failures),
        (0, 0),
        "it fetches on an unknown kid: {told}"
    );
    for instance in &cell.instances {
        assert!(instance.must_pass > 10, "{instance:?}");
        let asked = instance.jwks_requests.iter().map(|request| request.keys.join(" ")).collect::<Vec<_>>();
        assert_eq!(asked, ["key-1", "key-1 key-2"], "once for each key");
    }
    assert!(fs::read_to_string(home.path("keyquake-out/own/logs/1.log")).unwrap().contains("listening"));
    assert!(fs::read_to_string(home.path("keyquake-out/own/summary.md")).unwrap().contains("live of"));
    assert_eq!(home.survivors(), [""; 0]);

    for flag in ["--replay", "--predict"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyquake"));
        command.args(["simulate", "own.toml", flag, "keyquake-out/own/result.json"]);
        let output = command.current_dir(home.0.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag}");
        assert!(
            said(&output).contains("it measured a service of yours, of whose caches"),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn requests_over_one_path_are_told_apart_by_their_processes() {
    let home = Home::new("first is eager");
    home.run(&["target.env.JWKS_URL='{issuer}/.well-known/jwks.json'"]);
    let record = home.record();
    assert_eq!(record.target.unwrap().unattributed_jwks_requests, 0);
    let asked = record.cells[0].instances.iter().map(|instance| instance.jwks_requests.len());
    let asked: Vec<usize> = asked.collect();
    assert!(asked[0] > 20 && asked[1] == 2, "{asked:?}");
}

#[test]
fn a_key_set_over_https_is_fetched_by_whom_trusts_the_ca() {
    let home = Home::new("good");
    let (code, told) = home.run(&["idp.tls=true", "target.env.CA='{ca}'"]);
    let record = home.record();
    assert_eq!((code, record.cells[0].metrics.all.denied), (Some(0), 0), "{told}");
    assert!(record.cells[0].instances.iter().all(|instance| instance.jwks_requests.len() == 2));
    assert!(!home.path("keyquake-out/own/ca.pem").exists(), "it is of no use any more");
}

#[test]
fn a_service_that_does_not_start_is_answered_with_what_it_said() {
    let no_program = "cannot start `no-such-program`: No such file or directory";
    for (mode, settings, expected) in [
        ("good", "target.command=['no-such-program']", [no_program, "It is started in `.`"]),
        (
            "good",
            "target.command=['node server.js']",
            ["cannot start `node server.js`", "the program and its arguments one by one"],
        ),
        ("breaks", "seed=1", ["ended with status 3 before it was ready", "| cannot read [token]"]),
        ("breaks", "target.dir=/", ["was started in `/`", "and told `PORT`, `ISSUER`, `JWKS_URL`"]),
        ("goes", "seed=1", ["ended with status 0 before it was ready", "stay in the foreground"]),
        ("goes", "target.dir=/", ["| it was in /\n", "status 0"]),
        ("holds", "target.ready_within=1s", ["no answer from localhost:", "within 500ms"]),
        ("babbles", "target.ready_within=1s", ["what localhost:", "answers is no HTTP"]),
        ("deaf", "target.ready_within=1s", ["nothing answers on localhost:", "but it listens on port"]),
        (
            "mute",
            "target.ready_within=1s",
            ["is not ready after 1s", "it has to listen on the port in `PORT`"],
        ),
        ("sick", "target.ready_within=1s", ["it answers `/healthz` with 503", "`ready` names another path"]),
    ] {
        let home = Home::new(mode);
        let (code, told) = home.run(&[settings]);
        assert_eq!(code, Some(2), "{mode}: {told}");
        assert!(expected.iter().all(|part| told.contains(part)), "{mode}: {told}");
        assert!(told.contains("waiting until each replica answers `/healthz`, for "), "{mode}: {told}");
        assert_eq!(home.survivors(), [""; 0], "{mode}");
        assert!(!home.path("keyquake-out").exists(), "{mode}");
    }
}

#[test]
fn a_port_that_somebody_has_taken_is_changed_for_another() {
    let home = Home::new("unlucky");
    let (code, told) = home.run(&[]);
    assert_eq!(code, Some(0), "{told}");
    let log = fs::read_to_string(home.path("keyquake-out/own/logs/0.log")).unwrap();
    assert!(log.contains("Address already in use") && log.contains("listening"), "{log}");
}

#[test]
fn a_replica_that_dies_is_reported_and_the_run_goes_on() {
    let home = Home::new("first dies");
    let (code, told) = home.run(&[]);
    let record = home.record();
    assert_eq!(code, Some(0), "{told}");
    let cell = &record.cells[0];
    let deaths: Vec<_> = cell.events.iter().filter(|event| event.kind == EventKind::Death).collect();
    assert_eq!(deaths.len(), 1, "{told}");
    assert_eq!(deaths[0].detail.as_deref(), Some("replica 0 ended with status 3"));
    assert!(record.warnings.iter().any(|warning| warning.starts_with("replica 0 ended with status 3 at ")));
    assert!(cell.metrics.all.failures > 0, "nobody answers in its place: {told}");
    assert_eq!(cell.instances[1].denied, 0);
}

#[test]
fn when_all_replicas_have_died_the_run_ends_with_a_record() {
    let home = Home::new("dies");
    let (code, told) = home.run(&["duration=10m"]);
    let record = home.record();
    assert_eq!((code, record.verdict), (Some(13), Verdict::Aborted), "{told}");
    assert!(
        record.reasons[0].starts_with("No replica of the target lived any more at"),
        "{:?}",
        record.reasons
    );
    assert!(record.cells[0].metrics.all.requests > 0 && home.path("keyquake-out/own/report.html").exists());
    assert_eq!(home.survivors(), [""; 0]);
}

#[test]
fn a_restart_brings_a_dead_replica_back() {
    let home = Home::new("each dies once");
    let runbook = "runbook=[{ when = '500ms', do = { restart = { rolling = '4s' } } }]";
    let (code, told) = home.run(&[runbook, "duration=5s"]);
    assert_eq!(code, Some(0), "one was there at any moment: {told}");
    let record = home.record();
    let cell = &record.cells[0];
    let deaths: Vec<_> = cell.events.iter().filter(|event| event.kind == EventKind::Death).collect();
    assert_eq!(deaths.len(), 2, "{told}");
    assert!(deaths[0].planned_s < 0.5 && deaths[1].planned_s > 0.5, "{deaths:?}");
}

#[test]
fn what_a_service_prints_is_bounded() {
    let home = Home::new("chatty");
    let (code, told) = home.run(&[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(fs::metadata(home.path("keyquake-out/own/logs/0.log")).unwrap().len() <= 4 << 20);
    let warnings = home.record().warnings;
    assert!(warnings.iter().any(|warning| warning.ends_with("did not fit into its log")), "{warnings:?}");
}

#[test]
fn a_redirect_to_a_login_page_is_a_failure_unless_it_is_said_to_be_a_refusal() {
    let home = Home::new("login");
    home.run(&[]);
    let record = home.record();
    let all = &record.cells[0].metrics.all;
    assert!(all.false_rejects == 0 && all.failures == all.must_pass, "{all:?}");
    assert!(record.warnings[0].starts_with("the target accepted no token at all"), "{:?}", record.warnings);
    assert!(record.warnings[1].contains("rejected = [401, 403, 302]"), "{:?}", record.warnings);
    home.run(&["target.rejected=[302]"]);
    let all = &home.record().cells[0].metrics.all;
    assert!(all.failures == 0 && all.false_rejects == all.must_pass, "{all:?}");
}

#[test]
fn what_a_service_leaves_behind_is_killed_and_reported() {
    for (mode, expected) in [
        ("litters", "replica 1 left a process behind: 1 had to be killed"),
        ("stays", "replica 1 was still there 5 s after SIGTERM, and was killed"),
    ] {
        let home = Home::new(mode);
        let (code, told) = home.run(&["duration=2s"]);
        assert_eq!(code, Some(0), "{mode}: {told}");
        assert_eq!(home.survivors(), [""; 0], "{mode}");
        let warnings = home.record().warnings;
        assert!(warnings.iter().any(|warning| warning == expected), "{mode}: {warnings:?}");
    }
}

#[test]
fn however_keyquake_ends_nothing_is_left_of_the_target() {
    for (name, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let home = Home::new("litters");
        let mut run = home.keyquake(&["duration=10m"]).spawn().unwrap();
        until(&mut run, "the IdP is");
        assert!(home.survivors().len() >= 4, "two keepers, two services");
        signal(&run, name);
        assert_eq!(run.wait().unwrap().code(), code, "{name}");
        home.outlive_all();
    }
}

#[test]
fn a_killed_keeper_takes_its_service_along() {
    let home = Home::new("litters");
    let mut run = home.keyquake(&["duration=10m"]).spawn().unwrap();
    until(&mut run, "the IdP is");
    let keepers = home.survivors().into_iter().filter(|id| {
        fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.starts_with(b"target-keeper\0"))
    });
    let keepers: Vec<String> = keepers.collect();
    assert_eq!(keepers.len(), 2);
    assert!(Command::new("kill").arg("-KILL").args(&keepers).status().unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(13), "nobody is left");
    home.outlive_all();
    let warnings = home.record().warnings;
    let death = "replica 0 was killed, since somebody killed its keeper at ";
    assert!(warnings.iter().any(|warning| warning.starts_with(death)), "{warnings:?}");
}

#[test]
fn a_rolling_restart_costs_no_request() {
    let home = Home::new("brusque");
    let runbook = "runbook=[{ when = '500ms', do = { restart = { rolling = '2s' } } }]";
    let (code, told) = home.run(&[runbook, "duration=4s", "rotation=[]"]);
    assert_eq!(code, Some(0), "{told}");
    let record = home.record();
    assert_eq!(record.warnings, [""; 0]);
    assert_eq!(record.cells[0].metrics.all.denied, 0, "{told}");
    for (replica, turn) in [0.5..1.5, 1.5..4.0].into_iter().enumerate() {
        let log = fs::read_to_string(home.path(&format!("keyquake-out/own/logs/{replica}.log"))).unwrap();
        assert_eq!(log.matches("listening").count(), 2, "{log}");
        let asked: Vec<f64> =
            record.cells[0].instances[replica].jwks_requests.iter().map(|request| request.at_s).collect();
        assert!(asked.len() == 2 && turn.contains(&asked[1]), "it is back within its turn: {asked:?}");
    }
}

/// A service that nobody but the test has started.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stranger(idp: &str, port: &str) -> Stranger {
    let issuer = format!("http://127.0.0.1:{idp}");
    let mut service = Command::new(std::env::current_exe().expect("this test has a file"));
    service.args(["--exact", "service", "--nocapture"]).env("MODE", "good").env("PORT", port);
    service.env("JWKS_URL", format!("{issuer}/.well-known/jwks.json"));
    service.env("ISSUER", issuer).env("AUDIENCE", "keyquake").env("BASE", "/base");
    Stranger(service.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the service starts"))
}

#[test]
fn a_service_that_runs_already_is_measured_too() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (idp, ports) = (free(), [free(), free()]);
    let home = Home::new("good");
    let own = SCENARIO.replace("replicas = 2\n", "").replace("20s", "5s");
    let urls = format!(
        "[target]\nurl = [\"http://localhost:{}/base/\", \"http://127.0.0.1:{}/base\"]",
        ports[0], ports[1]
    );
    let own = own.replace("[target]", &urls).replace("[idp]", &format!("[idp]\nport = {idp}"));
    fs::write(home.path("own.toml"), own).unwrap();

    let services = ports.each_ref().map(|port| stranger(&idp, port));
    let (code, told) = home.run(&[]);
    assert_eq!(code, Some(0), "{told}");
    let record = home.record();
    let target = record.target.unwrap();
    assert_eq!((target.kind, target.unattributed_jwks_requests), (TargetKind::Url, 0));
    assert_eq!(record.cells[0].metrics.all.denied, 0, "{told}");
    let instances = &record.cells[0].instances;
    assert!(instances.iter().all(|instance| instance.jwks_requests.len() == 2), "{instances:?}");

    let mut run = home.keyquake(&[]).spawn().unwrap();
    until(&mut run, "the IdP is");
    drop(services);
    assert_eq!(run.wait().unwrap().code(), Some(0), "nobody knows whether they are only restarted");
    let warnings = home.record().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("did not answer: ")), "{warnings:?}");

    let (code, told) = home.run(&["target.ready_within=1s"]);
    assert!(code == Some(2) && told.contains("nothing answers on http://"), "{told}");
    let (code, told) = home.run(&["target.url='http://192.0.2.1:80'"]);
    assert!(code == Some(2) && told.contains("`192.0.2.1` is not this machine"), "{told}");
    let (code, told) = home.run(&["target.ready_within=1s", "target.url='http://no-such-host.invalid'"]);
    assert!(code == Some(2) && told.contains("cannot reach http://no-such-host.invalid:80: "), "{told}");
}

/// `cargo test --release -p keyquake --test target set_up -- --ignored --nocapture`
#[test]
#[ignore = "says how fast this machine is"]
#[expect(clippy::disallowed_methods, reason = "measures by the clock on the wall")]
fn set_up_takes_less_than_a_second() {
    /// Connections are opened and rooms are made ready between the start of the clock and the first request.
    const SETTLING: Duration = Duration::from_millis(300);
    for _ in 0..10 {
        let home = Home::new("slow");
        let start = std::time::Instant::now();
        let mut run = home.keyquake(&["warmup=0s", "duration=2s", "idp.algorithm=RS256"]).spawn().unwrap();
        until(&mut run, "the IdP is");
        let set_up = start.elapsed() + SETTLING - service::SLOW;
        run.wait().unwrap();
        let rest = start.elapsed().saturating_sub(set_up + service::SLOW + Duration::from_secs(2));
        println!("{} ms until the first request, {} ms after the last", set_up.as_millis(), rest.as_millis());
        assert!(set_up < Duration::from_secs(1), "{set_up:?}");
    }
}

/// `cargo test -p keyquake --test target hundred -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes: keyquake is killed a hundred times, and all that it started has to end"]
fn a_hundred_kills_leave_no_orphan() {
    // From before the first process is there until after the run has begun.
    const SPREAD: Duration = Duration::from_millis(2_500);
    for kill in 0_u32..100 {
        let home = Home::new(if kill % 2 == 0 { "good" } else { "litters" });
        let runbook = "runbook=[{ when = '200ms', do = { restart = { rolling = '1s' } } }]";
        let mut run = home.keyquake(&["warmup=0s", runbook]).spawn().unwrap();
        let moment = SPREAD * (kill * 37 % 100) / 100;
        pause(moment);
        signal(&run, "KILL");
        run.wait().unwrap();
        let left = home.survivors().len();
        home.outlive_all();
        println!(
            "kill {kill:>2} after {:>4} ms: {left} processes, and none a moment later",
            moment.as_millis()
        );
    }
}
