//! The command line of keyquake.

use std::process::ExitCode;

fn main() -> ExitCode {
    keyquake::main()
}
