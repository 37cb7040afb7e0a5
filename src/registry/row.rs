//! The plaintext of one registry row: an identifier with its mappings, the
//! slots of their entries, and the proofs that were used for it. Strict both
//! ways, versioned, and padded so that its length tells little about the person.
//!
//! `format 2 || lp SII || u8 count || count sequences || u8 count || count used
//! proofs || zeros` up to a multiple of 128 bytes. A sequence is the open one,
//! `0 || u8 count || count mappings`, or a circle's, `1 || secret 32 || u8 count
//! || count mappings`; the open one is the first. A mapping is `signature 64 ||
//! u8 flags || u32 default_since || u32 verified_until || u32 TTL || u8 slot ||
//! lp provider || lp user`, a used proof `hash 32 || u64 expiry`.
//!
//! Format 1, which is still read, has neither circles nor proofs: `format 1 ||
//! lp SII || u8 count || count mappings || lp nothing || zeros`.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{circle::Circle, verified::ProofRecord};
use crate::{
    bucket::{Audience, MAX_MAPPINGS, Mapping, SignedMapping},
    identifier::{Provider, Sii, Ssi, User},
    secret::Secret,
};

/// The format that this code writes.
const FORMAT: u8 = 2;

/// The format before, which it reads.
const FORMAT_WITHOUT_PROOFS: u8 = 1;

/// Rows are padded to a multiple of this many bytes.
const PADDED_BYTES: usize = 128;

/// Room for the longest row, so that no copy is left behind by growing.
const ROOM_BYTES: usize = 4096;

/// Most used proofs that one row holds: what the store takes beside eight
/// mappings in eight circles.
pub(super) const MAX_PROOFS: usize = 48;

const OPEN: u8 = 0;
const IN_CIRCLE: u8 = 1;

const FLAG_BUSINESS: u8 = 1;

/// A row that opened under the directory's key and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a registry row is neither of format {FORMAT_WITHOUT_PROOFS} nor of format {FORMAT}")]
pub(super) struct RowError;

/// One mapping and the slot of its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) signed: SignedMapping,
    pub(super) slot: u8,
}

/// The mappings that one OPRF output opens, by n; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Whose secret makes the OPRF output; `None` if the identifier alone does.
    pub(super) circle: Option<Circle>,
    pub(super) placed: Vec<Placed>,
}

/// What a row says of one identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) sii: Sii,
    /// The open one first, then circles, each once.
    pub(super) sequences: Vec<Sequence>,
    pub(super) used: Vec<ProofRecord>,
}

impl Listing {
    /// An identifier that nothing is known of.
    pub(super) const fn new(sii: Sii) -> Self {
        Self { sii, sequences: Vec::new(), used: Vec::new() }
    }

    /// All mappings, in circles or not.
    pub(super) fn placed(&self) -> impl Iterator<Item = &Placed> {
        self.sequences.iter().flat_map(|sequence| &sequence.placed)
    }

    /// Whether there is nothing to write down.
    pub(super) const fn is_empty(&self) -> bool {
        self.sequences.is_empty() && self.used.is_empty()
    }
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
/// There is nothing to write or too much, or a name is longer than its type
/// allows.
pub(super) fn encode(listing: &Listing) -> Result<Zeroizing<Vec<u8>>, RowError> {
    if listing.is_empty()
        || listing.placed().count() > MAX_MAPPINGS
        || listing.used.len() > MAX_PROOFS
    {
        return Err(RowError);
    }
    let mut row = Zeroizing::new(Vec::with_capacity(ROOM_BYTES));
    row.push(FORMAT);
    lp(&mut row, listing.sii.as_bytes())?;
    row.push(count(listing.sequences.len())?);
    for (Sequence { circle, placed }, first) in
        listing.sequences.iter().zip([true].into_iter().chain(std::iter::repeat(false)))
    {
        match circle {
            None if first => row.push(OPEN),
            None => return Err(RowError),
            Some(circle) => {
                row.push(IN_CIRCLE);
                row.extend_from_slice(circle.secret().expose());
            }
        }
        if placed.is_empty() {
            return Err(RowError);
        }
        row.push(count(placed.len())?);
        for placed in placed {
            mapping(&mut row, placed)?;
        }
    }
    row.push(count(listing.used.len())?);
    for proof in &listing.used {
        row.extend_from_slice(&proof.hash);
        row.extend_from_slice(&proof.expires_s.to_be_bytes());
    }
    let padded = row.len().next_multiple_of(PADDED_BYTES);
    row.resize(padded, 0);
    Ok(row)
}

/// Reads a row.
///
/// # Errors
/// Anything that [`encode`] would not have written, in this format or the one
/// before.
pub(super) fn decode(row: &[u8], providers: &mut Providers) -> Result<Listing, RowError> {
    let whole = row.len();
    let mut reader = Reader(row);
    let [format] = reader.array()?;
    if !matches!(format, FORMAT | FORMAT_WITHOUT_PROOFS) {
        return Err(RowError);
    }
    let mut listing = Listing::new(Sii::from_stored(reader.text()?).ok_or(RowError)?);
    if format == FORMAT {
        let [sequences] = reader.array()?;
        for _ in 0..sequences {
            let circle = match reader.array()? {
                [OPEN] if listing.sequences.is_empty() => None,
                [IN_CIRCLE] => Some(Circle::new(Secret::new(reader.array()?))),
                [_] => return Err(RowError),
            };
            let repeated = listing.sequences.iter().any(|other| other.circle == circle);
            if repeated {
                return Err(RowError);
            }
            reader.sequence(circle, &mut listing, providers)?;
        }
        let [used] = reader.array()?;
        for _ in 0..used {
            let proof = ProofRecord {
                hash: reader.array()?,
                expires_s: u64::from_be_bytes(reader.array()?),
            };
            if listing.used.iter().any(|other| other.hash == proof.hash) {
                return Err(RowError);
            }
            listing.used.push(proof);
        }
    } else {
        reader.sequence(None, &mut listing, providers)?;
        if !reader.lp()?.is_empty() {
            return Err(RowError);
        }
    }
    let padding = reader.0;
    let padded = whole.is_multiple_of(PADDED_BYTES) && padding.len() < PADDED_BYTES;
    if !padded || padding.iter().any(|byte| *byte != 0) {
        return Err(RowError);
    }
    if listing.is_empty() || listing.used.len() > MAX_PROOFS {
        return Err(RowError);
    }
    Ok(listing)
}

fn mapping(row: &mut Vec<u8>, placed: &Placed) -> Result<(), RowError> {
    let Placed { signed: SignedMapping { mapping, signature }, slot } = placed;
    row.extend_from_slice(signature);
    row.push(match mapping.audience {
        Audience::Personal => 0,
        Audience::Business => FLAG_BUSINESS,
    });
    row.extend_from_slice(&mapping.default_since.to_be_bytes());
    row.extend_from_slice(&mapping.verified_until.to_be_bytes());
    row.extend_from_slice(&mapping.ttl_s.to_be_bytes());
    row.push(*slot);
    lp(row, mapping.ssi.provider().as_str().as_bytes())?;
    lp(row, mapping.ssi.user().as_str().as_bytes())
}

fn count(items: usize) -> Result<u8, RowError> {
    u8::try_from(items).map_err(|_| RowError)
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

    /// Reads `u8 count || count mappings`.
    fn sequence(
        &mut self,
        circle: Option<Circle>,
        listing: &mut Listing,
        providers: &mut Providers,
    ) -> Result<(), RowError> {
        let [count] = self.array()?;
        let before = listing.placed().count();
        if count == 0 || before + usize::from(count) > MAX_MAPPINGS {
            return Err(RowError);
        }
        let mut mappings: Vec<Placed> = Vec::with_capacity(count.into());
        for _ in 0..count {
            let placed = self.placed(providers)?;
            let named = |other: &Placed| other.signed.mapping.ssi == placed.signed.mapping.ssi;
            let lies = |other: &Placed| other.slot == placed.slot;
            if mappings.iter().any(named) || mappings.iter().chain(listing.placed()).any(lies) {
                return Err(RowError);
            }
            mappings.push(placed);
        }
        listing.sequences.push(Sequence { circle, placed: mappings });
        Ok(())
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

    fn circle(secret: u8) -> Circle {
        Circle::new(Secret::new([secret; 32]))
    }

    fn proofs(count: u8) -> Vec<ProofRecord> {
        (0..count).map(|n| ProofRecord { hash: [n; 32], expires_s: n.into() }).collect()
    }

    fn listing(sequences: Vec<(Option<Circle>, Vec<Placed>)>, used: u8) -> Listing {
        let sequences = sequences.into_iter();
        Listing {
            sii: sii(),
            sequences: sequences.map(|(circle, placed)| Sequence { circle, placed }).collect(),
            used: proofs(used),
        }
    }

    fn open(mappings: Vec<Placed>) -> Listing {
        listing(vec![(None, mappings)], 0)
    }

    fn decoded(row: &[u8]) -> Result<Listing, RowError> {
        decode(row, &mut Providers::default())
    }

    /// A row as format 1 had it.
    fn without_proofs(mappings: &[Placed]) -> Vec<u8> {
        let mut row = vec![FORMAT_WITHOUT_PROOFS];
        lp(&mut row, sii().as_bytes()).unwrap();
        row.push(count(mappings.len()).unwrap());
        for placed in mappings {
            mapping(&mut row, placed).unwrap();
        }
        lp(&mut row, &[]).unwrap();
        row.resize(row.len().next_multiple_of(PADDED_BYTES), 0);
        row
    }

    #[test]
    fn what_is_written_reads_back_at_padded_lengths() {
        for count in 1..=8_u8 {
            let mappings: Vec<_> =
                (0..count).map(|n| placed("wa.example", &format!("user{n}"), n * 31)).collect();
            let (first, second) = mappings.split_at(mappings.len() / 2);
            let mut both = vec![(Some(circle(1)), second.to_vec())];
            if !first.is_empty() {
                both.insert(0, (None, first.to_vec()));
            }
            for listing in [open(mappings), listing(both, count * 6)] {
                let row = encode(&listing).unwrap();
                assert_eq!(row.len() % 128, 0);
                assert_eq!(decoded(&row), Ok(listing));
            }
        }
        let proofs_alone = listing(Vec::new(), 1);
        assert_eq!(decoded(&encode(&proofs_alone).unwrap()), Ok(proofs_alone));
    }

    #[test]
    fn the_format_before_is_read() {
        let mappings = vec![placed("wa.example", "alice", 1), placed("sg.example", "bob", 2)];
        let row = without_proofs(&mappings);
        assert_eq!(decoded(&row), Ok(open(mappings)));
        for length in 0..row.len() {
            assert_eq!(decoded(&row[..length]), Err(RowError), "{length}");
        }
        assert_eq!(decoded(&without_proofs(&[])), Err(RowError));
        let same = [placed("wa.example", "alice", 1), placed("wa.example", "alice", 2)];
        assert_eq!(decoded(&without_proofs(&same)), Err(RowError));
    }

    #[test]
    fn the_longest_row_fits_the_store() {
        let mappings = (0..8).map(|n| placed("a.example", &format!("{n:063}"), n));
        let sequences = mappings
            .map(|placed| Sequence { circle: Some(circle(placed.slot)), placed: vec![placed] });
        let listing = Listing {
            sii: Sii::from_stored(&format!("mailto:{}", "a".repeat(254))).unwrap(),
            sequences: sequences.collect(),
            used: proofs(48),
        };
        let row = encode(&listing).unwrap();
        assert!(row.len() + 28 <= crate::store::MAX_ROW_BYTES);
        assert_eq!(decoded(&row), Ok(listing));
    }

    #[test]
    fn too_little_too_much_and_repeated_things_are_refused() {
        assert_eq!(encode(&listing(Vec::new(), 0)).err(), Some(RowError));
        assert_eq!(encode(&open(Vec::new())).err(), Some(RowError));
        assert_eq!(encode(&listing(Vec::new(), 49)).err(), Some(RowError));
        let many = |from: u8, to: u8| -> Vec<_> {
            (from..to).map(|n| placed("wa.example", &format!("user{n}"), n)).collect()
        };
        assert_eq!(encode(&open(many(0, 9))).err(), Some(RowError));
        let nine = listing(vec![(None, many(0, 5)), (Some(circle(1)), many(5, 9))], 0);
        assert_eq!(encode(&nine).err(), Some(RowError));
        let open_last = listing(vec![(Some(circle(1)), many(0, 1)), (None, many(1, 2))], 0);
        assert_eq!(encode(&open_last).err(), Some(RowError));

        let same_person =
            open(vec![placed("wa.example", "alice", 1), placed("wa.example", "alice", 2)]);
        let same_slot =
            open(vec![placed("wa.example", "alice", 1), placed("wa.example", "bob", 1)]);
        let same_slot_elsewhere =
            listing(vec![(None, many(0, 1)), (Some(circle(1)), many(0, 1))], 0);
        let same_circle =
            listing(vec![(Some(circle(1)), many(0, 1)), (Some(circle(1)), many(1, 2))], 0);
        let mut same_proof = listing(Vec::new(), 1);
        same_proof.used.extend_from_within(..);
        for repeated in [same_person, same_slot, same_slot_elsewhere, same_circle, same_proof] {
            assert_eq!(decoded(&encode(&repeated).unwrap()), Err(RowError));
        }
        // One user may be found by everybody and in a circle.
        let twice = vec![placed("wa.example", "alice", 1)];
        let in_circle = vec![placed("wa.example", "alice", 2)];
        let both = listing(vec![(None, twice), (Some(circle(1)), in_circle)], 0);
        assert_eq!(decoded(&encode(&both).unwrap()), Ok(both));
    }

    #[test]
    fn every_other_byte_string_is_refused() {
        let row = encode(&listing(vec![(None, vec![placed("wa.example", "alice", 7)])], 1));
        let row = row.unwrap();
        for length in 0..row.len() {
            assert_eq!(decoded(&row[..length]), Err(RowError), "{length}");
        }
        let longer = [row.as_slice(), &[0; 128]].concat();
        assert_eq!(decoded(&longer), Err(RowError));
        // Format, lp SII of 25 bytes, sequences, kind, mappings.
        let changes = [(0, 0), (0, 3), (row.len() - 1, 1), (1, 0xff), (28, 0), (28, 2), (29, 1)];
        for (offset, value) in changes.into_iter().chain([(29, 2), (30, 0), (30, 9)]) {
            let mut altered = row.to_vec();
            altered[offset] = value;
            assert_eq!(decoded(&altered), Err(RowError), "{offset} {value}");
        }
        let mut flags = row.to_vec();
        flags[1 + 2 + 25 + 1 + 1 + 1 + 64] = 2;
        assert_eq!(decoded(&flags), Err(RowError));
    }
}
