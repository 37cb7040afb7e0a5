//! Numbers of a few bits, packed without gaps, the leading bit first.

/// Appends numbers, each below 2^`width`, `width` at most 56. They fill whole
/// bytes.
pub(super) fn write(to: &mut Vec<u8>, width: u32, numbers: impl IntoIterator<Item = u64>) {
    let (mut held, mut bits) = (0_u64, 0);
    for number in numbers {
        held = (held << width) | number;
        bits += width;
        while bits >= 8 {
            bits -= 8;
            let [.., byte] = (held >> bits).to_be_bytes();
            to.push(byte);
        }
    }
}

/// The numbers of `width` bits in whole bytes.
pub(super) fn read(bytes: &[u8], width: u32) -> impl Iterator<Item = u64> + '_ {
    let (mut held, mut bits) = (0_u64, 0);
    bytes.iter().filter_map(move |byte| {
        held = (held << 8) | u64::from(*byte);
        bits += 8;
        (bits >= width).then(|| {
            bits -= width;
            (held >> bits) & ((1 << width) - 1)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for width in [12, 20, 26, 50] {
            let numbers: Vec<u64> = (0..2048_u64)
                .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & ((1 << width) - 1))
                .collect();
            let mut bytes = Vec::new();
            write(&mut bytes, width, numbers.iter().copied());
            assert_eq!(bytes.len(), 2048 * width as usize / 8);
            assert!(read(&bytes, width).eq(numbers));
        }
        let mut bytes = Vec::new();
        write(&mut bytes, 12, [0xabc, 0xdef]);
        assert_eq!(bytes, [0xab, 0xcd, 0xef]);
    }
}
