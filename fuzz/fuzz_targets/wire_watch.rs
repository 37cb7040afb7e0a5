//! Watching for changes: what a watcher asks for and is told, decoded and
//! checked.
//!
//! Input: one byte that chooses the message and the prefix bits that are known,
//! then its encoding. What is taken keeps every bound that the checked form
//! promises, and says the same after another trip over the wire.

#![no_main]

use blindbook::{
    bucket::PrefixBits,
    wire::{Checkpoint, Invalidations, MAX_INVALIDATIONS, Watch, WireError, proto},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use prost::Message as _;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, bytes)) = data.split_first() else { return Corpus::Reject };
    match choice % 3 {
        0 => request(bytes),
        1 => stored(bytes),
        // 33 and more are no prefix bits: nothing is known then.
        _ => told(bytes, PrefixBits::new(u32::from(choice / 3)).ok()),
    }
    Corpus::Keep
});

/// A refusal names a field, and nothing that came in.
fn refused(error: WireError) {
    let field = error.field();
    assert!(!field.is_empty());
    assert!(field.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'.')), "{field}");
    assert!(error.to_string().starts_with(field));
}

fn bounded(checkpoint: &Checkpoint) {
    let partitions = checkpoint.prefix_bits().partitions();
    assert_eq!(u32::try_from(checkpoint.sequences().len()), Ok(partitions));
}

fn request(bytes: &[u8]) {
    match Watch::decode(bytes) {
        Ok(watch) => {
            watch.checkpoint.iter().for_each(bounded);
            let back = proto::WatchInvalidationsRequest::from(watch.clone()).encode_to_vec();
            assert_eq!(Watch::decode(&back), Ok(watch));
        }
        Err(error) => refused(error),
    }
}

fn stored(bytes: &[u8]) {
    match Checkpoint::from_bytes(bytes) {
        Ok(checkpoint) => {
            bounded(&checkpoint);
            assert_eq!(Checkpoint::from_bytes(&checkpoint.to_bytes()), Ok(checkpoint));
        }
        Err(error) => refused(error),
    }
}

fn told(bytes: &[u8], known: Option<PrefixBits>) {
    match Invalidations::decode(bytes, known) {
        Ok(told) => {
            told.checkpoint.iter().for_each(bounded);
            let bits = told.checkpoint.as_ref().map(Checkpoint::prefix_bits).or(known);
            let bits = bits.expect("numbers have a depth");
            assert!(told.changed.len() <= MAX_INVALIDATIONS);
            for changed in &told.changed {
                assert!(u64::from(changed.number.get()) < bits.buckets());
                assert!(changed.version > 0);
            }
            let back = proto::WatchInvalidationsResponse::from(told.clone()).encode_to_vec();
            assert_eq!(Invalidations::decode(&back, known), Ok(told));
        }
        Err(error) => refused(error),
    }
}
