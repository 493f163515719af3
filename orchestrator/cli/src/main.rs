//! `luqual`: arguments, commands, one error printer, exit codes.
fn main() {}
