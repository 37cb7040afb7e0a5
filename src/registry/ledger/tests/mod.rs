//! The ledger, judged by what a client then finds and by the directory's own
//! verification.

mod concurrent;
mod faults;
mod listing;
mod loading;
mod model;
mod operations;
mod refusals;
mod remembering;
mod repairing;
mod scene;
mod wrapped;
