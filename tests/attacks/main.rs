//! What the validator must refuse, and the twins that it must accept.
//!
//! Attacks are numbered A01 to A60, so that a report can name them.

mod claims;
mod encoding;
mod forge;
mod fuzz;
mod headers;
mod key_sets;
mod keys;
mod random;
mod signatures;
