//! Why a replica is not ready, in words: what is wrong, the way out, and what it said last.

use super::keeper::Ending;
use super::process::Process;
use super::processes;
use super::ready::Unready;
use crate::plan::{Ready, Target};

/// About whom.
pub(super) struct Complaint<'c> {
    pub(super) plan: &'c Target,
    pub(super) replica: usize,
    /// Where it should have been reached.
    pub(super) place: String,
    /// Its process, if we have started it.
    pub(super) process: Option<&'c Process>,
}

/// `ended with status 3`; only SIGKILL ends a keeper before what it keeps.
pub(super) fn how_it_ended(ending: Option<Ending>) -> String {
    ending.map_or("was killed, since somebody killed its keeper".to_owned(), |ending| ending.to_string())
}

impl Complaint<'_> {
    pub(super) fn about(&self, unready: &Unready) -> String {
        let (what, hint) = match unready {
            Unready::NotStarted(error) => self.not_started(error),
            Unready::Ended(ending) => self.ended(*ending),
            Unready::Unreached => self.unreached(),
            Unready::Lost(what) => {
                let hint = "does it run there? `ready_within` gives it longer";
                (format!("{}: {what}", self.not_ready()), hint.to_owned())
            }
            Unready::Mute(what) => {
                let hint = "does something else listen there? `ready` names the path that is asked, or `\"tcp\"` for any \
                            connection; `ready_within` gives it longer";
                (format!("{}: {what}", self.not_ready()), hint.to_owned())
            }
            Unready::Answers(status) => {
                let path = if let Ready::Path(path) = &self.plan.ready { path } else { "" };
                let hint = "`ready` names another path, or `\"tcp\"` for any connection";
                (format!("{}: it answers `{path}` with {status}", self.not_ready()), hint.to_owned())
            }
            Unready::Elsewhere(what) => {
                (what.clone(), "allow a host with `--allow-target` or `[guard] allow`".to_owned())
            }
        };
        let printed = self.process.map(|process| process.tail.shown()).unwrap_or_default();
        let printed = if printed.is_empty() { printed } else { format!("\nits last lines:{printed}") };
        format!("error: {what}\nhint: {hint}{printed}")
    }

    fn not_ready(&self) -> String {
        format!("replica {} of the target is not ready after {}", self.replica, self.plan.ready_within)
    }

    fn not_started(&self, error: &str) -> (String, String) {
        let program = self.plan.command().and_then(|launch| launch.argv.first()).map_or("", String::as_str);
        let hint = if program.contains(char::is_whitespace) {
            "write the program and its arguments one by one: `[\"node\", \"server.js\"]`".to_owned()
        } else {
            format!("is it there, and executable? It is started in `{}` (`target.dir`)", self.dir())
        };
        (format!("cannot start `{program}`: {error}"), hint)
    }

    fn ended(&self, ending: Option<Ending>) -> (String, String) {
        let what =
            format!("replica {} of the target {} before it was ready", self.replica, how_it_ended(ending));
        let hint = if ending == Some(Ending::Status(0)) {
            "a service has to stay in the foreground".to_owned()
        } else {
            format!(
                "it was started in `{}`, and told `PORT`, `ISSUER`, `JWKS_URL` and `AUDIENCE` in its environment",
                self.dir()
            )
        };
        (what, hint)
    }

    fn dir(&self) -> String {
        self.plan.command().map(|launch| launch.dir.display().to_string()).unwrap_or_default()
    }

    fn unreached(&self) -> (String, String) {
        let what = format!("{}: nothing answers on {}", self.not_ready(), self.place);
        let Some(process) = self.process else {
            return (what, "start it first, or give the target a `command`".to_owned());
        };
        match processes::ports(process.keeper).first() {
            Some(port) => (
                format!("{what}, but it listens on port {port}"),
                "it is told its port in `PORT` and `{port}`: hand one of them on".to_owned(),
            ),
            None => (
                what,
                "it has to listen on the port in `PORT` or `{port}`; `ready_within` gives it longer"
                    .to_owned(),
            ),
        }
    }
}
