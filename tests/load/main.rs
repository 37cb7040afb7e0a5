//! The bulk load, judged by what a client then finds.

#![cfg(feature = "server")]

mod directory;
mod faults;
mod inputs;
mod killed;
mod limits;
mod merging;
mod resplit;
