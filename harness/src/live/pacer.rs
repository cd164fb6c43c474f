//! The pace: a thread of its own that hands out each request at its planned moment, whatever became of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use keyquake_idp::Clock;
use tokio::sync::mpsc;

use super::minter::Prepared;

/// Requests that are due and not yet taken. When they do not fit, the pacer waits and lateness shows it.
const BACKLOG: usize = 4_096;
/// How long a stop can go unnoticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// Starts handing out requests; the receiver ends after the last, or soon after `stop` is set.
///
/// A thread, because the timers of an async runtime tick once a millisecond: their median error would be longer than
/// most answers take.
pub(crate) fn start(
    prepared: Receiver<Prepared>,
    clock: Clock,
    stop: Arc<AtomicBool>,
) -> std::io::Result<(mpsc::Receiver<Prepared>, JoinHandle<()>)> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let thread = thread::Builder::new().name("pacer".to_owned()).spawn(move || {
        for request in prepared {
            while clock.now() < request.arrival.at {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                sleep(clock.wall(request.arrival.at.since(clock.now())).min(LONGEST_SLEEP));
            }
            if stop.load(Ordering::Relaxed) || sender.blocking_send(request).is_err() {
                return;
            }
        }
    })?;
    Ok((receiver, thread))
}

#[expect(clippy::disallowed_methods, reason = "the one sleep: what it waits for is the plan itself")]
fn sleep(duration: Duration) {
    thread::sleep(duration);
}
