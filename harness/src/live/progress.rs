//! What a person sees while a run is under way.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use keyquake_core::Time;
use keyquake_idp::{Clock, Provider};

use crate::observe::Outcome;
use crate::plan::Plan;
use crate::terminal::say;

/// Counters that the generator moves and the display reads.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    ended: AtomicU64,
    denied: AtomicU64,
    rejected: AtomicU64,
}

impl Gauge {
    pub(crate) fn count(&self, outcome: Outcome, denied: bool) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.denied.fetch_add(u64::from(denied), Ordering::Relaxed);
        let rejected = matches!(outcome, Outcome::Rejected(_));
        self.rejected.fetch_add(u64::from(rejected), Ordering::Relaxed);
    }

    fn read(&self) -> [u64; 3] {
        [&self.ended, &self.denied, &self.rejected].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// Shows a run until it is dropped: a bar on a terminal, a line now and then elsewhere.
pub(crate) async fn show(plan: &Plan, clock: Clock, gauge: &Gauge, provider: &Provider) -> Infallible {
    let bar = bar(plan);
    let period = if bar.is_hidden() { Duration::from_secs(5) } else { Duration::from_millis(250) };
    let mut ticks = tokio::time::interval(period);
    let mut before = gauge.read();
    let start = Time::ZERO - plan.warmup;
    loop {
        ticks.tick().await;
        let counts = gauge.read();
        let [ended, denied, rejected] = [0, 1, 2].map(|i| counts[i] - before[i]);
        let now = clock.now();
        if now < start {
            continue;
        }
        let percent = |part: u64| part as f64 * 100.0 / ended.max(1) as f64;
        let line = format!(
            "{:>6.1} s  denied {:>5.1} %  401 {:>5.1} %  JWKS requests {}",
            now.as_secs_f64(),
            percent(denied),
            percent(rejected),
            provider.with(|idp, _| idp.jwks_log().by_status().values().sum::<u64>()),
        );
        before = counts;
        if bar.is_hidden() {
            say(&line);
        } else {
            bar.set_position(now.since(start).as_secs());
            bar.set_message(line);
        }
    }
}

fn bar(plan: &Plan) -> ProgressBar {
    let length = plan.duration.saturating_add(plan.warmup).as_secs();
    let style =
        ProgressStyle::with_template("{bar:24} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    // It draws to standard error, and hides when that is no terminal.
    ProgressBar::new(length).with_style(style)
}
