//! The command line of keyquake.

fn main() {}
