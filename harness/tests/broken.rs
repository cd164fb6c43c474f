//! Every broken scenario is answered with its place and a way out, and with exit code 2.

use std::path::Path;
use std::process::{Command, Output};

fn keyquake(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyquake"))
        .args(arguments)
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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    let complaints: Vec<String> =
        names.iter().map(|name| format!("# {name}\n\n{}\n", complaint(&["run", name]).trim_end())).collect();
    insta::assert_snapshot!(complaints.join("\n"));
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
