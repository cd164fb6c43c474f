//! What real software does, by its name: data to be read, not code.

mod idp;

pub(crate) use self::idp::{Evidence, IdpProfile, Known};
