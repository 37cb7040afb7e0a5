//! The frames of a gRPC body: a flag, a length, a message, again and again
//! (gRPC over HTTP/2, "Length-Prefixed-Message").

/// Bytes before each message.
pub(super) const HEADER_BYTES: usize = 5;

/// Where one is in a body that arrives in pieces of any size.
#[derive(Default)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES],
    filled: usize,
    left: usize,
}

impl Frames {
    /// Goes over the next piece. `seen` gets the flag and the length of each
    /// message whose header is complete, and may refuse it.
    pub(super) fn read<E>(
        &mut self,
        mut piece: &[u8],
        mut seen: impl FnMut(u8, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let message = self.left.min(piece.len());
            self.left -= message;
            let Some((byte, rest)) = piece.get(message..).and_then(<[u8]>::split_first) else {
                return Ok(());
            };
            piece = rest;
            if let Some(place) = self.header.get_mut(self.filled) {
                *place = *byte;
            }
            self.filled += 1;
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                let [flag, length @ ..] = self.header;
                self.left = u32::from_be_bytes(length) as usize;
                seen(flag, self.left)?;
            }
        }
    }

    /// Whether the body may end here.
    pub(super) const fn is_between_messages(&self) -> bool {
        self.left == 0 && self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn frames_are_seen_alike_however_the_bytes_arrive() {
        let body =
            [&[0, 0, 0, 0, 3, 9, 9, 9][..], &[1, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]].concat();
        for size in 1..=body.len() {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for piece in body.chunks(size) {
                let Ok(()) = frames.read::<Infallible>(piece, |flag, length| {
                    seen.push((flag, length));
                    Ok(())
                });
            }
            assert_eq!(seen, [(0, 3), (1, 0), (0, 256)]);
            assert!(frames.is_between_messages());
        }
    }

    #[test]
    fn a_body_may_not_end_within_a_frame() {
        let mut frames = Frames::default();
        assert!(frames.is_between_messages());
        for piece in [&[0][..], &[0, 0, 0, 2], &[1]] {
            let Ok(()) = frames.read::<Infallible>(piece, |_, _| Ok(()));
            assert!(!frames.is_between_messages());
        }
        assert_eq!(frames.read(&[1, 0, 0, 0, 0, 9], |_, length| Err(length)), Err(9));
    }
}
