//! The reference service: a replica that validates tokens with the core's cache and checks, unchanged.

mod fetch;
mod freshness;
mod key;
