//! The scenario's clock: the one place of the project where a clock is read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyquake_core::{Span, Time, UnixTime};
use tokio::time::Instant;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// How scenario time runs against the wall clock, and what its dates are. It says nothing of when now is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    speed: f64,
    unix_at_zero: UnixTime,
}

/// Tells scenario time, which runs `speed` times as fast as the wall clock.
///
/// Copies tell the same time. It follows tokio's clock, so that it stands still in tests that pause that clock;
/// elsewhere the two are the same monotonic clock of the system.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    start: Time,
    pace: Pace,
}

/// Why a clock cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ClockError {
    /// The factor is outside of the range in which nanoseconds keep their meaning.
    #[error("speed `{0}` is not between 0.001 and 1000000")]
    Speed(f64),
}

impl Pace {
    /// Scenario time that runs `speed` times as fast as the wall clock, and shows the date `unix_at_zero` at
    /// [`Time::ZERO`].
    ///
    /// # Errors
    ///
    /// [`ClockError::Speed`] when `speed` is not between 0.001 and 1,000,000.
    pub fn new(speed: f64, unix_at_zero: UnixTime) -> Result<Self, ClockError> {
        if !(0.001..=1_000_000.0).contains(&speed) {
            return Err(ClockError::Speed(speed));
        }
        Ok(Self { speed, unix_at_zero })
    }

    /// The date of a moment: what tokens issued then carry. Claims are in scenario seconds.
    pub fn unix(&self, at: Time) -> UnixTime {
        UnixTime(self.unix_at_zero.0.saturating_add(at.as_nanos().div_euclid(NANOS_PER_SECOND)))
    }

    /// How long a span of scenario time lasts by the wall clock.
    pub fn wall(&self, span: Span) -> Duration {
        // A float to integer cast saturates.
        Duration::from_nanos((span.as_nanos() as f64 / self.speed) as u64)
    }
}

impl Clock {
    /// Starts a clock that shows `-warmup` now, and at [`Time::ZERO`] the date `unix_at_zero`.
    ///
    /// # Errors
    ///
    /// As for [`Pace::new`].
    pub fn start(warmup: Span, speed: f64, unix_at_zero: UnixTime) -> Result<Self, ClockError> {
        let pace = Pace::new(speed, unix_at_zero)?;
        Ok(Self { origin: read_monotonic(), start: Time::ZERO - warmup, pace })
    }

    /// Starts a clock that shows `-warmup` and the system's date now.
    ///
    /// Dates are whole seconds, rounded down: at speed 1 this clock is never ahead of a service that reads the
    /// system's date, and at most a second behind it.
    ///
    /// # Errors
    ///
    /// As for [`Clock::start`].
    pub fn start_today(warmup: Span, speed: f64) -> Result<Self, ClockError> {
        let seconds = (read_date() + Duration::from(warmup)).as_secs();
        Self::start(warmup, speed, UnixTime(i64::try_from(seconds).unwrap_or(i64::MAX)))
    }

    /// How it runs.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The present moment; it never goes back.
    pub fn now(&self) -> Time {
        let elapsed = read_monotonic().duration_since(self.origin).as_nanos();
        self.start + Span::from_nanos(u64::try_from(elapsed).unwrap_or(u64::MAX)).scale(self.pace.speed)
    }

    /// The date of a moment, as [`Pace::unix`] has it.
    pub fn unix(&self, at: Time) -> UnixTime {
        self.pace.unix(at)
    }

    /// When a moment comes by the wall clock: what pacers and timers wait for. Moments before the clock's start
    /// are its start, and those that are too far away are a day from it.
    pub fn instant(&self, at: Time) -> std::time::Instant {
        let start = self.origin.into_std();
        start.checked_add(self.wall(at.since(self.start))).unwrap_or(start + Duration::from_secs(86_400))
    }

    /// How long a span of scenario time lasts by the wall clock.
    pub fn wall(&self, span: Span) -> Duration {
        self.pace.wall(span)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
fn read_monotonic() -> Instant {
    Instant::now()
}

/// The time since 1970, zero on a machine whose date lies before.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
fn read_date() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const EPOCH: UnixTime = UnixTime(1_700_000_000);

    fn seconds(count: i64) -> Time {
        Time::from_nanos(count * NANOS_PER_SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn scenario_time_runs_at_its_speed_from_before_zero() {
        let clock = Clock::start(Span::from_secs(60), 10.0, EPOCH).unwrap();
        assert_eq!(clock.now(), seconds(-60));
        advance(Duration::from_secs(7)).await;
        assert_eq!(clock.now(), seconds(10));
        assert_eq!(clock.wall(Span::from_secs(10)), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_comes_when_the_clock_shows_it() {
        let clock = Clock::start(Span::from_secs(2), 4.0, EPOCH).unwrap();
        tokio::time::sleep_until(clock.instant(seconds(6)).into()).await;
        assert_eq!(clock.now(), seconds(6));
        assert_eq!(clock.instant(seconds(-100)), clock.instant(seconds(-2)));
        assert!(clock.instant(Time::NEVER) > clock.instant(seconds(1_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn dates_are_rounded_down_on_both_sides_of_zero() {
        let clock = Clock::start(Span::ZERO, 1.0, EPOCH).unwrap();
        let date = |nanos| clock.unix(Time::from_nanos(nanos)).0 - EPOCH.0;
        assert_eq!((date(-1), date(0), date(999_999_999), date(1_000_000_000)), (-1, 0, 0, 1));
        assert_eq!(clock.unix(Time::NEVER).0 - EPOCH.0, i64::MAX / NANOS_PER_SECOND);
    }

    #[tokio::test]
    async fn today_is_never_ahead_of_the_system_and_at_most_a_second_behind() {
        let before = read_date().as_secs() as i64;
        let clock = Clock::start_today(Span::from_millis(1_500), 1.0).unwrap();
        let shown = clock.unix(clock.now()).0;
        let after = read_date().as_secs() as i64;
        assert!((before - 1..=after).contains(&shown), "{before} - 1 <= {shown} <= {after}");
    }

    #[test]
    fn a_speed_without_meaning_is_refused() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, 1e7] {
            assert!(Clock::start(Span::ZERO, speed, EPOCH).is_err(), "{speed}");
        }
    }
}
