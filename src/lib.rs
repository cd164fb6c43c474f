//! The reference validator that keyquake rehearses with.
//!
//! Everything here is pure: `now` comes in, decisions and the next deadline go out. There is no clock, no
//! randomness and no IO, which is why the same code serves the simulator, the live service and the tests.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod key;
mod time;

pub use key::{Algorithm, Class, KeyVersion, Kid};
pub use time::{Span, SpanError, Time, UnixTime};
