//! What happens at the edges of the machine: a limit, a full disk, a signal. Nothing is lost, nothing hangs.

#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use keyquake_reports::Record;
use keyquake_reports::record::Verdict;

/// A run of less than a second.
const SHORT: &str = r#"# Does it end well?
name = "edge"
duration = "2s"
warmup = "1s"
speed = 5

[idp]
algorithm = "ES256"

[traffic]
rate = "20/s"
sessions = 5
connections = 2
max_in_flight = 20

[limits]                   # whoever else uses this machine
lateness = "1m"
shed = "100%"
"#;

/// A folder with a scenario in it, and what a run leaves there.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self::with(SHORT)
    }

    fn with(scenario: &str) -> Self {
        let home = tempfile::tempdir().expect("there is room");
        fs::write(home.path().join("edge.toml"), scenario).expect("there is room");
        Self(home)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn keyquake(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyquake"));
        command.args(arguments).current_dir(self.0.path()).env("TMPDIR", self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it in a shell after these commands.
    fn after(&self, commands: &str, arguments: &[&str]) -> Command {
        let mut shell = Command::new("sh");
        let run = format!("{commands} && exec \"$0\" \"$@\"");
        shell.args(["-c", &run, env!("CARGO_BIN_EXE_keyquake")]).args(arguments);
        shell.current_dir(self.0.path()).env("TMPDIR", self.0.path()).stdin(Stdio::null());
        shell
    }

    fn has_trace(&self) -> bool {
        self.path("keyquake-out").exists()
    }

    fn record(&self) -> Record {
        Record::load(&self.path("keyquake-out/edge/result.json")).expect("there is a record")
    }
}

/// A process that is at work.
struct Running {
    child: Child,
    talk: BufReader<ChildStderr>,
}

impl Running {
    /// Starts it and waits until it says this.
    fn until(mut command: Command, sign: &str) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let talk = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut running = Self { child, talk };
        running.wait_for(sign);
        running
    }

    fn wait_for(&mut self, sign: &str) {
        let mut line = String::new();
        while !line.contains(sign) {
            line.clear();
            assert!(
                self.talk.read_line(&mut line).expect("it says text") > 0,
                "it ended without saying `{sign}`"
            );
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("`kill` runs").success()
        );
    }

    /// Its exit code, what it printed and what else it said.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut printed, mut said) = (String::new(), String::new());
        self.talk.read_to_string(&mut said).expect("it says text");
        self.child.stdout.take().expect("it is piped").read_to_string(&mut printed).expect("it prints text");
        (self.child.wait().expect("it ends").code(), printed, said)
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// From then on an interruption is an orderly end.
const AT_WORK: &str = "the IdP is";

#[test]
fn a_port_in_use_is_named_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Home::new().keyquake(&["idp", "--port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected = format!("error: cannot listen on 127.0.0.1:{port}: Address already in use");
    assert!(said(&output).starts_with(&expected), "{}", said(&output));
    assert!(said(&output).contains("hint: `--port 0`"), "{}", said(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_where_nothing_can_be_written_is_said_before_anything_runs() {
    let output = Home::new().keyquake(&["run", "edge.toml", "--out", "/proc/out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        said(&output),
        "error: cannot write results to `/proc/out`: No such file or directory (os error 2)\n"
    );
}

#[test]
fn too_few_descriptors_are_counted_before_anything_runs() {
    let home = Home::new();
    let output = home.after("ulimit -n 100", &["run", "edge.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    insta::assert_snapshot!(said(&output));
    assert!(!home.has_trace());
}

#[test]
fn exactly_as_many_descriptors_as_the_plan_needs_suffice() {
    let home = Home::new();
    let refused = said(&home.after("ulimit -n 100", &["run", "edge.toml"]).output().unwrap());
    let advice = refused.split('`').find(|part| part.starts_with("ulimit")).unwrap();
    let output = home.after(advice, &["run", "edge.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(home.record().cells[0].metrics.all.failures, 0);
}

#[test]
fn a_soft_limit_that_is_too_low_is_raised() {
    let home = Home::new();
    let output = home.after("ulimit -Sn 100", &["run", "edge.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

/// Lets the file of this name in the draft be as full as a disk can be.
#[cfg(target_os = "linux")]
fn fill_disk(home: &Home, file: &str) {
    symlink("/dev/full", home.path("keyquake-out/.edge.part").join(format!("{file}.partial")))
        .expect("there is a draft");
}

#[cfg(target_os = "linux")]
#[test]
fn a_record_that_finds_the_disk_full_is_kept_elsewhere() {
    let home = Home::new();
    let running = Running::until(home.keyquake(&["run", "edge.toml"]), AT_WORK);
    fill_disk(&home, "result.json");
    let (code, printed, said) = running.end();
    assert_eq!(code, Some(13), "{said}");
    assert!(
        said.contains("error: cannot write `keyquake-out/.edge.part/result.json`: No space left"),
        "{said}"
    );
    assert!(printed.contains("edge"), "what was measured is told all the same: {printed}");
    let kept = said.split('`').find(|part| part.contains("/keyquake-edge-")).unwrap();
    assert_eq!(Record::load(Path::new(kept)).unwrap().verdict, Verdict::Pass);
    assert!(home.keyquake(&["report", kept]).status().unwrap().success());
    assert!(!home.path("keyquake-out/edge").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_record_that_fits_nowhere_is_told_of() {
    let home = Home::new();
    let mut command = home.keyquake(&["run", "edge.toml"]);
    command.env("TMPDIR", "/proc");
    let running = Running::until(command, AT_WORK);
    fill_disk(&home, "result.json");
    let (code, printed, said) = running.end();
    assert_eq!(code, Some(13), "{said}");
    assert!(said.contains("all that is left of this run"), "{said}");
    assert!(printed.contains("edge"), "{printed}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_finds_the_disk_full_leaves_the_record() {
    let home = Home::new();
    let running = Running::until(home.keyquake(&["run", "edge.toml"]), AT_WORK);
    fill_disk(&home, "report.html");
    let (code, _, said) = running.end();
    assert_eq!(code, Some(13), "{said}");
    assert!(said.contains("the record is kept in `keyquake-out/edge/result.json`"), "{said}");
    assert!(home.keyquake(&["report", "keyquake-out/edge/result.json"]).status().unwrap().success());
    assert_eq!(home.record().verdict, Verdict::Pass);
}

/// On a file system of one page; where users may not mount one, there is nothing to see.
#[cfg(target_os = "linux")]
#[test]
fn a_small_file_system_is_survived() {
    let home = Home::new();
    fs::create_dir(home.path("small")).unwrap();
    let mount = "mount -t tmpfs -o size=4k tmpfs small";
    let within = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", command]);
        unshare.current_dir(home.0.path()).env("TMPDIR", home.0.path());
        unshare
    };
    if !within(mount).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no file system may be mounted here");
        return;
    }
    let run = format!(
        "{mount} && {} run edge.toml --out small --set fleet.replicas=30",
        env!("CARGO_BIN_EXE_keyquake")
    );
    let output = within(&run).output().unwrap();
    assert_eq!(output.status.code(), Some(13), "{}", said(&output));
    assert!(said(&output).contains("No space left on device"), "{}", said(&output));
    let said = said(&output);
    let kept = said.split('`').find(|part| part.contains("/keyquake-edge-")).expect(&said);
    assert_eq!(Record::load(Path::new(kept)).unwrap().verdict, Verdict::Pass);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_said() {
    let home = Home::new();
    let mut command = home.keyquake(&["run", "edge.toml"]);
    let output = command.stdout(fs::File::create("/dev/full").unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        said(&output).contains("warning: cannot print to standard output: No space left"),
        "{}",
        said(&output)
    );
}

#[test]
fn sigterm_ends_a_run_like_ctrl_c() {
    let home = Home::new();
    for signal in ["TERM", "INT"] {
        let command = home.keyquake(&["run", "edge.toml", "--set", "duration=1h"]);
        let running = Running::until(command, AT_WORK);
        running.signal(signal);
        let (code, printed, said) = running.end();
        assert_eq!(code, Some(130), "{signal}: {said}");
        assert!(printed.contains("report: keyquake-out/edge/report.html"), "{signal}: {printed}");
        assert_eq!(home.record().verdict, Verdict::Aborted, "{signal}");
    }
}

#[test]
fn a_second_interruption_ends_a_run_at_once() {
    let home = Home::new();
    let command = home.keyquake(&["run", "edge.toml", "--set", "duration=1h"]);
    let mut running = Running::until(command, AT_WORK);
    // Nobody reads from this pipe, so the record is never written and the run never ends by itself.
    let pipe = home.path("keyquake-out/.edge.part/result.json.partial");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    running.signal("INT");
    running.wait_for("interrupted: waiting for what is under way");
    running.signal("TERM");
    let (code, printed, _) = running.end();
    assert_eq!((code, printed.as_str()), (Some(130), ""));
    assert!(!home.path("keyquake-out/edge").exists());
}

#[test]
fn an_interruption_during_set_up_leaves_no_trace() {
    // RSA keys take a tenth of a second each.
    let rotations: String =
        (1..250).map(|i| format!("[[rotation]]\nat = \"{i}s\"\nstyle = \"just-in-time\"\n")).collect();
    let scenario = SHORT.replace("ES256", "RS256").replace("duration = \"2s\"", "duration = \"10m\"");
    let home = Home::with(&format!("{scenario}{rotations}"));
    for signal in ["INT", "TERM"] {
        let running = Running::until(home.keyquake(&["run", "edge.toml"]), "edge: 1 replica");
        running.signal(signal);
        let (code, printed, said) = running.end();
        assert_eq!((code, printed.as_str(), said.as_str()), (Some(130), "", ""), "{signal}");
        assert!(!home.has_trace(), "{signal}");
    }
}

#[test]
fn after_a_kill_the_next_run_works() {
    let home = Home::new();
    let running = Running::until(home.keyquake(&["run", "edge.toml"]), AT_WORK);
    running.signal("KILL");
    assert_eq!(running.end().0, None);
    assert!(home.path("keyquake-out/.edge.part").exists(), "the draft of the killed run");

    let output = home.keyquake(&["run", "edge.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let left: Vec<_> =
        fs::read_dir(home.path("keyquake-out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["edge"]);
    assert_eq!(home.record().verdict, Verdict::Pass);
}

#[test]
fn the_idp_alone_ends_well_when_it_is_told_to() {
    let home = Home::new();
    for signal in ["INT", "TERM"] {
        let running =
            Running::until(home.keyquake(&["idp", "--port", "0", "--algorithm", "ES256"]), "Ctrl-C ends it");
        running.signal(signal);
        let (code, printed, _) = running.end();
        assert_eq!(code, Some(0), "{signal}");
        assert!(printed.starts_with("http://127.0.0.1:"), "{printed}");
    }
}

#[test]
fn the_lab_ends_well_when_it_is_told_to() {
    let home = Home::new();
    for signal in ["INT", "TERM"] {
        let running = Running::until(home.keyquake(&["lab", "edge.toml", "--port", "0"]), "Ctrl-C ends it");
        running.signal(signal);
        let (code, printed, _) = running.end();
        assert_eq!(code, Some(0), "{signal}");
        assert!(printed.starts_with("http://127.0.0.1:"), "{printed}");
    }
}

/// Text as it is, and as it must not be.
fn spoilt(record: &str) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let with = |from: &str, to: &str| {
        assert!(record.contains(from), "{from}");
        record.replacen(from, to, 1).into_bytes()
    };
    let name = record.find("edge").unwrap_or_default();
    let mut unreadable = record.as_bytes().to_vec();
    unreadable[name] = 0xff;
    vec![
        ("empty", Vec::new(), "not a record of keyquake: EOF while parsing a value at line 1 column 0"),
        ("truncated", record.as_bytes()[..record.len() / 2].to_vec(), "not a record of keyquake: EOF"),
        ("not text", unreadable, "not a record of keyquake: invalid unicode code point"),
        ("of another version", with("\"schema\": 1", "\"schema\": 2"), "the record has schema `2`"),
        ("of a huge number", with("\"seed\": 1", "\"seed\": 1e999"), "number out of range"),
        (
            "of a long number",
            with("\"seed\": 1", &format!("\"seed\": {}", "9".repeat(1 << 20))),
            "number out of range",
        ),
        (
            "of a far moment",
            with("\"first_s\": ", "\"first_s\": 1e300, \"first_s\": "),
            "duplicate field `first_s`",
        ),
        ("ragged", with("\"requests\": [", "\"requests\": [1, "), "the record contradicts itself"),
        ("nested", "[".repeat(1 << 20).into_bytes(), "not a record of keyquake: invalid type: sequence"),
        (
            "nested in a member",
            [b"{\"schema\":1,\"a\":".to_vec(), b"[".repeat(1 << 20)].concat(),
            "EOF while parsing",
        ),
    ]
}

#[test]
fn a_record_that_is_none_is_refused_with_a_reason() {
    let home = Home::new();
    assert!(home.keyquake(&["run", "edge.toml"]).status().unwrap().success());
    let record = fs::read_to_string(home.path("keyquake-out/edge/result.json")).unwrap();
    for (case, bytes, expected) in spoilt(&record) {
        fs::write(home.path("bad.json"), bytes).unwrap();
        let output = home.keyquake(&["report", "bad.json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{case}: {}", said(&output));
        let said = said(&output);
        assert!(
            said.starts_with("error: cannot draw `bad.json`: ") && said.contains(expected),
            "{case}: {said}"
        );
        assert!(said.len() < 500 && !home.path("report.html").exists(), "{case}: {said}");
    }
    // It takes no room: all of it is a hole.
    fs::File::create(home.path("bad.json")).unwrap().set_len((256 << 20) + 1).unwrap();
    let output = home.keyquake(&["report", "bad.json"]).output().unwrap();
    assert_eq!(said(&output), "error: cannot draw `bad.json`: a record has at most 256 MiB\n");
}

#[test]
fn a_record_of_very_many_windows_is_drawn() {
    const WINDOWS: usize = 200_000;
    let home = Home::new();
    assert!(home.keyquake(&["run", "edge.toml"]).status().unwrap().success());
    let path = home.path("keyquake-out/edge/result.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for column in record["cells"][0]["windows"].as_object_mut().unwrap().values_mut() {
        if let Some(values) = column.as_array_mut() {
            *values = values.iter().cycle().take(WINDOWS).cloned().collect();
        }
    }
    fs::write(&path, record.to_string()).unwrap();
    let output = home.keyquake(&["report", "keyquake-out/edge/result.json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // As long as the page of a short run, nearly.
    assert!(fs::metadata(home.path("keyquake-out/edge/report.html")).unwrap().len() < 1 << 20);
}
