//! For whom a mapping is meant, as a message says it.

use super::proto;
use crate::bucket::Audience;

/// The message's form of an audience.
#[must_use]
pub const fn audience_to_proto(audience: Audience) -> proto::Audience {
    match audience {
        Audience::Personal => proto::Audience::Personal,
        Audience::Business => proto::Audience::Business,
    }
}
