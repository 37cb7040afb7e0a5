//! One record between the passes of a load, and its bytes in a temporary file.

use zeroize::Zeroizing;

use super::{plan::leading_bits, records::Record, report::At};
use crate::{
    bucket::{Audience, BucketNumber, Placement},
    identifier::Sii,
};

/// More bytes than any record has.
pub(super) const RECORD_BYTES: usize = 1024;

/// One record on its way from its line to its bucket.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Spilled {
    /// The leading 32 bits of its placement.
    pub(super) leading: BucketNumber,
    /// Its line.
    pub(super) at: At,
    pub(super) sii: Sii,
    pub(super) user: Zeroizing<Box<str>>,
    pub(super) audience: Audience,
    pub(super) default: bool,
    pub(super) ttl_s: u32,
}

/// A record as it is written: leading 4 || file 4 || line 8 || flags 1 ||
/// TTL 4 || lp SII || lp user.
pub(super) struct Fields<'a> {
    pub(super) leading: BucketNumber,
    at: At,
    sii: &'a [u8],
    user: &'a [u8],
    audience: Audience,
    default: bool,
    ttl_s: u32,
}

const FLAG_BUSINESS: u8 = 1;
const FLAG_DEFAULT: u8 = 2;

impl<'a> Fields<'a> {
    pub(super) fn of_line(record: &'a Record, at: At) -> Self {
        Self {
            leading: Placement::of(&record.sii).bucket(leading_bits()),
            at,
            sii: record.sii.as_bytes(),
            user: record.user.as_str().as_bytes(),
            audience: record.audience,
            default: record.default,
            ttl_s: record.ttl_s,
        }
    }

    pub(super) fn of_spilled(record: &'a Spilled) -> Self {
        Self {
            leading: record.leading,
            at: record.at,
            sii: record.sii.as_bytes(),
            user: record.user.as_bytes(),
            audience: record.audience,
            default: record.default,
            ttl_s: record.ttl_s,
        }
    }

    /// Appends the record; `None` if a text is longer than its type allows.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut flags = 0;
        if self.audience == Audience::Business {
            flags |= FLAG_BUSINESS;
        }
        if self.default {
            flags |= FLAG_DEFAULT;
        }
        out.extend_from_slice(&self.leading.get().to_be_bytes());
        out.extend_from_slice(&self.at.file.to_be_bytes());
        out.extend_from_slice(&self.at.line.to_be_bytes());
        out.push(flags);
        out.extend_from_slice(&self.ttl_s.to_be_bytes());
        for text in [self.sii, self.user] {
            out.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
            out.extend_from_slice(text);
        }
        Some(())
    }
}

/// Reads records one after the other; `None` is the end, or none of ours.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        std::str::from_utf8(head).ok()
    }

    pub(super) fn record(&mut self) -> Option<Spilled> {
        let leading = BucketNumber::new(u32::from_be_bytes(self.array()?), leading_bits()).ok()?;
        let file = u32::from_be_bytes(self.array()?);
        let line = u64::from_be_bytes(self.array()?);
        let [flags] = self.array()?;
        let ttl_s = u32::from_be_bytes(self.array()?);
        let audience =
            if flags & FLAG_BUSINESS == 0 { Audience::Personal } else { Audience::Business };
        Some(Spilled {
            leading,
            at: At { file, line },
            sii: Sii::from_stored(self.text()?)?,
            user: Zeroizing::new(self.text()?.into()),
            audience,
            default: flags & FLAG_DEFAULT != 0,
            ttl_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::User;

    fn written() -> (Record, Vec<u8>) {
        let record = Record {
            sii: Sii::from_canonical("tel:+14155552671").unwrap(),
            user: User::parse("alice").unwrap(),
            audience: Audience::Business,
            default: true,
            ttl_s: 60,
        };
        let mut bytes = Vec::new();
        Fields::of_line(&record, At { file: 3, line: 1 << 40 }).write(&mut bytes).unwrap();
        (record, bytes)
    }

    #[test]
    fn a_record_reads_back_and_writes_the_same_again() {
        let (record, bytes) = written();
        let mut reader = Reader(&bytes);
        let spilled = reader.record().unwrap();
        assert!(reader.0.is_empty());
        assert_eq!(spilled.at, At { file: 3, line: 1 << 40 });
        assert_eq!((&spilled.sii, &**spilled.user), (&record.sii, "alice"));
        assert_eq!(
            (spilled.audience, spilled.default, spilled.ttl_s),
            (Audience::Business, true, 60)
        );
        let mut again = Vec::new();
        Fields::of_spilled(&spilled).write(&mut again).unwrap();
        assert_eq!(again, bytes);
    }

    #[test]
    fn a_record_that_is_cut_off_is_none() {
        let (_, bytes) = written();
        for length in 0..bytes.len() {
            assert!(Reader(&bytes[..length]).record().is_none(), "{length}");
        }
    }
}
