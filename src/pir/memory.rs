//! Memory in huge pages, where the system has them: a scan that must look up
//! an address every 4 KiB is slower.

use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use bytemuck::Pod;
use memmap2::{Advice, MmapMut};

/// The smallest page of any system.
const PAGE: usize = 4096;

/// The system gave no memory.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no {bytes} bytes of memory for private information retrieval")]
pub struct OutOfMemory {
    bytes: usize,
}

/// A slice of numbers, zero at first.
pub(super) struct Pages<T> {
    map: MmapMut,
    kind: PhantomData<T>,
}

impl<T: Pod> Pages<T> {
    pub(super) fn new(count: usize) -> Result<Self, OutOfMemory> {
        let bytes = count.saturating_mul(size_of::<T>());
        let map = MmapMut::map_anon(bytes).map_err(|_| OutOfMemory { bytes })?;
        // Where there are none, small ones do.
        #[cfg(target_os = "linux")]
        let _ = map.advise(Advice::HugePage);
        Ok(Self { map, kind: PhantomData })
    }
}

impl<T> Pages<T> {
    /// Has the system give all of it now, and not when it is first written.
    pub(super) fn touch(&mut self) {
        for page in self.map.chunks_mut(PAGE) {
            if let Some(byte) = page.first_mut() {
                *byte = 0;
            }
        }
    }
}

impl<T: Pod> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.map)
    }
}

impl<T: Pod> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.map)
    }
}
