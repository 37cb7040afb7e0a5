//! Lets the voprf crate, which speaks `rand_core` 0.6, draw from our
//! generators.

use rand::CryptoRng;
use rand_core_06::{Error, RngCore};

/// A generator of today as one of `rand_core` 0.6, with the same bytes.
pub(crate) struct Rng06<R>(pub(crate) R);

impl<R: CryptoRng> RngCore for Rng06<R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: CryptoRng> rand_core_06::CryptoRng for Rng06<R> {}
