//! The switch: parse the command line, run the verb, exit with its code.

fn main() {}
