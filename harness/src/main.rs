//! The command line of keyquake.

#[cfg_attr(not(test), expect(dead_code, reason = "no command starts it yet"))]
mod sut;

fn main() {}
