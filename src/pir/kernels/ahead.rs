//! Asks for memory before it is read: the system's comes slower than a processor
//! could take it, and the processor's own foresight ends with each page and is
//! lost where not all that lies side by side is read at once.

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

/// How far ahead a pass asks that reads everything once and in order.
pub(super) const AHEAD: usize = 8192;

/// Asks for what lies so many bytes from here: into the nearest cache for who will
/// read it once, or into the second, where it displaces nothing that is used
/// again and again.
#[inline(always)]
pub(super) fn ahead<const ONCE: bool, T: ?Sized>(from: &T, bytes: usize) {
    let there = std::ptr::from_ref(from).cast::<i8>().wrapping_add(bytes);
    // SAFETY: asking for memory that is not there does nothing.
    unsafe {
        if ONCE {
            _mm_prefetch::<_MM_HINT_T0>(there);
        } else {
            _mm_prefetch::<_MM_HINT_T1>(there);
        }
    }
}
