//! How fast is a codec?

fn main() {}
