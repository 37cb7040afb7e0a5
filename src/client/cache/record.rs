//! The bytes of an entry in the state: records of whole blocks, so that a
//! common hit takes no more room than a miss.
//!
//! A record that this code did not write is damage, whatever its checksum.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    Marks,
    entry::{Aside, Entry, Key, Outcome, Outputs},
};
use crate::{
    bucket::{Audience, BucketNumber, MAX_MAPPINGS, MappingError, Placement, PrefixBits},
    client::{Answer, ClientError, Distrust, Found, Unverified},
    epoch::Epoch,
    identifier::{Provider, Sii, Ssi, User},
    secret::Secret,
};

/// Records are multiples of this.
const BLOCK_BYTES: usize = 256;

/// Blocks of the longest record: two epochs, sixteen mappings of the longest
/// names, and the longest identifier.
const MAX_BLOCKS: u8 = 8;

/// Bytes of the longest record.
pub(super) const MAX_BYTES: usize = MAX_BLOCKS as usize * BLOCK_BYTES;

const DECOY: u8 = 0;
const ANSWERED: u8 = 1;
const FORGED: u8 = 2;
const UNKNOWN: u8 = 3;
const CHANGED: u8 = 4;

const BUSINESS: u8 = 1;
const DEFAULT: u8 = 2;
const CIRCLE: u8 = 4;

/// Appends an entry; nothing if it is longer than its types allow.
pub(super) fn write(entry: &Entry, out: &mut Zeroizing<Vec<u8>>) {
    // Room for all of it, so that no copy of secrets is left behind by growing.
    let mut record = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    record.push(0);
    record.push(match &entry.outcome {
        None => DECOY,
        Some(Ok(_)) => ANSWERED,
        Some(Err(ClientError::MappingForged { .. })) => FORGED,
        Some(Err(ClientError::ProviderUnknown { .. })) => UNKNOWN,
        Some(Err(ClientError::ProviderKeyChanged { .. })) => CHANGED,
        // No other error concerns one identifier.
        Some(Err(_)) => return,
    });
    record.extend_from_slice(&entry.asked_at_s.to_be_bytes());
    record.extend_from_slice(entry.placement.expose());
    record.push(entry.bits.get());
    record.extend_from_slice(&entry.version.to_be_bytes());
    record.extend_from_slice(&entry.mark_to_store().to_be_bytes());
    lp(&mut record, entry.key.as_bytes());
    record.push(u8::try_from(entry.outputs.len()).unwrap_or(u8::MAX));
    for (epoch, outputs) in &entry.outputs {
        record.extend_from_slice(&epoch.get().to_be_bytes());
        record.extend_from_slice(outputs.open.expose());
        record.push(outputs.circle.is_some().into());
        if let Some(circle) = &outputs.circle {
            record.extend_from_slice(circle.expose());
        }
    }
    write_outcome(&mut record, entry.outcome.as_ref());
    let blocks = record.len().div_ceil(BLOCK_BYTES);
    let (Ok(count), Some(first)) = (u8::try_from(blocks), record.first_mut()) else { return };
    if count > MAX_BLOCKS {
        return;
    }
    *first = count;
    record.resize(blocks * BLOCK_BYTES, 0);
    out.extend_from_slice(&record);
}

fn write_outcome(record: &mut Vec<u8>, outcome: Option<&Outcome>) {
    match outcome {
        Some(Ok(answer)) => {
            record.push(u8::try_from(answer.damaged).unwrap_or(u8::MAX));
            record.push(u8::try_from(answer.mappings.len()).unwrap_or(u8::MAX));
            for found in &answer.mappings {
                lp(record, found.ssi.provider().as_str().as_bytes());
                lp(record, found.ssi.user().as_str().as_bytes());
                let flag = |set, flag| if set { flag } else { 0 };
                record.push(
                    flag(found.audience == Audience::Business, BUSINESS)
                        | flag(found.default, DEFAULT)
                        | flag(found.circle, CIRCLE),
                );
                record.extend_from_slice(&found.ttl_s.to_be_bytes());
                record.extend_from_slice(&found.verified_until_s.to_be_bytes());
            }
            record.push(u8::try_from(answer.unverified.len()).unwrap_or(u8::MAX));
            for Unverified { provider, distrust } in &answer.unverified {
                record.push(match distrust {
                    Distrust::Forged => FORGED,
                    Distrust::ProviderUnknown => UNKNOWN,
                    Distrust::KeyChanged => CHANGED,
                });
                lp(record, provider.as_str().as_bytes());
            }
        }
        Some(Err(
            ClientError::MappingForged { provider, .. }
            | ClientError::ProviderUnknown { provider }
            | ClientError::ProviderKeyChanged { provider },
        )) => lp(record, provider.as_str().as_bytes()),
        Some(Err(_)) | None => {}
    }
}

/// Length, then bytes. All that is written is far shorter than 2^16.
fn lp(record: &mut Vec<u8>, bytes: &[u8]) {
    record.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    record.extend_from_slice(bytes);
}

/// Takes an entry off the front. `None`: damaged.
pub(super) fn read(bytes: &mut &[u8], marks: &Marks) -> Option<Entry> {
    let blocks = *bytes.first().filter(|blocks| (1..=MAX_BLOCKS).contains(*blocks))?;
    let (record, rest) = bytes.split_at_checked(usize::from(blocks) * BLOCK_BYTES)?;
    *bytes = rest;
    let mut record = Reader(record.get(1..)?);
    let kind = record.u8()?;
    let asked_at_s = u64::from_be_bytes(record.take()?);
    let placement = Placement::from_bytes(record.take()?);
    let bits = PrefixBits::new(record.u8()?.into()).ok()?;
    let version = u64::from_be_bytes(record.take()?);
    let mark = u64::from_be_bytes(record.take()?);
    let key = Key::of(record.lp()?);
    let outputs = (0..record.u8()?)
        .map(|_| {
            let epoch = Epoch::new(u32::from_be_bytes(record.take()?))?;
            let open = Secret::new(record.take()?);
            let circle = if record.flag()? { Some(Secret::new(record.take()?)) } else { None };
            Some((epoch, Outputs { open, circle }))
        })
        .collect::<Option<Vec<_>>>()?;
    let outcome = match kind {
        DECOY => None,
        ANSWERED => Some(Ok(Arc::new(read_answer(&mut record, &key, asked_at_s)?))),
        FORGED => {
            let (provider, fault) = (record.provider()?, MappingError::Signature);
            Some(Err(ClientError::MappingForged { provider, fault }))
        }
        UNKNOWN => Some(Err(ClientError::ProviderUnknown { provider: record.provider()? })),
        CHANGED => Some(Err(ClientError::ProviderKeyChanged { provider: record.provider()? })),
        _ => return None,
    };
    if record.0.len() >= BLOCK_BYTES || record.0.iter().any(|byte| *byte != 0) {
        return None;
    }
    let number: BucketNumber = placement.bucket(bits);
    let mark = marks.restore((bits, number), mark);
    let aside = Aside::default();
    let entry = Entry { key, placement, asked_at_s, bits, version, mark, outputs, outcome, aside };
    entry.mark_to_store();
    Some(entry)
}

fn read_answer(record: &mut Reader<'_>, key: &Key, answered_at_s: u64) -> Option<Answer> {
    let sii = Sii::from_stored(std::str::from_utf8(key.as_bytes()).ok()?)?;
    let damaged = record.u8()?.into();
    let count = record.u8()?;
    if usize::from(count) > 2 * MAX_MAPPINGS {
        return None;
    }
    let mappings = (0..count).map(|_| {
        let provider = record.provider()?;
        let user = User::from_canonical(record.text()?).ok()?;
        let flags = record.u8()?;
        if flags & !(BUSINESS | DEFAULT | CIRCLE) != 0 {
            return None;
        }
        let business = flags & BUSINESS != 0;
        Some(Found {
            ssi: Ssi::new(provider, user).ok()?,
            audience: if business { Audience::Business } else { Audience::Personal },
            default: flags & DEFAULT != 0,
            circle: flags & CIRCLE != 0,
            ttl_s: u32::from_be_bytes(record.take()?),
            verified_until_s: u32::from_be_bytes(record.take()?),
        })
    });
    let mappings = mappings.collect::<Option<_>>()?;
    let count = record.u8()?;
    if usize::from(count) > 2 * MAX_MAPPINGS {
        return None;
    }
    let unverified = (0..count).map(|_| {
        let distrust = match record.u8()? {
            FORGED => Distrust::Forged,
            UNKNOWN => Distrust::ProviderUnknown,
            CHANGED => Distrust::KeyChanged,
            _ => return None,
        };
        Some(Unverified { provider: record.provider()?, distrust })
    });
    let unverified = unverified.collect::<Option<_>>()?;
    Some(Answer { sii, mappings, unverified, damaged, answered_at_s, stale: false })
}

/// What is left of a record.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn lp(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.take()?);
        let (taken, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.lp()?).ok()
    }

    fn provider(&mut self) -> Option<Provider> {
        Provider::from_canonical(self.text()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::marks::Mark, wire::Invalidation};

    fn sii() -> Sii {
        Sii::from_canonical("tel:+14155550100").unwrap()
    }

    fn provider() -> Provider {
        Provider::parse("wa.example").unwrap()
    }

    fn found(user: &str, circle: bool) -> Found {
        Found {
            ssi: Ssi::new(provider(), User::parse(user).unwrap()).unwrap(),
            audience: if circle { Audience::Business } else { Audience::Personal },
            default: !circle,
            circle,
            ttl_s: 3600,
            verified_until_s: 77,
        }
    }

    fn answer(mappings: Vec<Found>, damaged: usize) -> Arc<Answer> {
        let unverified = [Distrust::Forged, Distrust::ProviderUnknown, Distrust::KeyChanged]
            .map(|distrust| Unverified { provider: provider(), distrust });
        let unverified = unverified.into_iter().take(damaged).collect();
        Arc::new(Answer {
            sii: sii(),
            mappings,
            unverified,
            damaged,
            answered_at_s: 9,
            stale: false,
        })
    }

    fn entry(outcome: Option<Outcome>, epochs: u32, in_circle: bool) -> Entry {
        let outputs = (1..=epochs).map(|epoch| {
            let output = |fill: u32| Secret::new([u8::try_from(fill).unwrap(); 64]);
            let circle = in_circle.then(|| output(10 + epoch));
            (Epoch::new(epoch).unwrap(), Outputs { open: output(epoch), circle })
        });
        Entry {
            key: Key::of(sii().as_bytes()),
            placement: Placement::of(&sii()),
            asked_at_s: 9,
            bits: PrefixBits::new(12).unwrap(),
            version: 5,
            mark: Arc::new(Mark::default()),
            outputs: outputs.collect(),
            outcome,
            aside: Aside::default(),
        }
    }

    fn bytes(entry: &Entry) -> Vec<u8> {
        let mut bytes = Zeroizing::new(Vec::new());
        write(entry, &mut bytes);
        bytes.to_vec()
    }

    fn outcomes() -> Vec<Option<Outcome>> {
        let fault = MappingError::Signature;
        vec![
            None,
            Some(Ok(answer(vec![], 0))),
            Some(Ok(answer(vec![], 3))),
            Some(Ok(answer(vec![found("alice", false)], 0))),
            Some(Ok(answer(vec![found("alice", false), found("work", true)], 1))),
            Some(Err(ClientError::MappingForged { provider: provider(), fault })),
            Some(Err(ClientError::ProviderUnknown { provider: provider() })),
            Some(Err(ClientError::ProviderKeyChanged { provider: provider() })),
        ]
    }

    #[test]
    fn every_outcome_is_read_as_it_was_written() {
        let marks = Marks::default();
        let mut all = Vec::new();
        let mut entries = Vec::new();
        for outcome in outcomes() {
            for epochs in 0..=2 {
                let entry = entry(outcome.clone(), epochs, epochs == 2);
                all.extend(bytes(&entry));
                entries.push(entry);
            }
        }
        let mut rest = all.as_slice();
        for entry in entries {
            let read = read(&mut rest, &marks).unwrap();
            assert_eq!(read.key.as_bytes(), entry.key.as_bytes());
            assert!(read.placement == entry.placement);
            assert_eq!((read.asked_at_s, read.bits, read.version), (9, entry.bits, 5));
            assert_eq!(read.outputs.len(), entry.outputs.len());
            for ((one, read), (other, wrote)) in read.outputs.iter().zip(&entry.outputs) {
                assert_eq!(one, other);
                assert!(read.open == wrote.open && read.circle == wrote.circle);
            }
            assert_eq!(format!("{:?}", read.outcome), format!("{:?}", entry.outcome));
            match (&read.outcome, &entry.outcome) {
                (Some(Ok(read)), Some(Ok(wrote))) => assert_eq!(read, wrote),
                (read, wrote) => assert_eq!(read.is_none(), wrote.is_none()),
            }
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_common_hit_a_miss_and_a_refusal_take_the_same_room() {
        for outcome in outcomes().into_iter().flatten() {
            let mappings = outcome.as_ref().map_or(0, |answer| answer.mappings.len());
            if mappings < 2 {
                assert_eq!(bytes(&entry(Some(outcome), 1, false)).len(), BLOCK_BYTES);
            }
        }
    }

    #[test]
    fn the_longest_answer_fits_a_record() {
        let long = "m".repeat(crate::identifier::MAX_SSI_BYTES - "wa.example".len());
        let mappings = (0..2 * MAX_MAPPINGS).map(|n| found(&long, n % 2 == 0)).collect();
        let mut longest = entry(Some(Ok(answer(mappings, 16))), 2, true);
        let local = "l".repeat(64);
        let sii = format!("mailto:{local}@{}.example", "d.".repeat(80) + "d");
        longest.key = Key::of(sii.as_bytes());
        let bytes = bytes(&longest);
        assert!(bytes.len() <= MAX_BYTES);
        assert!(read(&mut bytes.as_slice(), &Marks::default()).is_some());
    }

    #[test]
    fn a_mark_is_read_and_goes_on_being_raised() {
        let marks = Marks::default();
        let mut entry = entry(Some(Ok(answer(vec![], 0))), 1, false);
        let number = entry.placement.bucket(entry.bits);
        entry.mark = marks.of(entry.bits, [number].into_iter()).remove(0);
        let change = |marks: &Marks, version| {
            marks.changed(entry.bits, &[Invalidation { number, version }]);
        };
        change(&marks, 6);
        assert!(entry.has_news());
        let stored = bytes(&entry);
        assert!(!entry.has_news());
        let later = Marks::default();
        let read = read(&mut stored.as_slice(), &later).unwrap();
        assert_eq!(read.mark.get(), 6);
        assert!(!read.has_news());
        assert!(read.outcome(9).unwrap().unwrap().stale);
        change(&later, 8);
        assert_eq!(read.mark.get(), 8);
        assert!(read.has_news());
    }

    #[test]
    fn what_was_not_written_here_is_damage() {
        let good = bytes(&entry(Some(Ok(answer(vec![found("alice", false)], 0))), 1, false));
        let read = |bytes: &[u8]| read(&mut &*bytes, &Marks::default()).is_some();
        assert!(read(&good));
        for length in 0..good.len() {
            assert!(!read(&good[..length]), "{length}");
        }
        let key = 2 + 8 + 32 + 1 + 8 + 8;
        let outputs = key + 2 + sii().as_bytes().len();
        let mappings = outputs + 1 + 4 + 64 + 1 + 1;
        let flags = mappings + 1 + 2 + "wa.example".len() + 2 + "alice".len();
        for (offset, byte, what) in [
            (0, 0, "no blocks"),
            (0, 9, "too many blocks"),
            (1, 5, "kind"),
            (42, 33, "prefix bits"),
            (key, 0xff, "length of the key"),
            (key + 2, b'x', "scheme"),
            (outputs, 9, "outputs"),
            (outputs + 4, 0, "epoch"),
            (outputs + 69, 2, "flag of the circle"),
            (mappings, 17, "mappings"),
            (mappings + 3, b'W', "provider"),
            (flags, 8, "flags"),
            (good.len() - 1, 1, "padding"),
        ] {
            let mut bad = good.clone();
            assert_ne!(bad[offset], byte, "{what}");
            bad[offset] = byte;
            assert!(!read(&bad), "{what}");
        }
    }
}
