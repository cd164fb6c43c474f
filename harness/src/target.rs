//! A service of the user's under test: started as so many processes and ended with all that they start, or running
//! already and only asked.

mod complaint;
mod keeper;
mod log;
mod process;
mod processes;
mod ready;
pub(crate) mod template;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use keyquake_core::Time;
use keyquake_idp::Clock;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::complaint::{Complaint, how_it_ended};
use self::log::Log;
use self::process::{Life, Process};
use self::processes::Mark;
use self::ready::{Unready, until_ready};
use self::template::{Facts, Start};
use crate::live::Door;
use crate::plan::{self, Launch, Service};
use crate::terminal::say;

pub(crate) use self::keeper::keep;

/// The folder of the logs, within that of the results.
pub(crate) const LOGS: &str = "logs";
/// What a target has to trust, for as long as it runs; in the same folder.
pub(crate) const CA: &str = "ca.pem";

/// How often a replica is started whose port somebody else has taken meanwhile.
const TRIES: usize = 3;
/// How long requests under way may keep a replica from being restarted.
const DRAIN: Duration = Duration::from_secs(5);

/// What every replica has to know.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// The certificate of the CA behind the issuer, if it serves HTTPS.
    pub(crate) ca: Option<String>,
}

/// Where a target stands.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) replicas: u32,
    pub(crate) families: Families,
    /// Where results go.
    pub(crate) folder: PathBuf,
}

/// How the processes of each replica are known, and so their connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Families(Arc<Mutex<Vec<Option<Mark>>>>);

/// All replicas of a service.
#[derive(Debug)]
pub(crate) struct Target {
    plan: plan::Target,
    site: Site,
    facts: Facts,
    doors: Vec<Arc<Door>>,
    logs: Vec<Arc<Mutex<Log>>>,
    /// The newest process of each replica.
    processes: Mutex<Vec<Option<Arc<Process>>>>,
    clock: OnceLock<Clock>,
    deaths: Mutex<Vec<Death>>,
    remarks: Mutex<Vec<String>>,
    /// How many replicas live, or are about to.
    living: watch::Sender<usize>,
    /// The ports that were given out.
    ports: Mutex<BTreeSet<u16>>,
}

/// A replica that ended by itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Death {
    pub(crate) at: Time,
    /// `replica 1 ended with status 3`
    pub(crate) what: String,
}

/// What happened to a target, beside its answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Aftermath {
    pub(crate) deaths: Vec<Death>,
    pub(crate) remarks: Vec<String>,
}

impl Families {
    /// The replica that has the first of these ends of a connection, as far as the system tells; the second is ours.
    pub(crate) fn owner(&self, ends: [SocketAddr; 2]) -> Option<u32> {
        let marks = locked(&self.0).clone();
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        u32::try_from(processes::owner(&marks, ends.map(plain))?).ok()
    }

    fn note(&self, replica: usize, mark: Mark) {
        let mut marks = locked(&self.0);
        if marks.len() <= replica {
            marks.resize(replica + 1, None);
        }
        marks[replica] = Some(mark);
    }
}

impl Target {
    /// Starts all replicas, or asks those that run, and waits until they are ready.
    ///
    /// # Errors
    ///
    /// Why one of them is not, as a finished text; none is left running then.
    pub(crate) async fn start(plan: plan::Target, known: Known, site: Site) -> Result<Arc<Self>, String> {
        let facts = facts(known, &site)?;
        let replicas = site.replicas as usize;
        let (doors, logs) = match &plan.service {
            Service::Command(_) => {
                let logs = (0..replicas).map(|replica| log_of(&site, replica)).collect();
                ((0..replicas).map(|_| Door::local()).collect(), logs)
            }
            Service::Urls(places) => {
                for (replica, place) in places.iter().enumerate() {
                    site.families.note(replica, Mark::Listening(place.port));
                }
                (places.iter().map(Door::to).collect(), Vec::new())
            }
        };
        let target = Arc::new(Self {
            plan,
            site,
            facts,
            doors,
            logs,
            processes: Mutex::new(vec![None; replicas]),
            clock: OnceLock::new(),
            deaths: Mutex::default(),
            remarks: Mutex::default(),
            living: watch::Sender::new(replicas),
            ports: Mutex::default(),
        });
        let mut starting = JoinSet::new();
        for replica in 0..replicas {
            let target = Arc::clone(&target);
            starting.spawn(async move { target.start_replica(replica).await });
        }
        while let Some(started) = starting.join_next().await {
            if let Err(why) = started.map_err(|error| error.to_string()).flatten() {
                starting.shutdown().await;
                target.end().await;
                return Err(why);
            }
        }
        Ok(target)
    }

    /// Notes from now on when replicas die.
    pub(crate) fn follow(self: Arc<Self>, clock: Clock) -> Arc<Self> {
        let _ = self.clock.set(clock);
        for (replica, process) in locked(&self.processes).iter().enumerate() {
            if let Some(process) = process {
                tokio::spawn(Arc::clone(&self).watch(replica, Arc::clone(process)));
            }
        }
        self
    }

    pub(crate) fn doors(&self) -> &[Arc<Door>] {
        &self.doors
    }

    /// Restarts a replica: its requests go elsewhere, those under way end, it ends and starts anew.
    pub(crate) async fn restart(self: &Arc<Self>, replica: u32) {
        let replica = replica as usize;
        self.doors[replica].drain(DRAIN).await;
        let old = locked(&self.processes)[replica].clone();
        if let Some(old) = old {
            let had_died = old.life().is_over();
            self.remark(replica, &old.stop().await);
            self.living.send_modify(|living| *living += usize::from(had_died));
        }
        match self.start_replica(replica).await {
            Ok(()) => {
                let process = locked(&self.processes)[replica].clone();
                if let Some(process) = process {
                    tokio::spawn(Arc::clone(self).watch(replica, process));
                }
            }
            Err(why) => {
                say(&why);
                self.note_death(format!("replica {replica} did not come back from its restart"));
            }
        }
        self.doors[replica].open();
    }

    /// Waits until no replica lives.
    pub(crate) async fn died(&self) {
        // Its sender is our own.
        let _ = self.living.subscribe().wait_for(|living| *living == 0).await;
    }

    /// Ends all processes and whatever they have started, and says what happened to them.
    pub(crate) async fn end(&self) -> Aftermath {
        let processes: Vec<_> = locked(&self.processes).iter().cloned().collect();
        let mut ending = JoinSet::new();
        for (replica, process) in processes.into_iter().enumerate() {
            if let Some(process) = process {
                ending.spawn(async move { (replica, process.stop().await) });
            }
        }
        let mut lives = ending.join_all().await;
        lives.sort_by_key(|(replica, _)| *replica);
        for (replica, life) in lives {
            self.remark(replica, &life);
        }
        for (replica, log) in self.logs.iter().enumerate() {
            let left_out = locked(log).left_out();
            if left_out > 0 {
                let kilobytes = left_out.div_ceil(1_000);
                let message =
                    format!("{kilobytes} kB that replica {replica} printed did not fit into its log");
                locked(&self.remarks).push(message);
            }
        }
        let _ = fs::remove_file(self.site.folder.join(CA));
        Aftermath { deaths: locked(&self.deaths).clone(), remarks: locked(&self.remarks).clone() }
    }

    /// Starts a replica and waits until it is ready.
    async fn start_replica(&self, replica: usize) -> Result<(), String> {
        let Some(launch) = self.plan.command() else {
            let asked = self.until_ready(replica).await;
            return asked.map_err(|unready| self.complaint(replica, None).about(&unready));
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let process = self.launch(launch, replica)?;
            let Err(unready) = self.first_sign(replica, &process).await else { return Ok(()) };
            process.has_its_say().await;
            let why = self.complaint(replica, Some(&process)).about(&unready);
            let life = process.stop().await;
            if tries == TRIES || life.ended.is_none() || !process.tail.has_missed_port() {
                return Err(why);
            }
        }
    }

    fn complaint<'c>(&'c self, replica: usize, process: Option<&'c Process>) -> Complaint<'c> {
        Complaint { plan: &self.plan, replica, place: self.doors[replica].place(), process }
    }

    fn launch(&self, launch: &Launch, replica: usize) -> Result<Arc<Process>, String> {
        let port = self.free_port().map_err(|error| format!("error: there is no free port: {error}"))?;
        self.doors[replica].move_to(port);
        let start = Start { facts: &self.facts, replica: replica as u32, port };
        let log = Arc::clone(&self.logs[replica]);
        let process = Process::start(&start.argv(launch), &start.env(launch), &launch.dir, log)
            .map_err(|error| format!("error: cannot start replica {replica} of the target: {error}"))?;
        self.site.families.note(replica, Mark::Below(process.keeper));
        locked(&self.processes)[replica] = Some(Arc::clone(&process));
        Ok(process)
    }

    /// A port that nobody has, and none of the replicas is about to take. Somebody else may, before it is used.
    fn free_port(&self) -> io::Result<u16> {
        loop {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            if locked(&self.ports).insert(port) {
                return Ok(port);
            }
        }
    }

    /// Waits until it is ready, or is not going to be.
    async fn first_sign(&self, replica: usize, process: &Process) -> Result<(), Unready> {
        let ended = || {
            let life = process.life();
            Err(life.not_started.map_or(Unready::Ended(life.ended), Unready::NotStarted))
        };
        tokio::select! {
            biased;
            _ = process.died() => ended(),
            ready = self.until_ready(replica) => ready,
        }
    }

    async fn until_ready(&self, replica: usize) -> Result<(), Unready> {
        until_ready(&self.doors[replica], &self.plan.ready, self.plan.ready_within.into()).await
    }

    /// Notes when a process ends that nobody has asked to.
    async fn watch(self: Arc<Self>, replica: usize, process: Arc<Process>) {
        if process.died().await {
            return;
        }
        self.note_death(format!("replica {replica} {}", how_it_ended(process.life().ended)));
    }

    fn note_death(&self, what: String) {
        let at = self.clock.get().map_or(Time::ZERO, Clock::now);
        say(&format!("{:>6.1} s  {what}", at.as_secs_f64()));
        locked(&self.deaths).push(Death { at, what });
        self.living.send_modify(|living| *living = living.saturating_sub(1));
    }

    /// What was odd about the end of a process.
    fn remark(&self, replica: usize, life: &Life) {
        let mut remarks = locked(&self.remarks);
        let mut remark = |what: String| {
            if !remarks.contains(&what) {
                remarks.push(what);
            }
        };
        if life.stubborn {
            remark(format!("replica {replica} was still there 5 s after SIGTERM, and was killed"));
        }
        if life.left_behind > 0 {
            let count = life.left_behind;
            let processes = if count == 1 { "a process" } else { "processes" };
            remark(format!("replica {replica} left {processes} behind: {count} had to be killed"));
        }
    }
}

/// What placeholders stand for. The certificate goes into a file, which services take.
fn facts(known: Known, site: &Site) -> Result<Facts, String> {
    let Known { issuer, audience, ca } = known;
    let ca = match ca {
        None => String::new(),
        Some(pem) => {
            let path = site.folder.join(CA);
            let written = fs::write(&path, pem).and_then(|()| path.canonicalize());
            let path =
                written.map_err(|error| format!("error: cannot write `{}`: {error}", path.display()))?;
            path.display().to_string()
        }
    };
    Ok(Facts { issuer, audience, ca })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log_of(site: &Site, replica: usize) -> Arc<Mutex<Log>> {
    let folder = site.folder.join(LOGS);
    let path = folder.join(format!("{replica}.log"));
    let file =
        fs::create_dir_all(&folder).and_then(|()| OpenOptions::new().create(true).append(true).open(path));
    Arc::new(Mutex::new(Log::new(file.ok())))
}
