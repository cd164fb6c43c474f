//! Many pieces of work on a few threads.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Does so many pieces of work on so many threads, and gives what came of them in their order.
///
/// # Errors
///
/// That of the first piece that failed, in their order and not in that of the clock.
pub(crate) fn all<T: Send, E: Send>(
    threads: usize,
    pieces: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    // Whatever comes after a failure need not be begun. What comes before it has been.
    let end = AtomicUsize::new(pieces);
    let member = || {
        let mut done = Vec::new();
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= end.load(Ordering::Relaxed) {
                return done;
            }
            let outcome = work(piece);
            if outcome.is_err() {
                end.fetch_min(piece, Ordering::Relaxed);
            }
            done.push((piece, outcome));
        }
    };
    let mut done: Vec<(usize, Result<T, E>)> = thread::scope(|scope| {
        let members: Vec<_> = (0..threads.clamp(1, pieces.max(1))).map(|_| scope.spawn(member)).collect();
        let joined = members.into_iter().map(|it| it.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.flatten().collect()
    });
    done.sort_by_key(|(piece, _)| *piece);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_and_in_order() {
        for threads in [1, 2, 7, 5_000] {
            let squares = all(threads, 1_000, |piece| Ok::<_, ()>(piece * piece)).unwrap();
            assert!(squares.into_iter().eq((0..1_000).map(|piece| piece * piece)), "{threads}");
        }
        assert_eq!(all(3, 0, |_| Ok::<usize, ()>(1)), Ok(vec![]));
    }

    #[test]
    fn the_first_failure_is_told_whoever_fails_first() {
        for threads in [1, 4] {
            let failed = all(threads, 1_000, |piece| if piece % 7 == 3 { Err(piece) } else { Ok(()) });
            assert_eq!(failed, Err(3));
        }
    }
}
