//! The mos command line program.
fn main() {}
