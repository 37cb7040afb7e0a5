//! The `blindbook` command.

fn main() {}
