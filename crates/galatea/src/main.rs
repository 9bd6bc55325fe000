//! The `galatea` command line.
fn main() {}
