//! Entries of a bucket, as a server that knows the keys could have made them.
//!
//! Input: one byte that chooses the part, then bytes. A plaintext, sealed here
//! from the design's byte formats alone, is taken only if the library would have
//! written exactly it; and in a bucket that holds good and damaged entries in
//! any slots, exactly the good ones up to the first gap are found.

#![no_main]

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use blindbook::{
    bucket::{
        Audience, BUCKET_BYTES, BUCKET_ENTRIES, Bucket, BucketNumber, DirectoryId, ENTRY_BYTES,
        Entry, EntryKeys, MAX_MAPPINGS, Mapping, PrefixBits, SignedMapping,
    },
    epoch::Epoch,
    identifier::{Provider, Ssi, User},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use rand::{SeedableRng as _, rngs::StdRng};

const Y: [u8; 64] = [7; 64];
const DIRECTORY: [u8; 16] = [3; 16];
const PLAINTEXT_BYTES: usize = 156;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, bytes)) = data.split_first() else { return Corpus::Reject };
    match choice % 3 {
        0 => plaintext(bytes),
        1 => ciphertext(bytes),
        _ => bucket(bytes),
    }
    Corpus::Keep
});

fn directory() -> DirectoryId {
    DirectoryId::from_bytes(DIRECTORY)
}

/// `keyed_hash(derive_key("blindbook v1 entry key", y), u32 n)`.
fn cipher(n: u32) -> Aes256Gcm {
    let key = blake3::derive_key("blindbook v1 entry key", &Y);
    let key = blake3::keyed_hash(&key, &n.to_be_bytes());
    Aes256Gcm::new(key.as_bytes().into())
}

fn aad(n: u32) -> Vec<u8> {
    let epoch = 1_u32.to_be_bytes();
    [b"blindbook v1 entry".as_slice(), &DIRECTORY, &epoch, &n.to_be_bytes()].concat()
}

/// tag 8 | nonce 12 | ciphertext | GCM tag 16, around any plaintext.
fn seal(n: u32, plaintext: &[u8; PLAINTEXT_BYTES]) -> Entry {
    let tag = blake3::derive_key("blindbook v1 tag", &Y);
    let tag = blake3::keyed_hash(&tag, &n.to_be_bytes());
    let nonce = [5; 12];
    let payload = Payload { msg: plaintext, aad: &aad(n) };
    let sealed = cipher(n).encrypt(&nonce.into(), payload).expect("AES-GCM seals");
    let entry = [&tag.as_bytes()[..8], &nonce, &sealed].concat();
    Entry::from_bytes(entry.try_into().expect("an entry has 192 bytes"))
}

fn unseal(n: u32, entry: &Entry) -> Vec<u8> {
    let (nonce, sealed) = entry.as_bytes()[8..].split_first_chunk::<12>().expect("192 bytes");
    let payload = Payload { msg: sealed, aad: &aad(n) };
    cipher(n).decrypt(nonce.into(), payload).expect("the library sealed it as designed")
}

fn plaintext(bytes: &[u8]) {
    let mut plaintext = [0; PLAINTEXT_BYTES];
    for (to, from) in plaintext.iter_mut().zip(bytes) {
        *to = *from;
    }
    let keys = EntryKeys::of(&Y);
    let entry = seal(0, &plaintext);
    let opened = keys.open_all(&directory(), Epoch::FIRST, &[entry].into_iter());
    match keys.open(&directory(), Epoch::FIRST, 0, &entry) {
        Ok(mapping) => {
            assert_eq!(
                (opened.mappings.as_slice(), opened.damaged),
                ([mapping.clone()].as_slice(), 0)
            );
            let mut rng = StdRng::seed_from_u64(1);
            let again = keys
                .seal(&directory(), Epoch::FIRST, 0, &mapping, &mut rng)
                .expect("what was in an entry fits an entry");
            assert_eq!(unseal(0, &again), plaintext, "a mapping has one plaintext");
            assert_eq!(keys.open(&directory(), Epoch::FIRST, 0, &again).as_ref(), Ok(&mapping));
        }
        Err(_) => assert_eq!((opened.mappings.len(), opened.damaged), (0, 1)),
    }
}

/// Bytes that nobody sealed.
fn ciphertext(bytes: &[u8]) {
    let mut entry = [0; ENTRY_BYTES];
    for (to, from) in entry.iter_mut().zip(bytes) {
        *to = *from;
    }
    let keys = EntryKeys::of(&Y);
    for n in 0..MAX_MAPPINGS as u32 {
        assert!(keys.open(&directory(), Epoch::FIRST, n, &Entry::from_bytes(entry)).is_err());
    }
}

fn mapping(n: u32) -> SignedMapping {
    let user = User::parse(&format!("user-{n}")).expect("a user");
    let provider = Provider::parse("wa.example").expect("a provider");
    SignedMapping {
        mapping: Mapping {
            ssi: Ssi::new(provider, user).expect("fits"),
            audience: Audience::Personal,
            default_since: n,
            verified_until: 0,
            ttl_s: 1,
        },
        signature: [9; 64],
    }
}

/// Triples of n, slot, and where to damage (0 to 7: not at all).
fn bucket(bytes: &[u8]) {
    let keys = EntryKeys::of(&Y);
    let mut rng = StdRng::seed_from_u64(3);
    let mut entries: Vec<Entry> = (0..BUCKET_ENTRIES).map(|_| Entry::random(&mut rng)).collect();
    let mut placed: Vec<Option<(u32, bool)>> = vec![None; BUCKET_ENTRIES];
    for place in bytes.chunks_exact(3) {
        let (n, slot) = (u32::from(place[0]) % (MAX_MAPPINGS as u32 + 1), usize::from(place[1]));
        let sealed = keys
            .seal(&directory(), Epoch::FIRST, n, &mapping(n), &mut rng)
            .expect("the mapping fits");
        let mut sealed = *sealed.as_bytes();
        let at = usize::from(place[2]);
        // The first eight bytes are the tag, by which a damaged entry is found.
        let damaged = (8..ENTRY_BYTES).contains(&at);
        if damaged {
            sealed[at] ^= 0x40;
        }
        entries[slot] = Entry::from_bytes(sealed);
        placed[slot] = Some((n, damaged));
    }

    let (mut good, mut damaged) = (Vec::new(), 0);
    for n in 0..MAX_MAPPINGS as u32 {
        let tagged: Vec<bool> =
            placed.iter().flatten().filter(|(m, _)| *m == n).map(|(_, damaged)| *damaged).collect();
        if tagged.is_empty() {
            break;
        }
        if tagged.contains(&false) {
            good.push(mapping(n));
        } else {
            damaged += 1;
        }
    }

    let bits = PrefixBits::new(8).expect("few bits");
    let entries: Vec<u8> = entries.iter().flat_map(|entry| *entry.as_bytes()).collect();
    assert_eq!(entries.len(), BUCKET_BYTES);
    let number = BucketNumber::new(1, bits).expect("a small number");
    let bucket = Bucket::from_parts(Epoch::FIRST, bits, number, 1, entries.into(), [0; 64])
        .expect("the right length");
    let opened = keys.open_all(&directory(), Epoch::FIRST, &bucket.iter());
    assert_eq!(opened.mappings, good);
    assert_eq!(opened.damaged, damaged);
    let elsewhere = keys.open_all(&DirectoryId::from_bytes([4; 16]), Epoch::FIRST, &bucket.iter());
    assert!(elsewhere.mappings.is_empty());
}
