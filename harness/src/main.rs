//! The command line of keyquake.

mod arrivals;
mod cli;
#[cfg(test)]
mod fuzz;
mod interrupt;
mod live;
mod measure;
mod observe;
mod oracle;
mod plan;
mod scenario;
mod seed;
mod sessions;
mod simulate;
mod sut;
mod terminal;
mod tokens;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
