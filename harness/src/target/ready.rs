//! Whether a replica is ready, and why it is not.

use std::io::ErrorKind;
use std::time::Duration;

use super::keeper::Ending;
use crate::live::Door;
use crate::plan::Ready;

/// How often a replica is asked, and how long an answer may take.
const AGAIN: Duration = Duration::from_millis(15);
const ANSWER: Duration = Duration::from_secs(5);
/// Answers from here on mean that it is not ready.
const FAILURE: u16 = 500;

/// Why a replica is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unready {
    NotStarted(String),
    /// It ended before.
    Ended(Option<Ending>),
    /// Nobody listens there.
    Unreached,
    /// There is no way there.
    Lost(String),
    /// Somebody listens, but this is no answer.
    Mute(String),
    /// Its last answer.
    Answers(u16),
    /// It may not be asked at all.
    Elsewhere(String),
}

/// Asks until it is ready, for so long at the most.
pub(super) async fn until_ready(door: &Door, ready: &Ready, within: Duration) -> Result<(), Unready> {
    let mut last = Unready::Unreached;
    // Whoever is still being asked when all is over has given no reason.
    let patience = ANSWER.min(within / 2);
    let asking = async {
        loop {
            match ask(door, ready, patience).await {
                Ok(()) => return Ok(()),
                Err(elsewhere @ Unready::Elsewhere(_)) => return Err(elsewhere),
                Err(unready) => last = unready,
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    let asked = tokio::time::timeout(within, asking).await;
    asked.unwrap_or(Err(last))
}

async fn ask(door: &Door, ready: &Ready, patience: Duration) -> Result<(), Unready> {
    let answer = async {
        match ready {
            Ready::Path(path) => door.get(path).await,
            Ready::Tcp => door.connect().await.map(|_| 200),
        }
    };
    let place = door.place();
    let answer = tokio::time::timeout(patience, answer).await;
    let error = match answer {
        Ok(Ok(status)) if status < FAILURE => return Ok(()),
        Ok(Ok(status)) => return Err(Unready::Answers(status)),
        Ok(Err(error)) => error,
        Err(_) => return Err(Unready::Mute(format!("no answer from {place} within {patience:?}"))),
    };
    Err(match error.kind() {
        ErrorKind::PermissionDenied => Unready::Elsewhere(error.to_string()),
        ErrorKind::ConnectionRefused => Unready::Unreached,
        ErrorKind::InvalidData => Unready::Mute(format!("what {place} answers is no HTTP")),
        _ => Unready::Lost(format!("cannot reach {place}: {error}")),
    })
}
