//! What is searched for, in all its forms, and the search.

use std::collections::HashMap;

use base64::Engine as _;
use blindbook::{bucket::Placement, identifier::Sii};

use crate::estate::text;

/// What may stand nowhere, in each form in which it could be written.
#[derive(Default)]
pub(super) struct Canaries(Vec<Vec<u8>>);

impl Canaries {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.push(bytes.to_vec());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.push(hex.to_uppercase().into_bytes());
        self.0.push(hex.into_bytes());
        let list: Vec<_> = bytes.iter().map(ToString::to_string).collect();
        self.0.push(list.join(", ").into_bytes());
        self.0.push(bytes.escape_ascii().to_string().into_bytes());
        for engine in
            [base64::engine::general_purpose::STANDARD, base64::engine::general_purpose::URL_SAFE]
        {
            // Wherever it stands among other bytes: what neighbours do not change.
            for before in 0..3 {
                let padded = [&vec![0; before][..], bytes].concat();
                let whole = padded.len() / 3 * 3;
                let encoded = engine.encode(&padded[..whole]);
                let first = if before == 0 { 0 } else { 4 };
                self.0.push(encoded.as_bytes()[first..].to_vec());
            }
        }
    }

    pub(super) fn sii(&mut self, sii: &str) {
        let parsed = Sii::parse(sii, None).unwrap();
        self.bytes(sii.as_bytes());
        self.bytes(parsed.as_bytes());
        let placement = *Placement::of(&parsed).expose();
        // Eight bytes are no accident, and more than any prefix.
        for part in [&placement[..8], &placement[8..16], &placement[24..]] {
            self.bytes(part);
        }
    }

    /// Shorter ones are found anywhere by accident.
    const LEAST: usize = 6;

    /// By how each begins.
    pub(super) fn index(&self) -> HashMap<[u8; 4], Vec<&[u8]>> {
        let mut index: HashMap<[u8; 4], Vec<&[u8]>> = HashMap::new();
        for canary in self.0.iter().filter(|canary| canary.len() >= Self::LEAST) {
            index.entry(*canary.first_chunk().unwrap()).or_default().push(canary);
        }
        index
    }
}

/// The canaries that are there, none of which should be.
pub(super) fn found(index: &HashMap<[u8; 4], Vec<&[u8]>>, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, begins) in bytes.windows(4).enumerate() {
        let begins: [u8; 4] = begins.try_into().unwrap();
        let Some(canaries) = index.get(&begins) else { continue };
        let there = |canary: &&&[u8]| bytes[at..].starts_with(canary);
        found.extend(canaries.iter().filter(there).map(|canary| text(canary)));
    }
    found
}
