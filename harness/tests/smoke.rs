//! One run in real time through the binary: ten seconds of a scenario at five times their speed.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use keyquake_reports::Record;
use keyquake_reports::record::{Engine, EventKind, Verdict};

const SCENARIO: &str = r#"# Does the main job work? A small one does.
name = "smoke"
duration = "10s"
warmup = "1s"
speed = 5

[idp]
algorithm = "ES256"
token_lifetime = "60s"

[[rotation]]
at = "3s"
style = "no-overlap"

[fleet]
replicas = 2
cache = { age = "5s" }
policy = { limiter = "cooldown", limiter_interval = "10s" }

[traffic]
rate = "40/s"
sessions = 20
background = { expired = "5%", forged = "5%" }

[limits]
lateness = "1s"            # whoever else uses this machine, the test is about what is reported

[gates]
time_to_recover = "<= 9s"
false_accepts = "== 0"
"#;

fn keyquake(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyquake"));
    command.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// How often a run is tried whose machine was busy with something else.
const TRIES: usize = 12;

/// Runs the scenario. A run that the machine could not keep up with is void and says nothing, so it is repeated.
fn run(folder: &Path, settings: &[&str]) -> (Output, Record) {
    std::fs::write(folder.join("smoke.toml"), SCENARIO).expect("the folder is there");
    let mut tries = 0;
    loop {
        tries += 1;
        let run = keyquake(folder)
            .args(["run", "smoke.toml"])
            .args(settings)
            .output()
            .expect("the binary is built");
        let record = Record::load(&folder.join("keyquake-out/smoke/result.json"))
            .unwrap_or_else(|error| panic!("{error}: {}", text(&run)));
        if tries == TRIES || ![Verdict::Void, Verdict::Inconclusive].contains(&record.verdict) {
            return (run, record);
        }
    }
}

#[test]
fn a_run_leaves_a_record_and_a_report_that_can_be_drawn_again() {
    let folder = tempfile::tempdir().unwrap();
    let (run, record) = run(folder.path(), &[]);
    let place = folder.path().join("keyquake-out/smoke");
    assert_eq!((record.engine, record.verdict), (Engine::Live, Verdict::Pass), "{}", text(&run));
    assert_eq!(run.status.code(), Some(0));

    let cell = &record.cells[0];
    let episode = &cell.episodes[0];
    // The caches are 8 s old at the rotation and may fetch again at 10 s, so the new key is refused for 2 s.
    let recovered = episode.metrics.cohort.time_to_recover.seconds.unwrap();
    assert!((0.5..=2.5).contains(&recovered), "{recovered} s");
    assert!(episode.metrics.cohort.traffic.false_rejects > 0);
    assert!(episode.metrics.orphaned.orphaned_rejects > 0);
    assert!(episode.metrics.login_storm.requests > 0);
    assert_eq!(cell.instances.iter().map(|instance| instance.jwks_requests.len()).sum::<usize>(), 2);
    let kinds: Vec<EventKind> = episode.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Publish, EventKind::Activate, EventKind::Retire, EventKind::Remove]);
    let forged = ["expired", "bad_signature"].map(|kind| cell.metrics.false_accepts.get(kind).copied());
    assert_eq!(forged, [Some(0), Some(0)], "they were sent, and refused");

    for file in ["report.html", "summary.md", "charts/denied.svg"] {
        let path = place.join(file);
        std::fs::remove_file(&path).unwrap();
        let report =
            keyquake(folder.path()).args(["report", "keyquake-out/smoke/result.json"]).output().unwrap();
        assert!(report.status.success() && path.exists(), "{file}: {}", text(&report));
    }
}

#[test]
fn a_run_is_replayed_and_a_forged_one_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &[]);
    let requests = folder.path().join("keyquake-out/smoke/requests.csv");
    let replay = |more: &[&str]| {
        let replay = ["simulate", "smoke.toml", "--replay", "keyquake-out/smoke/result.json"];
        let output = keyquake(folder.path()).args(replay).args(more).output().unwrap();
        (output.status.code(), text(&output))
    };
    let (code, told) = replay(&[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(" requests replayed, 100.000 % end as in the run"), "{told}");

    let (code, told) = replay(&["--seed", "2"]);
    assert!(code == Some(2) && told.contains("it is of another plan"), "{told}");

    let table = std::fs::read_to_string(&requests).unwrap();
    std::fs::write(&requests, table.replacen(",accepted,200", ",rejected,401", 9)).unwrap();
    let (code, told) = replay(&[]);
    assert_eq!(code, Some(10), "{told}");
    assert!(told.contains("rejected (401) live, accepted (200) replayed"), "{told}");

    std::fs::write(&requests, table.lines().take(50).collect::<Vec<_>>().join("\n")).unwrap();
    let (code, told) = replay(&[]);
    assert!(code == Some(2) && told.contains("holds ") && told.contains(" requests"), "{told}");

    std::fs::remove_file(&requests).unwrap();
    let (code, told) = replay(&[]);
    assert!(code == Some(2) && told.contains("requests.csv"), "{told}");
}

#[test]
fn workers_of_a_replica_recover_each_in_its_own_time() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        "fleet.workers=2",
        "fleet.policy.on_unknown_kid=reject",
        "fleet.policy.ttl=6s",
        "fleet.cache=staggered",
        "idp.token_lifetime=20s",
        "gates={}",
    ];
    let (_, record) = run(folder.path(), &settings.map(|setting| ["--set", setting]).concat());
    let instances = &record.cells[0].instances;
    let places: Vec<_> = instances.iter().map(|instance| (instance.replica, instance.worker)).collect();
    assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    assert!(instances.iter().all(|instance| instance.must_pass > 10 && !instance.jwks_requests.is_empty()));
}

#[test]
fn id_tokens_with_their_nonce_are_accepted_over_https_until_the_rotation_and_after_recovery() {
    let folder = tempfile::tempdir().unwrap();
    let session = ["traffic.endpoint=/session", "traffic.on_reject=relogin", "idp.tls=true"];
    let (run, record) = run(folder.path(), &session.map(|setting| ["--set", setting]).concat());
    assert!(text(&run).contains("the IdP is https://127.0.0.1:"), "{}", text(&run));
    assert_eq!(record.verdict, Verdict::Pass, "{}", text(&run));
    let all = &record.cells[0].metrics.all;
    assert!(all.denied > 0 && all.denied < all.must_pass / 2, "{all:?}");
}

#[test]
fn an_unwritable_folder_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("smoke.toml"), SCENARIO).unwrap();
    std::fs::write(folder.path().join("taken"), "a file").unwrap();
    let run = keyquake(folder.path()).args(["run", "smoke.toml", "--out", "taken"]).output().unwrap();
    assert_eq!(run.status.code(), Some(2), "{}", text(&run));
    assert!(text(&run).contains("cannot write results to `taken`"), "{}", text(&run));
}

#[cfg(unix)]
#[tokio::test]
async fn an_idp_over_https_writes_down_the_ca_to_trust() {
    let folder = tempfile::tempdir().unwrap();
    let mut idp = keyquake(folder.path())
        .args(["idp", "--port", "0", "--tls", "--algorithm", "ES256"])
        .spawn()
        .expect("the binary is built");
    let mut issuer = String::new();
    let mut printed = std::io::BufReader::new(idp.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut printed, &mut issuer).unwrap();
    let ca = std::fs::read(folder.path().join("keyquake-ca.pem"))
        .expect("it is there before the issuer is printed");
    let ca = reqwest::Certificate::from_pem(&ca).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let url = format!("{}/.well-known/openid-configuration", issuer.trim());
    let metadata = client.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(
        issuer.starts_with("https://127.0.0.1:") && metadata.contains(&format!("{}/token", issuer.trim())),
        "{metadata}"
    );
    let stranger = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    assert!(stranger.get(&url).send().await.unwrap_err().is_connect());
    assert!(Command::new("kill").args(["-INT", &idp.id().to_string()]).status().unwrap().success());
    assert_eq!(idp.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_a_record_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("smoke.toml"), SCENARIO).unwrap();
    let mut run = keyquake(folder.path());
    let mut run = run.args(["run", "smoke.toml", "--set", "duration=10m"]).spawn().unwrap();
    // It says so when everything is in place; from then on an interrupt is a cut.
    let mut talk = std::io::BufReader::new(run.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("denied") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut talk, &mut line).unwrap() > 0, "it ended by itself");
    }
    assert!(Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
    std::io::copy(&mut talk, &mut std::io::sink()).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    let record = Record::load(&folder.path().join("keyquake-out/smoke/result.json")).unwrap();
    assert_eq!(record.verdict, Verdict::Aborted);
    assert!(record.reasons[0].starts_with("Interrupted at"), "{:?}", record.reasons);
    assert!(folder.path().join("keyquake-out/smoke/report.html").exists());
}

const AXES: &str =
    "[matrix]\n\"fleet.policy.ttl\" = [\"4s\", \"9s\"]\n[recommend]\ntime_to_recover = \"<= 9s\"\n";

#[test]
fn a_sweep_leaves_one_record_with_a_page_and_a_table_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("smoke.toml"), format!("{SCENARIO}{AXES}")).unwrap();
    let sweep = |more: &[&str]| {
        let sweep = ["sweep", "smoke.toml", "--replications", "2", "-P", "fleet.replicas=1..3:lin3"];
        keyquake(folder.path()).args(sweep).args(more).output().unwrap()
    };
    let output = sweep(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let told = text(&output);
    assert!(told.contains("Recommended: ttl = ") && told.contains("6 of 6 cells"), "{told}");
    assert!(
        told.contains("keyquake sweep smoke.toml --seed 1 -P fleet.replicas=1..3:lin3 --replications 2"),
        "{told}"
    );
    let place = folder.path().join("keyquake-out/smoke");
    let record = Record::load(&place.join("result.json")).unwrap();
    let swept = record.sweep.expect("a sweep");
    assert_eq!((swept.cells.len(), swept.axes.len(), record.cells.len()), (6, 2, 0));
    for file in ["report.html", "summary.md", "cells.csv", "charts/pareto.svg", "charts/heat-recovery.svg"] {
        let path = place.join(file);
        std::fs::remove_file(&path).unwrap();
        let report =
            keyquake(folder.path()).args(["report", "keyquake-out/smoke/result.json"]).output().unwrap();
        assert!(report.status.success() && path.exists(), "{file}: {}", text(&report));
    }
    let failed = sweep(&["--set", "gates.denied=\"== 0\""]);
    assert_eq!(failed.status.code(), Some(10), "{}", text(&failed));
}

#[cfg(unix)]
#[test]
fn an_interrupted_sweep_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("smoke.toml"), format!("{SCENARIO}{AXES}")).unwrap();
    let mut sweep = keyquake(folder.path());
    let long = ["sweep", "smoke.toml", "--replications", "1000", "--set", "duration=1h"];
    let mut sweep = sweep.args(long).spawn().unwrap();
    // It says what it is about to do when everything is in place.
    let mut talk = std::io::BufReader::new(sweep.stderr.take().unwrap());
    let mut line = String::new();
    assert!(std::io::BufRead::read_line(&mut talk, &mut line).unwrap() > 0);
    assert!(folder.path().join("keyquake-out").exists(), "{line}");
    assert!(Command::new("kill").args(["-INT", &sweep.id().to_string()]).status().unwrap().success());
    assert_eq!(sweep.wait().unwrap().code(), Some(130));
    assert!(!folder.path().join("keyquake-out").exists());
}
