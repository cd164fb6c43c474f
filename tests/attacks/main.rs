//! What the validator must refuse, and the twins that it must accept.

mod claims;
mod encoding;
mod forge;
mod headers;
mod key_sets;
mod random;
