//! Every broken scenario is answered with its place and a way out, and with exit code 2.

use std::path::Path;
use std::process::{Command, Output};

fn keyquake(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyquake"))
        .args(arguments)
        .env_remove("KEYQUAKE_ADMIN_TOKEN")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken"))
        .output()
        .expect("the binary runs")
}

fn complaint(arguments: &[&str]) -> String {
    let output = keyquake(arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("complaints are text")
}

#[test]
fn broken_scenarios_are_answered_with_line_caret_and_hint() {
    insta::assert_snapshot!(complaints_about("", "run"));
}

#[test]
fn broken_sweeps_are_answered_with_line_caret_and_hint() {
    insta::assert_snapshot!(complaints_about("sweep/", "sweep"));
}

#[test]
fn a_run_of_a_sweep_says_what_plays_it() {
    let file = "../../../scenarios/ttl-vs-policy.toml";
    let tables = ["matrix={}", "find=[]", "recommend={}"];
    let mut set = vec!["--set", tables[0], "--set", tables[1]];
    let complaints = [
        complaint(&["run", file]),
        complaint(&["simulate", file]),
        complaint(&[&["simulate", file], set.split_off(2).as_slice()].concat()),
    ];
    insta::assert_snapshot!(complaints.join("\n"));
}

/// What a command says of each broken file in a folder.
fn complaints_about(subfolder: &str, command: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken").join(subfolder);
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    let told = |name: &String| {
        let told = complaint(&[command, &format!("{subfolder}{name}")]);
        format!("# {name}\n\n{}\n", told.trim_end())
    };
    names.iter().map(told).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_flag_is_shown_like_a_line_of_the_file() {
    let settings = ["fleet.policy.ttl=5x", "fleet.policy.tll=5s", "fleet.policy.ttl=1m 30", "traffic.rate"];
    let set = |setting: &str| {
        complaint(&["run", "no_sessions.toml", "--set", "traffic.sessions=1", "--set", setting])
    };
    insta::assert_snapshot!(settings.map(set).join("\n"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let commands = [["run", "nowhere.toml"], ["report", "nowhere.json"], ["report", "no_sessions.toml"]];
    insta::assert_snapshot!(commands.map(|command| complaint(&command)).join("\n"));
}

/// Every flag of every command, with what it does not take.
const FLAGS: &[&[&str]] = &[
    &[],
    &["nonsense"],
    &["run"],
    &["run", ""],
    &["run", "."],
    &["run", "/dev/zero"],
    &["run", SOUND, "and", "more"],
    &["run", SOUND, "--out", ""],
    &["run", SOUND, "--out", SOUND],
    &["run", SOUND, "--seed", ""],
    &["run", SOUND, "--seed", "x"],
    &["run", SOUND, "--seed", "-1"],
    &["run", SOUND, "--seed", "18446744073709551616"],
    &["run", SOUND, "--seed", "1", "--seed", "2"],
    &["run", SOUND, "--set"],
    &["run", SOUND, "--set", ""],
    &["run", SOUND, "--set", "="],
    &["run", SOUND, "--set", "=5"],
    &["run", SOUND, "--set", "a.b.c.d=1"],
    &["run", SOUND, "--set", "name.a=1"],
    &["run", SOUND, "--set", "a..b=1"],
    &["run", SOUND, "--set", "rotation=5"],
    &["run", SOUND, "--set", "rotation.at=5s"],
    &["run", SOUND, "--set", "rotation=[{at='5s'}]"],
    &["run", SOUND, "--set", "fleet=5"],
    &["run", SOUND, "--set", "fleet=2026-01-01"],
    &["run", SOUND, "--set", "fleet.policy=[]"],
    &["run", SOUND, "--set", "fleet.cache=[]"],
    &["run", SOUND, "--set", "fleet.cache={}"],
    &["run", SOUND, "--set", "gates=[]"],
    &["run", SOUND, "--set", "duration=2026-01-01"],
    &["run", SOUND, "--set", "name="],
    &["run", SOUND, "--set", "name=../up"],
    &["run", SOUND, "--set", "seed=-1"],
    &["run", SOUND, "--set", "speed=nan"],
    &["run", SOUND, "--set", "speed=inf"],
    &["run", SOUND, "--set", "speed=-0.0"],
    &["run", SOUND, "--set", "duration=inf"],
    &["run", SOUND, "--set", "duration=1e9s"],
    &["run", SOUND, "--set", "duration=0s"],
    &["run", SOUND, "--set", "traffic.rate=-5/s"],
    &["run", SOUND, "--set", "traffic.rate=5/0s"],
    &["run", SOUND, "--set", "traffic.rate=99999999999999999999/s"],
    &["run", SOUND, "--set", "traffic.sessions=4294967296"],
    &["run", SOUND, "--set", "fleet.replicas=0"],
    &["simulate"],
    &["simulate", "nowhere.toml"],
    &["simulate", SOUND, "--set", "duration=367d"],
    &["simulate", SOUND, "--set", "traffic.rate=100000000/s", "--set", "traffic.balance=sticky"],
    &["simulate", SOUND, "--out", SOUND],
    &["simulate", SOUND, "--replay"],
    &["simulate", SOUND, "--replay", "nowhere.json"],
    &["simulate", SOUND, "--predict", SOUND],
    &["simulate", SOUND, "--replay", "a.json", "--predict", "b.json"],
    &["simulate", SOUND, "--check-determinism", "--replay", "a.json"],
    &["sweep"],
    &["sweep", "nowhere.toml"],
    &["sweep", SOUND, "-L"],
    &["sweep", SOUND, "-L", ""],
    &["sweep", SOUND, "-L", "fleet.policy.ttl"],
    &["sweep", SOUND, "-L", "fleet.policy.ttl="],
    &["sweep", SOUND, "-L", "=1m"],
    &["sweep", SOUND, "-L", "a b=1m"],
    &["sweep", SOUND, "-L", "fleet..ttl=1m"],
    &["sweep", SOUND, "-L", "fleet.policy.ttl=1m,5x"],
    &["sweep", SOUND, "-L", "fleet.policy.tll=1m,5m"],
    &["sweep", SOUND, "-L", "fleet.policy.ttl=1m", "-L", "fleet.policy.ttl=5m"],
    &["sweep", SOUND, "-L", "fleet.policy.ttl=1m", "-P", "fleet.policy.ttl=1m..5m:lin3"],
    &["sweep", SOUND, "-L", "fleet.policy.ttl=1m", "--set", "fleet.policy.ttl=5m"],
    &["sweep", SOUND, "-L", "name=a,b"],
    &["sweep", SOUND, "-L", "rotation[7].at=1s"],
    &["sweep", SOUND, "-P", "fleet.policy.ttl=1m..5m"],
    &["sweep", SOUND, "-P", "fleet.policy.ttl=5m..1m:lin3"],
    &["sweep", SOUND, "-P", "fleet.policy.ttl=1m..5m:lin1"],
    &["sweep", SOUND, "-P", "fleet.policy.ttl=0s..5m:log3"],
    &["sweep", SOUND, "-P", "fleet.policy.ttl=1m..5/s:lin3"],
    &["sweep", SOUND, "-P", "fleet.policy.ttl=1..5:lin3"],
    &["sweep", SOUND, "-P", "fleet.policy.ttl=1m..5m:exp3"],
    &["sweep", SOUND, "-P", "fleet.replicas=1..3:lin5"],
    &["sweep", SOUND, "--replications", "0"],
    &["sweep", SOUND, "--replications", "many"],
    &["sweep", SOUND, "--jobs", "0"],
    &["sweep", SOUND, "--set", "matrix=5"],
    &["sweep", SOUND, "--set", "find=5"],
    &["sweep", SOUND, "--out", SOUND],
    &["run", SOUND, "--set", "idp.profile=dexx"],
    &["profiles", "dexx"],
    &["profiles", "0"],
    &["profiles", "dex", "hydra"],
    &["report"],
    &["report", ""],
    &["report", "."],
    &["report", SOUND],
    &["report", SOUND, "more"],
    &["report", "/dev/null"],
    &["lab", ""],
    &["lab", "nowhere.toml"],
    &["lab", "no_sessions.toml"],
    &["lab", "."],
    &["lab", "/dev/zero"],
    &["lab", SOUND, "more"],
    &["lab", SOUND, "--port", "x"],
    &["idp", "8400"],
    &["idp", "--port", ""],
    &["idp", "--port", "x"],
    &["idp", "--port", "-1"],
    &["idp", "--port", "65536"],
    &["idp", "--host", ""],
    &["idp", "--host", "localhost"],
    &["idp", "--host", "0.0.0.0"],
    &["idp", "--issuer", ""],
    &["idp", "--issuer", "issuer.example"],
    &["idp", "--issuer", "file:///etc"],
    &["idp", "--issuer", "https://issuer.example/?a=b"],
    &["idp", "--ca-file", "ca.pem"],
    &["idp", "--tls", "--issuer", "http://issuer.example"],
    &["idp", "--tls", "--port", "0", "--algorithm", "ES256", "--ca-file", "."],
    &["idp", "--tls", "--port", "0", "--algorithm", "ES256", "--ca-file", "nowhere/ca.pem"],
    &["idp", "--algorithm", ""],
    &["idp", "--algorithm", "HS256"],
    &["idp", "--token-lifetime", ""],
    &["idp", "--token-lifetime", "5"],
    &["idp", "--token-lifetime", "-5s"],
    &["idp", "--token-lifetime", "0s"],
    &["idp", "--token-lifetime", "1500ms"],
    &["idp", "--token-lifetime", "inf"],
    &["idp", "--max-age", "soon"],
    &["idp", "--max-age", "inf"],
    &["idp", "--max-age", "-5s"],
    &["idp", "--lead", "--style"],
    &["idp", "--rotate-every", "0s"],
    &["idp", "--rotate-every", "inf"],
    &["idp", "--rotate-every", "-1m"],
    &["idp", "--rotate-every", "3s"],
    &["idp", "--style", "late"],
    &["idp", "--lead", "5 parsecs"],
    &["idp", "--lead", "inf"],
    &["idp", "--seed", "-1"],
    &["idp", "--seed", "1.5"],
];

/// Nothing is wrong with it.
const SOUND: &str = "../../../scenarios/quickstart.toml";

#[test]
fn what_no_flag_takes_is_refused_with_a_reason() {
    let complaints: Vec<String> = FLAGS
        .iter()
        .map(|flags| format!("$ keyquake {}\n{}\n", flags.join(" "), complaint(flags).trim_end()))
        .collect();
    insta::assert_snapshot!(complaints.join("\n"));
}

#[test]
fn settings_are_bounded() {
    let many: Vec<&str> = ["run", SOUND].into_iter().chain(["--set", "seed=1"].repeat(101)).collect();
    assert!(complaint(&many).contains("more than 100 settings"));
}
