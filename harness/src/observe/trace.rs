//! The requests of a run one by one, as a table that a person can read and a simulation can replay.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use keyquake_core::{Time, UnixTime};
use keyquake_idp::{KeyId, Pace};
use serde::{Deserialize, Serialize};

use super::{Observation, Outcome};
use crate::plan::Plan;

/// Requests that are handed over together, and how many such batches wait for the disk at the most.
const BATCH: usize = 256;
const BACKLOG: usize = 64;

/// Lists the requests of a run in the order of their ends, as they end.
///
/// A thread of its own writes, so that memory stays flat and nobody waits for the disk: what it cannot keep up with is
/// dropped, and counted.
#[derive(Debug)]
pub(crate) struct Trace {
    path: PathBuf,
    zero: UnixTime,
    batch: Vec<TracedRequest>,
    batches: SyncSender<Vec<TracedRequest>>,
    writer: JoinHandle<io::Result<()>>,
    listed: usize,
    dropped: u64,
}

/// One request that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TracedRequest {
    pub(crate) planned: Time,
    /// `None` if it never left.
    pub(crate) sent: Option<Time>,
    pub(crate) ended: Time,
    /// The number of its stream in the plan.
    pub(crate) stream: usize,
    pub(crate) session: Option<u32>,
    pub(crate) instance: u32,
    pub(crate) key: KeyId,
    /// When its token expires, in seconds of event time.
    pub(crate) expires_s: i64,
    pub(crate) outcome: Outcome,
}

/// A row of the file. Moments are nanoseconds of event time.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    planned_ns: i64,
    sent_ns: Option<i64>,
    ended_ns: i64,
    stream: String,
    session: Option<u32>,
    instance: u32,
    key: String,
    expires_s: i64,
    outcome: String,
    status: Option<u16>,
}

/// Why a file is not the trace of a run of this plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// It cannot be read, or is no such table.
    #[error(transparent)]
    Csv(#[from] csv::Error),
    /// A row contradicts the plan.
    #[error("line {line}: {what}")]
    Row { line: usize, what: &'static str },
    #[error("more than {} requests", Trace::MAX_REQUESTS)]
    TooMany,
}

impl Trace {
    /// The most requests that are listed: some 350 MB.
    pub(crate) const MAX_REQUESTS: usize = 5_000_000;
    /// Its file, beside the record.
    pub(crate) const FILE: &str = "requests.csv";

    /// Begins the list of a plan's requests in this folder.
    ///
    /// # Errors
    ///
    /// There can be no such file, or no thread.
    pub(crate) fn start(plan: &Plan, pace: Pace, folder: &Path) -> io::Result<Self> {
        let path = folder.join(Self::FILE);
        let mut table = csv::Writer::from_path(&path)?;
        let streams: Vec<String> = plan.streams.iter().map(|stream| stream.name.clone()).collect();
        let (batches, received) = sync_channel::<Vec<TracedRequest>>(BACKLOG);
        let writer = thread::Builder::new().name("trace".to_owned()).spawn(move || {
            for request in received.into_iter().flatten() {
                table.serialize(request.row(&streams))?;
            }
            table.flush()
        })?;
        let zero = pace.unix(Time::ZERO);
        Ok(Self { path, zero, batch: Vec::new(), batches, writer, listed: 0, dropped: 0 })
    }

    pub(super) fn add(&mut self, seen: &Observation) {
        if self.listed >= Self::MAX_REQUESTS {
            self.dropped += 1;
            return;
        }
        self.listed += 1;
        self.batch.push(TracedRequest {
            planned: seen.arrival.at,
            sent: seen.sent,
            ended: seen.ended,
            stream: seen.arrival.stream,
            session: seen.arrival.session,
            instance: seen.instance,
            key: seen.token.key,
            expires_s: seen.token.expires.0.saturating_sub(self.zero.0),
            outcome: seen.outcome,
        });
        if self.batch.len() >= BATCH {
            let batch = std::mem::take(&mut self.batch);
            if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
                self.batches.try_send(batch)
            {
                self.dropped += batch.len() as u64;
            }
        }
    }

    /// Ends the list.
    ///
    /// # Errors
    ///
    /// What is missing in it, in words. A file that the disk had no room for is taken away, so that there is some for
    /// the record.
    pub(crate) fn finish(self) -> Result<(), String> {
        // If the writer has ended before, its reason comes now.
        let _ = self.batches.send(self.batch);
        drop(self.batches);
        match self.writer.join() {
            Ok(Ok(())) if self.dropped == 0 => Ok(()),
            Ok(Ok(())) => {
                Err(format!("{} requests are counted and not listed in {}", self.dropped, Self::FILE))
            }
            Ok(Err(error)) => {
                let _ = std::fs::remove_file(&self.path);
                Err(format!("the requests could not be listed in {}: {error}", Self::FILE))
            }
            Err(_) => Err(format!("the list of requests in {} is not complete", Self::FILE)),
        }
    }

    /// Reads the requests of a run of this plan.
    ///
    /// # Errors
    ///
    /// [`TraceError`] says what is wrong, and in which line.
    pub(crate) fn load(plan: &Plan, path: &Path) -> Result<Vec<TracedRequest>, TraceError> {
        let mut requests = Vec::new();
        for (row, line) in csv::Reader::from_path(path)?.into_deserialize::<Row>().zip(2..) {
            if requests.len() >= Self::MAX_REQUESTS {
                return Err(TraceError::TooMany);
            }
            requests.push(row?.read(plan).map_err(|what| TraceError::Row { line, what })?);
        }
        Ok(requests)
    }
}

impl TracedRequest {
    fn row(&self, streams: &[String]) -> Row {
        Row {
            planned_ns: self.planned.as_nanos(),
            sent_ns: self.sent.map(Time::as_nanos),
            ended_ns: self.ended.as_nanos(),
            stream: streams[self.stream].clone(),
            session: self.session,
            instance: self.instance,
            key: self.key.to_string(),
            expires_s: self.expires_s,
            outcome: self.outcome.name().to_owned(),
            status: self.outcome.status(),
        }
    }
}

impl Row {
    fn read(self, plan: &Plan) -> Result<TracedRequest, &'static str> {
        let stream = plan.streams.iter().position(|stream| stream.name == self.stream);
        let key: KeyId = self.key.parse().map_err(|_| "keys are called `key-1`, `key-2` and so on")?;
        if plan.timeline.life(key).is_none() {
            return Err("the plan has no such key");
        }
        if self.instance >= plan.instances() {
            return Err("the plan has no such instance");
        }
        Ok(TracedRequest {
            planned: Time::from_nanos(self.planned_ns),
            sent: self.sent_ns.map(Time::from_nanos),
            ended: Time::from_nanos(self.ended_ns),
            stream: stream.ok_or("the plan has no such stream")?,
            session: self.session,
            instance: self.instance,
            key,
            expires_s: self.expires_s,
            outcome: Outcome::read(&self.outcome, self.status).ok_or("there is no such outcome")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::Arrival;
    use crate::oracle::TokenFacts;
    use crate::plan::testing::plan;

    fn seen(outcome: Outcome) -> Observation {
        let arrival =
            Arrival { at: Time::from_nanos(-5), stream: 1, session: None, replica: 0, connection: 0 };
        let token = TokenFacts { key: KeyId::FIRST, expires: UnixTime(1_060), forged: None };
        let sent = (outcome != Outcome::Shed).then_some(Time::from_nanos(7));
        Observation { arrival, instance: 0, token, sent, ended: Time::from_nanos(9_000), outcome }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let plan = plan("");
        let folder = tempfile::tempdir().unwrap();
        let pace = Pace::new(1.0, UnixTime(1_000)).unwrap();
        let mut trace = Trace::start(&plan, pace, folder.path()).unwrap();
        let outcomes = [
            Outcome::Accepted(200),
            Outcome::Rejected(401),
            Outcome::Failed(Some(503)),
            Outcome::Failed(None),
            Outcome::TimedOut,
            Outcome::Shed,
            Outcome::Unfinished,
        ];
        outcomes.into_iter().for_each(|outcome| trace.add(&seen(outcome)));
        let listed = trace.batch.clone();
        assert_eq!((listed.len(), listed[0].expires_s), (7, 60));
        assert_eq!(trace.finish(), Ok(()));
        assert_eq!(Trace::load(&plan, &folder.path().join(Trace::FILE)).unwrap(), listed);
    }

    #[test]
    fn what_is_missing_is_said() {
        let plan = plan("");
        let folder = tempfile::tempdir().unwrap();
        let pace = Pace::new(1.0, UnixTime(1_000)).unwrap();
        let mut trace = Trace::start(&plan, pace, folder.path()).unwrap();
        trace.listed = Trace::MAX_REQUESTS;
        trace.add(&seen(Outcome::TimedOut));
        let missing = trace.finish().unwrap_err();
        assert_eq!(missing, "1 requests are counted and not listed in requests.csv");
        assert!(Trace::start(&plan, pace, &folder.path().join("nowhere")).is_err());
    }

    #[test]
    fn what_contradicts_the_plan_is_refused_with_its_line() {
        let plan = plan("");
        let head = "planned_ns,sent_ns,ended_ns,stream,session,instance,key,expires_s,outcome,status\n1,2,3,sessions,4,0,key-1,5,accepted,200\n";
        for (row, complaint) in [
            ("1,2,3,nobody,4,0,key-1,5,accepted,200", "line 3: the plan has no such stream"),
            ("1,2,3,sessions,4,9,key-1,5,accepted,200", "line 3: the plan has no such instance"),
            ("1,2,3,sessions,4,0,key-2,5,accepted,200", "line 3: the plan has no such key"),
            ("1,2,3,sessions,4,0,key-0,5,accepted,200", "line 3: keys are called `key-1`, `key-2` and so on"),
            ("1,2,3,sessions,4,0,key-1,5,accepted,401", "line 3: there is no such outcome"),
            ("1,2,3,sessions,4,0,key-1,5,maybe,", "line 3: there is no such outcome"),
            ("1,2,3,sessions", "CSV error: record 2 (line: 3"),
            ("1,2,soon,sessions,4,0,key-1,5,accepted,200", "CSV deserialize error: record 2 (line: 3"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(Trace::FILE);
            std::fs::write(&path, format!("{head}{row}\n")).unwrap();
            let error = Trace::load(&plan, &path).unwrap_err().to_string();
            assert!(error.starts_with(complaint), "{row}: {error}");
        }
    }
}
