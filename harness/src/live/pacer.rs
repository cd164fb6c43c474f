//! The pace: a thread of its own that hands out each request at its planned moment, whatever became of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use keyquake_core::Time;
use keyquake_idp::Clock;
use tokio::sync::mpsc;

use super::minter::{BATCH, Batch};

/// Batches of due requests that are not yet taken. When they do not fit, the pacer waits and lateness shows it.
const BACKLOG: usize = 64;
/// How long a stop can go unnoticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);
/// Between two wake-ups, by wall time. At high rates waking up costs more than sending; what falls due meanwhile goes out
/// together, late by less than this, and the record says how late.
const REST: Duration = Duration::from_micros(180);

/// Starts handing out requests; the receiver ends after the last, or soon after `stop` is set.
///
/// A thread, because the timers of an async runtime tick once a millisecond: their median error would be longer than
/// most answers take.
pub(crate) fn start(
    prepared: Receiver<Batch>,
    clock: Clock,
    stop: Arc<AtomicBool>,
) -> std::io::Result<(mpsc::Receiver<Batch>, JoinHandle<()>)> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let thread = thread::Builder::new().name("pacer".to_owned()).spawn(move || {
        let mut planned = prepared.into_iter().flatten().peekable();
        while let Some(next) = planned.peek() {
            let Some(now) = wait(clock, next.arrival.at, &stop) else { return };
            let due = std::iter::from_fn(|| planned.next_if(|request| request.arrival.at <= now));
            if sender.blocking_send(due.take(BATCH).collect()).is_err() {
                return;
            }
        }
    })?;
    Ok((receiver, thread))
}

/// Waits for a moment and returns the one that it has become by then; `None` when it is told to stop.
fn wait(clock: Clock, until: Time, stop: &AtomicBool) -> Option<Time> {
    loop {
        let now = clock.now();
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        if until <= now {
            return Some(now);
        }
        sleep(clock.wall(until.since(now)).clamp(REST, LONGEST_SLEEP));
    }
}

#[expect(clippy::disallowed_methods, reason = "the one sleep: what it waits for is the plan itself")]
fn sleep(duration: Duration) {
    thread::sleep(duration);
}
