//! When each cache was filled: the one thing of a plan that chance decides.

use keyquake_core::{Span, Time};
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::scenario::Cache;
use crate::seed;

/// Caches that never expire are given ages up to this.
const STAGGER_FOREVER: Span = Span::from_secs(3_600);
/// Caches that expire at once are given ages up to this.
const STAGGER_NEVER: Span = Span::from_secs(1);

/// The ages that caches can have.
pub(super) fn oldest(period: Span) -> Span {
    period.clamp(STAGGER_NEVER, STAGGER_FOREVER)
}

/// When the cache of each instance was filled; `None` for a cold one.
pub(super) fn filled(
    cache: Cache,
    period: Span,
    warmup: Span,
    instances: usize,
    seed: u64,
) -> Vec<Option<Time>> {
    match cache {
        Cache::Cold => vec![None; instances],
        Cache::Age(age) => vec![Some(Time::ZERO - age); instances],
        Cache::Staggered => {
            let period = oldest(period);
            let mut draw = seed::generator(seed, "cache ages", 0);
            let mut ages: Vec<Span> = (0..instances)
                .map(|i| period.scale((i as f64 + draw.random::<f64>()) / instances as f64))
                .collect();
            ages.shuffle(&mut draw);
            // A cache younger than the warm-up expires within it; what is there at its start is a lifetime older.
            let lifetimes =
                |age: Span| (warmup.saturating_sub(age).as_secs_f64() / period.as_secs_f64()).ceil();
            ages.iter().map(|age| Some(Time::ZERO - *age - period.scale(lifetimes(*age)))).collect()
        }
    }
}
