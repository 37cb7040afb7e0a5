//! How much each partner may ask: token buckets with burst, counted in
//! evaluated elements, in bytes of buckets and in tokens for users.
//!
//! Pure: the time is passed in, and so is what was written down. A balance is
//! charged ahead before it is spent ([`Meter::lease`]), so that after a crash at
//! any moment never more is granted than without it.

mod account;
mod limit;
mod meter;

pub use self::{
    account::{Account, Counted, Leases, Limits},
    limit::{DAY_S, Limit, LimitError},
    meter::{Charge, Meter, Outcome, Refused},
};
