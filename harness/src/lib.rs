//! What the binary `keyquake` and the benchmark of the load generator start.

mod arrivals;
mod cli;
mod crew;
#[cfg(test)]
mod fuzz;
mod interrupt;
mod lab;
mod live;
mod measure;
mod observe;
mod oracle;
mod plan;
mod profiles;
mod scenario;
mod seed;
mod sessions;
mod simulate;
mod sut;
mod sweep;
mod target;
mod terminal;
mod tokens;

pub use crate::cli::main;
pub use crate::live::load;

/// The simulator, for its benchmark.
pub mod simulator {
    pub use crate::simulate::{By, Prepared, Sums};
}
