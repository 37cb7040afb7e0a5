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
    client::{Answer, ClientError, Found},
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
    Some(Answer { sii, mappings, damaged, answered_at_s, stale: false })
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
