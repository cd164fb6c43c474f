//! A run in virtual time: the same plan, the same cache and the same counts as live, without a socket or a clock.

mod agenda;
mod each;
mod fleet;
mod service;
mod token;
mod world;

#[cfg(test)]
mod tests;

pub(crate) use self::each::run;
