//! One process of a target, behind its keeper.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::keeper::{Ending, Report, kill};
use super::log::{Log, Tail};

/// How long a keeper may take to end what it keeps: longer than any does.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long is waited for the last words of one that has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What has become of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    pub(super) not_started: Option<String>,
    started: Option<i32>,
    pub(super) ended: Option<Ending>,
    pub(super) stubborn: bool,
    pub(super) left_behind: usize,
    /// Nothing is left of it, and all that it printed is known.
    over: bool,
}

impl Life {
    /// Whether it does not live any more.
    pub(super) fn is_over(&self) -> bool {
        self.over || self.ended.is_some() || self.not_started.is_some()
    }

    fn learn(&mut self, report: Report) {
        match report {
            Report::NotStarted(why) => self.not_started = Some(why),
            Report::Started(service) => self.started = Some(service),
            Report::Ended(ending) => self.ended = Some(ending),
            Report::Stubborn => self.stubborn = true,
            Report::LeftBehind(count) => self.left_behind = count,
        }
    }
}

/// A process that was started. When this is dropped its keeper ends it.
#[derive(Debug)]
pub(super) struct Process {
    /// The process id of its keeper.
    pub(super) keeper: i32,
    pub(super) tail: Tail,
    life: watch::Receiver<Life>,
    /// What keeps it alive.
    hold: Mutex<Option<ChildStdin>>,
    asked: AtomicBool,
}

impl Process {
    /// Starts a command in a folder, with these variables beside our own.
    pub(super) fn start(
        argv: &[String],
        env: &BTreeMap<String, String>,
        dir: &Path,
        log: Arc<Mutex<Log>>,
    ) -> io::Result<Arc<Self>> {
        let mut keeper = keeper(argv, env, dir).spawn()?;
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let hold = keeper.stdin.take().ok_or_else(missing)?;
        let printed = keeper.stderr.take().ok_or_else(missing)?;
        let (learned, life) = watch::channel(Life::default());
        let (tail, id) = (Tail::default(), keeper.id().cast_signed());
        let its_tail = tail.clone();
        let log = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || Log::follow(&log, printed, &its_tail))?;
        thread::Builder::new().name("keeper".to_owned()).spawn(move || follow(keeper, &learned, log))?;
        Ok(Arc::new(Self {
            keeper: id,
            tail,
            life,
            hold: Mutex::new(Some(hold)),
            asked: AtomicBool::new(false),
        }))
    }

    pub(super) fn life(&self) -> Life {
        self.life.borrow().clone()
    }

    /// Waits until it does not live any more, and says whether it was asked to end.
    pub(super) async fn died(&self) -> bool {
        // Whoever learns of it outlives it.
        let _ = self.life.clone().wait_for(Life::is_over).await;
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits for what it has printed, if it has ended: its last words may still be under way. Whoever it has left behind may
    /// hold them up.
    pub(super) async fn has_its_say(&self) {
        if self.life().is_over() {
            let _ = tokio::time::timeout(LAST_WORDS, self.life.clone().wait_for(|life| life.over)).await;
        }
    }

    /// Ends it, and says what became of it.
    pub(super) async fn stop(&self) -> Life {
        self.asked.store(true, Ordering::Relaxed);
        drop(self.hold.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = tokio::time::timeout(PATIENCE, self.life.clone().wait_for(|life| life.over)).await;
        self.life()
    }
}

/// This program as a keeper.
fn keeper(argv: &[String], env: &BTreeMap<String, String>, dir: &Path) -> Command {
    let mut command = Command::new(own_program());
    command.args(["keep", "--"]).args(argv).envs(env).current_dir(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // Ctrl-C is for keyquake alone, and whoever kills that by its name leaves the keepers to their work.
        command.arg0("target-keeper").process_group(0);
    }
    command
}

/// The file of this program, which may have been replaced since it was started.
fn own_program() -> std::path::PathBuf {
    if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe().unwrap_or_else(|_| "keyquake".into())
    }
}

/// Listens to a keeper until it has ended, and nothing is left of what it kept.
fn follow(mut keeper: Child, learned: &watch::Sender<Life>, log: thread::JoinHandle<()>) {
    let told =
        keeper.stdout.take().into_iter().flat_map(|told| BufReader::new(told).lines()).map_while(Result::ok);
    for report in told.filter_map(|line| serde_json::from_str(&line).ok()) {
        learned.send_modify(|life| life.learn(report));
    }
    let _ = keeper.wait();
    let Life { started, ended, .. } = *learned.borrow();
    if let (Some(service), None) = (started, ended) {
        // Whoever has killed the keeper has left us its work.
        kill(service);
    }
    let _ = log.join();
    learned.send_modify(|life| life.over = true);
}
