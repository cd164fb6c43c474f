//! A mock identity provider that rotates its signing keys on a schedule and breaks its JWKS endpoint on demand.

mod clock;

pub use clock::{Clock, ClockError};
