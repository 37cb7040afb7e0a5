//! Values by their places, as many side by side as one instruction takes.

/// What lies a quarter of the whole apart.
#[inline(always)]
pub(super) fn quarters<T, const N: usize>(x: &[T]) -> impl Iterator<Item = [&[T; N]; 4]> {
    let (left, right) = x.split_at(x.len() / 2);
    let ((a, b), (c, d)) = (left.split_at(left.len() / 2), right.split_at(right.len() / 2));
    let left = a.as_chunks().0.iter().zip(b.as_chunks().0);
    let right = c.as_chunks().0.iter().zip(d.as_chunks().0);
    left.zip(right).map(|((a, b), (c, d))| [a, b, c, d])
}

#[inline(always)]
pub(super) fn quarters_mut<T, const N: usize>(
    x: &mut [T],
) -> impl Iterator<Item = [&mut [T; N]; 4]> {
    let (left, right) = x.split_at_mut(x.len() / 2);
    let ((a, b), (c, d)) = (left.split_at_mut(left.len() / 2), right.split_at_mut(right.len() / 2));
    let left = a.as_chunks_mut().0.iter_mut().zip(b.as_chunks_mut().0);
    let right = c.as_chunks_mut().0.iter_mut().zip(d.as_chunks_mut().0);
    left.zip(right).map(|((a, b), (c, d))| [a, b, c, d])
}

/// What lies half of the whole apart.
#[inline(always)]
pub(super) fn halves<T, const N: usize>(x: &[T]) -> impl Iterator<Item = (&[T; N], &[T; N])> {
    let (left, right) = x.split_at(x.len() / 2);
    left.as_chunks().0.iter().zip(right.as_chunks().0)
}

#[inline(always)]
pub(super) fn halves_mut<T, const N: usize>(
    x: &mut [T],
) -> impl Iterator<Item = (&mut [T; N], &mut [T; N])> {
    let (left, right) = x.split_at_mut(x.len() / 2);
    left.as_chunks_mut().0.iter_mut().zip(right.as_chunks_mut().0)
}

/// Neighbours, `M` times as many.
#[inline(always)]
pub(super) fn neighbours<T, const N: usize, const M: usize>(x: &[T]) -> &[[[T; N]; M]] {
    x.as_chunks().0.as_chunks().0
}

#[inline(always)]
pub(super) fn neighbours_mut<T, const N: usize, const M: usize>(x: &mut [T]) -> &mut [[[T; N]; M]] {
    x.as_chunks_mut().0.as_chunks_mut().0
}
