//! A mock identity provider that rotates its signing keys on a schedule and breaks its JWKS endpoint on demand.

mod clock;
mod fault;
mod key;
mod rotation;
mod timeline;

pub use clock::{Clock, ClockError};
pub use fault::{Endpoint, Fault, FaultError, FaultId, FaultWindow, Reply, bend};
pub use key::{KeyError, KeyRing, Signer, SigningKey};
pub use rotation::{Rotation, RotationError, Style};
pub use timeline::{Event, KeyId, KeyIdError, KeyState, Life, TimedEvent, Timeline, TimelineError};
