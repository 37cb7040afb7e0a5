//! The value of the function: what a client and the directory's publisher
//! both know about an identifier, and nobody else.

use crate::secret::Secret;

/// The 64-byte output of one input under one key. Zeroised when dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output(Secret<64>);

impl Output {
    pub(super) const fn new(bytes: [u8; 64]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The bytes themselves. Keep the borrow short, copy nothing.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 64] {
        self.0.expose()
    }
}
