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
    /// Nobody answers there.
    Silent,
    /// Its last answer.
    Answers(u16),
    /// It may not be asked at all.
    Elsewhere(String),
}

/// Asks until it is ready, for so long at the most.
pub(super) async fn until_ready(door: &Door, ready: &Ready, within: Duration) -> Result<(), Unready> {
    let mut last = Unready::Silent;
    let asking = async {
        loop {
            match ask(door, ready).await {
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

async fn ask(door: &Door, ready: &Ready) -> Result<(), Unready> {
    let answer = async {
        match ready {
            Ready::Path(path) => door.get(path).await,
            Ready::Tcp => door.connect().await.map(|_| 200),
        }
    };
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(status)) if status < FAILURE => Ok(()),
        Ok(Ok(status)) => Err(Unready::Answers(status)),
        Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Unready::Elsewhere(error.to_string()))
        }
        Ok(Err(_)) | Err(_) => Err(Unready::Silent),
    }
}
