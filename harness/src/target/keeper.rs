//! The keeper of one replica: a small process of its own that starts a service and outlives keyquake for as long as it
//! takes to end it, with all that it has started.
//!
//! keyquake holds the other end of the keeper's standard input. When that closes, whether keyquake asks so or has been
//! killed, the keeper ends its service: SIGTERM, five seconds, SIGKILL. What the service starts stays the keeper's
//! offspring even when the service is gone (on Linux, as its subreaper), so nothing gets lost.

use std::io::{self, Write, stdout};

use serde::{Deserialize, Serialize};

/// What a keeper tells, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// There is no such program, or it cannot be started.
    NotStarted(String),
    /// The service runs as this process, which leads a group of its own.
    Started(i32),
    /// The service has ended.
    Ended(Ending),
    /// The service was still there five seconds after SIGTERM, and was killed.
    Stubborn,
    /// So many processes that it had started were still there after it, and were killed.
    LeftBehind(usize),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    Status(i32),
    Signal(i32),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal(signal) => match signal {
                6 => f.write_str("was ended by signal 6 (SIGABRT)"),
                9 => f.write_str("was ended by signal 9 (SIGKILL)"),
                11 => f.write_str("was ended by signal 11 (SIGSEGV)"),
                15 => f.write_str("was ended by signal 15 (SIGTERM)"),
                signal => write!(f, "was ended by signal {signal}"),
            },
        }
    }
}

/// Starts this command as a service and keeps it until standard input ends.
///
/// # Errors
///
/// The system gives no thread.
pub(crate) fn keep(argv: &[String]) -> io::Result<()> {
    let mut tell = |report: &Report| {
        // That nobody may be listening any more is no error.
        let line = serde_json::to_string(report).unwrap_or_default();
        let _ = writeln!(stdout(), "{line}").and_then(|()| stdout().flush());
    };
    family::keep(argv, &mut tell)
}

/// Kills a service whose keeper is gone, and what it has started.
pub(super) fn kill(service: i32) {
    family::kill(service);
}

#[cfg(unix)]
mod family {
    use std::collections::BTreeSet;
    use std::io::{self, stderr, stdin};
    use std::os::fd::AsFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::thread;
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, wait};

    use super::{Ending, Report};
    use crate::interrupt;
    use crate::target::processes;

    /// How long a service may take to end.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// How soon it is looked again whether what was killed has left anything behind, and how often.
    const AGAIN: Duration = Duration::from_millis(50);
    const ROUNDS: usize = 100;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Event {
        /// The service is to end.
        Asked,
        /// It has ended.
        Ended(Ending),
        /// It has been asked for long enough.
        Late,
        /// Nothing is left of it.
        Alone,
    }

    pub(super) fn keep(argv: &[String], tell: &mut impl FnMut(&Report)) -> io::Result<()> {
        adopt_orphans();
        let (events, happened) = channel();
        // A person may end it too, and then in order.
        let asked = events.clone();
        spawn(move || {
            if interrupt::wait().is_ok() {
                let _ = asked.send(Event::Asked);
            }
        })?;
        let asked = events.clone();
        spawn(move || {
            let _ = io::copy(&mut stdin(), &mut io::sink());
            let _ = asked.send(Event::Asked);
        })?;
        match start(argv) {
            Err(error) => tell(&Report::NotStarted(error.to_string())),
            Ok(service) => {
                tell(&Report::Started(service.as_raw_nonzero().get()));
                let its_end = events.clone();
                spawn(move || reap(service, &its_end))?;
                Family { service, events, happened, ended: false, left_behind: BTreeSet::new() }
                    .keep(tell)?;
            }
        }
        Ok(())
    }

    pub(super) fn kill(service: i32) {
        let offspring = processes::below(service);
        if let Some(leader) = Pid::from_raw(service) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
        for id in offspring.iter().filter_map(|process| Pid::from_raw(process.id)) {
            let _ = kill_process(id, Signal::KILL);
        }
    }

    fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        thread::Builder::new().spawn(work).map(drop)
    }

    /// Makes this process the parent of whatever its offspring leaves behind.
    fn adopt_orphans() {
        // Elsewhere they are the system's; those that stay in their process group are found all the same.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::set_child_subreaper(Some(getpid()));
    }

    /// Starts the service in a process group of its own; what it prints goes where the keeper's own errors go.
    fn start(argv: &[String]) -> io::Result<Pid> {
        let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let log = || Ok::<_, io::Error>(Stdio::from(stderr().as_fd().try_clone_to_owned()?));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log()?).stderr(log()?).process_group(0);
        Pid::from_raw(command.spawn()?.id().cast_signed()).ok_or(io::ErrorKind::NotFound.into())
    }

    /// Collects what ends, until nothing is left.
    fn reap(service: Pid, events: &Sender<Event>) {
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((ended, status))) if ended == service => {
                    let signal = || Ending::Signal(status.terminating_signal().unwrap_or_default());
                    let ending = status.exit_status().map_or_else(signal, Ending::Status);
                    let _ = events.send(Event::Ended(ending));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let _ = events.send(Event::Alone);
    }

    /// The service and what it has started.
    struct Family {
        service: Pid,
        events: Sender<Event>,
        happened: Receiver<Event>,
        ended: bool,
        left_behind: BTreeSet<i32>,
    }

    impl Family {
        fn keep(mut self, tell: &mut impl FnMut(&Report)) -> io::Result<()> {
            if let Ok(Event::Ended(ending)) = self.happened.recv() {
                self.has_ended(ending, tell);
            }
            if !self.ends_in_order(tell)? {
                self.kill(tell);
            }
            if !self.left_behind.is_empty() {
                tell(&Report::LeftBehind(self.left_behind.len()));
            }
            Ok(())
        }

        fn has_ended(&mut self, ending: Ending, tell: &mut impl FnMut(&Report)) {
            self.ended = true;
            tell(&Report::Ended(ending));
            // What left its group does not hear of its end.
            let group = self.service.as_raw_nonzero().get();
            self.kill_those(|process| process.group != group);
        }

        /// Asks all to end; `false` if they do not.
        fn ends_in_order(&mut self, tell: &mut impl FnMut(&Report)) -> io::Result<bool> {
            let _ = kill_process_group(self.service, Signal::TERM);
            let (_hold, held) = channel::<()>();
            let late = self.events.clone();
            spawn(move || {
                let _ = held.recv_timeout(PATIENCE);
                let _ = late.send(Event::Late);
            })?;
            loop {
                match self.happened.recv() {
                    Ok(Event::Asked) => {}
                    Ok(Event::Ended(ending)) => self.has_ended(ending, tell),
                    Ok(Event::Alone) | Err(_) => return Ok(true),
                    Ok(Event::Late) => return Ok(false),
                }
            }
        }

        /// Kills all that is there, and what that may start meanwhile.
        fn kill(&mut self, tell: &mut impl FnMut(&Report)) {
            if !self.ended {
                tell(&Report::Stubborn);
            }
            for _ in 0..ROUNDS {
                self.kill_those(|_| true);
                let _ = kill_process_group(self.service, Signal::KILL);
                match self.happened.recv_timeout(AGAIN) {
                    Ok(Event::Alone) | Err(RecvTimeoutError::Disconnected) => return,
                    Ok(Event::Ended(ending)) => tell(&Report::Ended(ending)),
                    Ok(Event::Asked | Event::Late) | Err(RecvTimeoutError::Timeout) => {}
                }
            }
        }

        fn kill_those(&mut self, of: impl Fn(&processes::Process) -> bool) {
            let here = getpid().as_raw_nonzero().get();
            for process in processes::below(here).iter().filter(|process| of(process)) {
                if self.ended {
                    self.left_behind.insert(process.id);
                }
                if let Some(id) = Pid::from_raw(process.id) {
                    let _ = kill_process(id, Signal::KILL);
                }
            }
        }
    }
}

#[cfg(not(unix))]
mod family {
    use std::io;

    use super::Report;

    pub(super) fn keep(_argv: &[String], tell: &mut impl FnMut(&Report)) -> io::Result<()> {
        tell(&Report::NotStarted("keyquake starts services on Unix systems only".to_owned()));
        Ok(())
    }

    pub(super) fn kill(_service: i32) {}
}
