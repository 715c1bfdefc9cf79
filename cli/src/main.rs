//! The one binary, `splitplace`.
fn main() {}
