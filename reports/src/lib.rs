//! The versioned [`Record`] of a keyquake run, and every page, chart, table and gate over it.
//!
//! This crate depends on no sibling: it sees only `Record`s, so an old run can be drawn again and two runs can be
//! compared.

pub mod record;

pub use record::Record;
