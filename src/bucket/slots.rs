//! Which slots of a bucket are taken.

use rand::{Rng, RngExt as _};

use super::BUCKET_ENTRIES;

/// The taken slots of one bucket. Only the registry can tell them from free
/// ones: on disk and on the wire both are random bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Slots {
    taken: [u64; BUCKET_ENTRIES / 64],
}

impl Slots {
    /// How many slots are taken.
    #[must_use]
    pub fn count(&self) -> usize {
        self.taken.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether a slot is taken.
    #[must_use]
    pub fn contains(&self, slot: u8) -> bool {
        self.taken.get(usize::from(slot / 64)).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Marks a slot as taken; false if it was already.
    pub fn take(&mut self, slot: u8) -> bool {
        let free = !self.contains(slot);
        if let Some(word) = self.taken.get_mut(usize::from(slot / 64)) {
            *word |= 1 << (slot % 64);
        }
        free
    }

    /// Marks a slot as free; false if it was already.
    pub fn release(&mut self, slot: u8) -> bool {
        let taken = self.contains(slot);
        if let Some(word) = self.taken.get_mut(usize::from(slot / 64)) {
            *word &= !(1 << (slot % 64));
        }
        taken
    }

    /// Takes a free slot, each with the same chance; `None` when the bucket is
    /// full.
    pub fn take_random(&mut self, rng: &mut impl Rng) -> Option<u8> {
        let free = BUCKET_ENTRIES - self.count();
        if free == 0 {
            return None;
        }
        let nth = rng.random_range(0..free);
        let slot = (0..=u8::MAX).filter(|slot| !self.contains(*slot)).nth(nth)?;
        self.take(slot);
        Some(slot)
    }
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slots(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_can_be_taken_once_and_only_once() {
        let mut slots = Slots::default();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(slot) = slots.take_random(&mut rand::rng()) {
            assert!(seen.insert(slot));
        }
        assert_eq!(seen.len(), BUCKET_ENTRIES);
        assert!(slots.release(17));
        assert!(!slots.release(17));
        assert_eq!(slots.take_random(&mut rand::rng()), Some(17));
        assert!(!slots.take(17));
    }

    #[test]
    fn free_slots_are_equally_likely() {
        let mut counts = [0_u32; BUCKET_ENTRIES];
        for _ in 0..256 * 100 {
            let slot = Slots::default().take_random(&mut rand::rng()).unwrap();
            counts[usize::from(slot)] += 1;
        }
        // Mean 100, standard deviation 10: eight of them bound every slot.
        assert!(counts.iter().all(|count| (20..180).contains(count)));
    }
}
