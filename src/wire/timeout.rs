//! How long a caller waits, as gRPC writes it.

use std::time::Duration;

/// Reads the value of `grpc-timeout`, gRPC over HTTP/2, "Timeout": one to eight
/// digits and a unit. `None` for anything else.
#[must_use]
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, nanos) in [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("40m", 40_000_000),
            ("5u", 5000),
            ("00000006n", 6),
        ] {
            let read = grpc_timeout(text.as_bytes());
            assert_eq!(read, Some(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(grpc_timeout(b"99999999H").unwrap().as_secs(), 99_999_999 * 3600);
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789m", "1 S"] {
            assert_eq!(grpc_timeout(bad.as_bytes()), None, "{bad}");
        }
    }
}
