//! What real software does, by its name: data to be read, not code.

mod client;
mod idp;
mod numbers;

pub(crate) use self::client::ClientProfile;
pub(crate) use self::idp::{Evidence, IdpProfile, Known};
pub(crate) use self::numbers::Numbers;
