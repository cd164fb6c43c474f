//! Ctrl-C, and SIGTERM in the same way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::sync::watch;

use crate::cli::leave;

/// The exit code of what was interrupted: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// Listens for interruptions: they end the process at once, but the first after [`Interrupt::defer`] only asks.
#[derive(Debug)]
pub(crate) struct Interrupt {
    deferred: Arc<AtomicBool>,
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Listens from now on, on a thread of its own: set-up computes for seconds without a pause. `clean_up` is the last
    /// thing that an interrupted process does.
    ///
    /// # Errors
    ///
    /// The system gives no thread, or does not let signals be handled.
    pub(crate) fn listen(clean_up: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let mut signals = {
            let _within = runtime.enter();
            Signals::listen()?
        };
        let (ask, asked) = watch::channel(false);
        let deferred = Arc::new(AtomicBool::new(false));
        let is_deferred = Arc::clone(&deferred);
        let wait = async move {
            signals.next().await;
            if is_deferred.load(Ordering::Relaxed) {
                ask.send_replace(true);
                signals.next().await;
            }
            clean_up();
            leave(INTERRUPTED);
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait))?;
        Ok(Self { deferred, asked })
    }

    /// From now on the first interruption is an orderly one: whoever waits for [`Interrupt::asked`] ends what is under
    /// way. The second still ends the process at once.
    pub(crate) fn defer(&self) {
        self.deferred.store(true, Ordering::Relaxed);
    }

    /// Waits for the first interruption.
    pub(crate) async fn asked(&mut self) {
        // Its sender lives as long as the process.
        let _ = self.asked.wait_for(|asked| *asked).await;
    }
}

/// Waits for an interruption, which then does nothing else.
///
/// # Errors
///
/// As for [`Interrupt::listen`].
#[cfg(unix)]
pub(crate) fn wait() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        Signals::listen()?.next().await;
        Ok(())
    })
}

/// What interrupts.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What interrupts, where there is nothing but Ctrl-C.
#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        let _ = self.0.recv().await;
    }
}
