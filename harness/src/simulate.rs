//! A run in virtual time: the same plan, the same cache and the same counts as live, without a socket or a clock.
//!
//! There is no generator that could be late or full: requests come at their planned moments, and
//! `traffic.max_in_flight` does not hold.

mod agenda;
mod each;
mod fleet;
mod predict;
mod replay;
mod service;
mod token;
mod world;

#[cfg(test)]
mod tests;

use keyquake_core::UnixTime;

pub(crate) use self::each::run;
pub(crate) use self::predict::{Prediction, predict};
pub(crate) use self::replay::{Agreement, Difference, replay};

/// The date at which event time starts: any will do, as long as it is always the same.
const EPOCH: UnixTime = UnixTime(1_800_000_000);
