//! The stand-alone server.
fn main() {}
