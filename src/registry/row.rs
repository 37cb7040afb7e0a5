//! The plaintext of one registry row: an identifier with its mappings and the
//! slots of their entries. Strict both ways, versioned, and padded so that its
//! length tells little about the person.
//!
//! `format 1 || lp SII || u8 count || count mappings || lp extension || zeros`
//! up to a multiple of 128 bytes; a mapping is `signature 64 || u8 flags ||
//! u32 default_since || u32 verified_until || u32 TTL || u8 slot ||
//! lp provider || lp user`. The extension is empty in format 1: proofs, expiry
//! and circle secret get a place and a format of their own.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::{
    bucket::{Audience, MAX_MAPPINGS, Mapping, SignedMapping},
    identifier::{Provider, Sii, Ssi, User},
};

/// The format that this code writes and reads.
const FORMAT: u8 = 1;

/// Rows are padded to a multiple of this many bytes.
const PADDED_BYTES: usize = 128;

const FLAG_BUSINESS: u8 = 1;

/// A row that opened under the directory's key and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a registry row is not of format {FORMAT}")]
pub(super) struct RowError;

/// One mapping and the slot of its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) signed: SignedMapping,
    pub(super) slot: u8,
}

/// Names of providers that were read before: there are few, and each stands
/// in very many rows.
#[derive(Default)]
pub(super) struct Providers(BTreeMap<Box<str>, Provider>);

impl Providers {
    fn get(&mut self, name: &str) -> Result<Provider, RowError> {
        if let Some(provider) = self.0.get(name) {
            return Ok(provider.clone());
        }
        let provider = Provider::from_canonical(name).map_err(|_| RowError)?;
        self.0.insert(name.into(), provider.clone());
        Ok(provider)
    }
}

/// Writes a row.
///
/// # Errors
/// The person has no mapping or too many, or a name is longer than its type
/// allows.
pub(super) fn encode<'a>(
    sii: &Sii,
    mappings: impl ExactSizeIterator<Item = &'a Placed>,
) -> Result<Zeroizing<Vec<u8>>, RowError> {
    let count = u8::try_from(mappings.len()).map_err(|_| RowError)?;
    if count == 0 || usize::from(count) > MAX_MAPPINGS {
        return Err(RowError);
    }
    // Room for the longest row, so that no copy is left behind by growing.
    let mut row = Zeroizing::new(Vec::with_capacity(2048));
    row.push(FORMAT);
    lp(&mut row, sii.as_bytes())?;
    row.push(count);
    for Placed { signed: SignedMapping { mapping, signature }, slot } in mappings {
        row.extend_from_slice(signature);
        row.push(match mapping.audience {
            Audience::Personal => 0,
            Audience::Business => FLAG_BUSINESS,
        });
        row.extend_from_slice(&mapping.default_since.to_be_bytes());
        row.extend_from_slice(&mapping.verified_until.to_be_bytes());
        row.extend_from_slice(&mapping.ttl_s.to_be_bytes());
        row.push(*slot);
        lp(&mut row, mapping.ssi.provider().as_str().as_bytes())?;
        lp(&mut row, mapping.ssi.user().as_str().as_bytes())?;
    }
    lp(&mut row, &[])?;
    let padded = row.len().next_multiple_of(PADDED_BYTES);
    row.resize(padded, 0);
    Ok(row)
}

/// Reads a row.
///
/// # Errors
/// Anything that [`encode`] would not have written.
pub(super) fn decode(
    row: &[u8],
    providers: &mut Providers,
) -> Result<(Sii, Vec<Placed>), RowError> {
    let whole = row.len();
    let mut reader = Reader(row);
    let [format] = reader.array()?;
    if format != FORMAT {
        return Err(RowError);
    }
    let sii = Sii::from_stored(reader.text()?).ok_or(RowError)?;
    let [count] = reader.array()?;
    if count == 0 || usize::from(count) > MAX_MAPPINGS {
        return Err(RowError);
    }
    let mut mappings: Vec<Placed> = Vec::with_capacity(count.into());
    for _ in 0..count {
        let placed = reader.placed(providers)?;
        let repeated = |other: &Placed| {
            other.signed.mapping.ssi == placed.signed.mapping.ssi || other.slot == placed.slot
        };
        if mappings.iter().any(repeated) {
            return Err(RowError);
        }
        mappings.push(placed);
    }
    if !reader.lp()?.is_empty() {
        return Err(RowError);
    }
    let padding = reader.0;
    let padded = whole.is_multiple_of(PADDED_BYTES) && padding.len() < PADDED_BYTES;
    if !padded || padding.iter().any(|byte| *byte != 0) {
        return Err(RowError);
    }
    Ok((sii, mappings))
}

fn lp(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), RowError> {
    let length = u16::try_from(bytes.len()).map_err(|_| RowError)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(RowError)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, RowError> {
        self.array().map(u32::from_be_bytes)
    }

    fn lp(&mut self) -> Result<&'a [u8], RowError> {
        let length = u16::from_be_bytes(self.array()?);
        let (head, tail) = self.0.split_at_checked(length.into()).ok_or(RowError)?;
        self.0 = tail;
        Ok(head)
    }

    fn text(&mut self) -> Result<&'a str, RowError> {
        std::str::from_utf8(self.lp()?).map_err(|_| RowError)
    }

    fn placed(&mut self, providers: &mut Providers) -> Result<Placed, RowError> {
        let signature = self.array()?;
        let audience = match self.array()? {
            [0] => Audience::Personal,
            [FLAG_BUSINESS] => Audience::Business,
            [_] => return Err(RowError),
        };
        let default_since = self.u32()?;
        let verified_until = self.u32()?;
        let ttl_s = self.u32()?;
        let [slot] = self.array()?;
        let provider = providers.get(self.text()?)?;
        let user = User::from_canonical(self.text()?).map_err(|_| RowError)?;
        let ssi = Ssi::new(provider, user).map_err(|_| RowError)?;
        let mapping = Mapping { ssi, audience, default_since, verified_until, ttl_s };
        Ok(Placed { signed: SignedMapping { mapping, signature }, slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(provider: &str, user: &str, slot: u8) -> Placed {
        let provider = Provider::parse(provider).unwrap();
        let ssi = Ssi::new(provider, User::parse(user).unwrap()).unwrap();
        let mapping = Mapping {
            ssi,
            audience: Audience::Business,
            default_since: 1,
            verified_until: 2,
            ttl_s: 3,
        };
        Placed { signed: SignedMapping { mapping, signature: [slot; 64] }, slot }
    }

    fn sii() -> Sii {
        Sii::from_canonical("mailto:alice@mail.example").unwrap()
    }

    fn encoded(mappings: &[Placed]) -> Result<Zeroizing<Vec<u8>>, RowError> {
        encode(&sii(), mappings.iter())
    }

    fn decoded(row: &[u8]) -> Result<(Sii, Vec<Placed>), RowError> {
        decode(row, &mut Providers::default())
    }

    #[test]
    fn what_is_written_reads_back_at_padded_lengths() {
        for count in 1..=8_u8 {
            let mappings: Vec<_> =
                (0..count).map(|n| placed("wa.example", &format!("user{n}"), n * 31)).collect();
            let row = encoded(&mappings).unwrap();
            assert_eq!(row.len() % 128, 0);
            assert_eq!(decoded(&row), Ok((sii(), mappings)));
        }
    }

    #[test]
    fn the_longest_row_fits_the_store() {
        let sii = Sii::from_stored(&format!("mailto:{}", "a".repeat(254))).unwrap();
        let mappings: Vec<_> =
            (0..8).map(|n| placed("a.example", &format!("{n:063}"), n)).collect();
        let row = encode(&sii, mappings.iter()).unwrap();
        assert!(row.len() + 28 <= crate::store::MAX_ROW_BYTES);
        assert!(row.len() <= 2048, "grew beyond its first allocation");
        assert_eq!(decoded(&row), Ok((sii, mappings)));
    }

    #[test]
    fn no_mapping_nine_mappings_and_repeated_ones_are_refused() {
        assert_eq!(encoded(&[]).err(), Some(RowError));
        let nine: Vec<_> = (0..9).map(|n| placed("wa.example", &format!("user{n}"), n)).collect();
        assert_eq!(encoded(&nine).err(), Some(RowError));
        let same_person = [placed("wa.example", "alice", 1), placed("wa.example", "alice", 2)];
        assert_eq!(decoded(&encoded(&same_person).unwrap()), Err(RowError));
        let same_slot = [placed("wa.example", "alice", 1), placed("wa.example", "bob", 1)];
        assert_eq!(decoded(&encoded(&same_slot).unwrap()), Err(RowError));
    }

    #[test]
    fn every_other_byte_string_is_refused() {
        let row = encoded(&[placed("wa.example", "alice", 7)]).unwrap();
        for length in 0..row.len() {
            assert_eq!(decoded(&row[..length]), Err(RowError), "{length}");
        }
        let longer = [row.as_slice(), &[0; 128]].concat();
        assert_eq!(decoded(&longer), Err(RowError));
        for (offset, value) in [(0, 0), (0, 2), (row.len() - 1, 1), (1, 0xff), (28, 0), (28, 9)] {
            let mut altered = row.to_vec();
            altered[offset] = value;
            assert_eq!(decoded(&altered), Err(RowError), "{offset}");
        }
        // Format, lp SII of 25 bytes, count, signature: then the flags.
        let mut flags = row.to_vec();
        flags[1 + 2 + 25 + 1 + 64] = 2;
        assert_eq!(decoded(&flags), Err(RowError));
    }
}
