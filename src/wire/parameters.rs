//! The directory's parameters: one signed set for all clients.

use ed25519_dalek::{SigningKey, VerifyingKey};
use prost::Message as _;

use super::{
    SignedBody, WireError, array,
    pir::{pir_from_proto, pir_to_proto},
    proto,
    signed::Kind,
};
use crate::{
    bucket::{BUCKET_ENTRIES, DirectoryId, ENTRY_BYTES, PrefixBits},
    epoch::Epoch,
    oprf::PublicKey,
    pir::Shape,
};

/// Most epochs that are active at once: the old and the new of a rotation.
const MAX_EPOCHS: usize = 2;

const WIRE_ENTRY_BYTES: u32 = 192;
const WIRE_BUCKET_ENTRIES: u32 = 256;
const _: () = assert!(WIRE_ENTRY_BYTES as usize == ENTRY_BYTES);
const _: () = assert!(WIRE_BUCKET_ENTRIES as usize == BUCKET_ENTRIES);

/// Most regions that a directory names.
const MAX_REGIONS: usize = 512;

/// An epoch and its OPRF public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochKey {
    /// The epoch.
    pub epoch: Epoch,
    /// Its key.
    pub key: PublicKey,
}

/// What a client must know about a directory before it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The directory that they describe.
    pub directory: DirectoryId,
    /// Never falls.
    pub serial: u64,
    /// Valid from here on, seconds since 1970.
    pub not_before_s: u64,
    /// Valid until just before here, seconds since 1970.
    pub not_after_s: u64,
    /// Bits that number a bucket.
    pub prefix_bits: PrefixBits,
    /// One or two, ascending.
    pub epochs: Vec<EpochKey>,
    /// How long a client answers from its cache.
    pub refresh_period_s: u32,
    /// CLDR region codes that the directory serves; empty for all.
    pub regions: Vec<String>,
    /// The matrix of a partition, where buckets can be fetched without telling
    /// which.
    pub pir: Option<Shape>,
}

impl Parameters {
    /// Encodes and signs.
    #[must_use]
    pub fn sign(&self, identity: &SigningKey) -> SignedBody {
        let body = proto::Parameters {
            directory_id: self.directory.as_bytes().to_vec().into(),
            serial: self.serial,
            not_before_s: self.not_before_s,
            not_after_s: self.not_after_s,
            prefix_bits: self.prefix_bits.get().into(),
            entry_bytes: WIRE_ENTRY_BYTES,
            bucket_entries: WIRE_BUCKET_ENTRIES,
            epochs: self
                .epochs
                .iter()
                .map(|EpochKey { epoch, key }| proto::EpochKey {
                    epoch: epoch.get(),
                    public_key: key.to_bytes().to_vec().into(),
                })
                .collect(),
            refresh_period_s: self.refresh_period_s,
            regions: self.regions.clone(),
            pir: self.pir.map(pir_to_proto),
        };
        SignedBody::sign(Kind::Parameters, body.encode_to_vec(), identity)
    }

    /// Verifies the signature, then decodes and checks. Times and serial are
    /// the caller's to check.
    ///
    /// # Errors
    /// Not signed by `identity`, not of its directory, or malformed.
    pub fn verify(signed: &SignedBody, identity: &VerifyingKey) -> Result<Self, WireError> {
        signed.verify(Kind::Parameters, identity)?;
        let body = proto::Parameters::decode(signed.body.clone())
            .map_err(|_| WireError::Encoding("parameters"))?;
        let parameters = Self::check(body)?;
        if parameters.directory == DirectoryId::of(identity) {
            Ok(parameters)
        } else {
            Err(WireError::Rule { field: "directory_id", rule: "must be the identity key's" })
        }
    }

    /// The newest epoch's key.
    #[must_use]
    pub fn newest(&self) -> Option<&EpochKey> {
        self.epochs.last()
    }

    /// The key of an epoch.
    #[must_use]
    pub fn key(&self, epoch: Epoch) -> Option<&PublicKey> {
        self.epochs.iter().find(|known| known.epoch == epoch).map(|known| &known.key)
    }

    fn check(body: proto::Parameters) -> Result<Self, WireError> {
        let rule = |field, rule| WireError::Rule { field, rule };
        let directory = DirectoryId::from_bytes(array("directory_id", &body.directory_id)?);
        if body.not_before_s >= body.not_after_s {
            return Err(rule("not_after_s", "must be later than not_before_s"));
        }
        let prefix_bits = PrefixBits::new(body.prefix_bits)
            .map_err(|_| rule("prefix_bits", "must be at most 32"))?;
        if body.entry_bytes != WIRE_ENTRY_BYTES {
            return Err(rule("entry_bytes", "must be 192"));
        }
        if body.bucket_entries != WIRE_BUCKET_ENTRIES {
            return Err(rule("bucket_entries", "must be 256"));
        }
        if body.epochs.is_empty() || body.epochs.len() > MAX_EPOCHS {
            return Err(rule("epochs", "must be one or two"));
        }
        if !body.epochs.is_sorted_by(|one, next| one.epoch < next.epoch) {
            return Err(rule("epochs", "must ascend"));
        }
        let epochs = body
            .epochs
            .into_iter()
            .map(|known| {
                let epoch = Epoch::new(known.epoch)
                    .ok_or_else(|| rule("epochs.epoch", "must be at least 1"))?;
                let key = PublicKey::from_bytes(&known.public_key).map_err(|_| {
                    rule("epochs.public_key", "must be a canonical element, not the identity")
                })?;
                Ok(EpochKey { epoch, key })
            })
            .collect::<Result<_, WireError>>()?;
        let is_region =
            |code: &String| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase());
        if body.regions.len() > MAX_REGIONS || !body.regions.iter().all(is_region) {
            return Err(rule("regions", "must be CLDR region codes of two letters"));
        }
        Ok(Self {
            directory,
            serial: body.serial,
            not_before_s: body.not_before_s,
            not_after_s: body.not_after_s,
            prefix_bits,
            epochs,
            refresh_period_s: body.refresh_period_s,
            regions: body.regions,
            pir: pir_from_proto(body.pir, prefix_bits)?,
        })
    }
}

impl From<SignedBody> for proto::GetParametersResponse {
    fn from(signed: SignedBody) -> Self {
        Self { body: signed.body, signature: signed.signature.to_vec().into() }
    }
}

impl TryFrom<proto::GetParametersResponse> for SignedBody {
    type Error = WireError;

    fn try_from(response: proto::GetParametersResponse) -> Result<Self, WireError> {
        Self::from_parts(response.body, &response.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oprf::ServerKey, secret::Secret, wire::pir_shape};

    fn identity() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    fn parameters() -> Parameters {
        let key = |seed| ServerKey::derive(&Secret::new([seed; 32]), b"").unwrap().public_key();
        Parameters {
            directory: DirectoryId::of(&identity().verifying_key()),
            serial: 7,
            not_before_s: 100,
            not_after_s: 200,
            prefix_bits: PrefixBits::new(16).unwrap(),
            epochs: vec![
                EpochKey { epoch: Epoch::FIRST, key: key(1) },
                EpochKey { epoch: Epoch::new(2).unwrap(), key: key(2) },
            ],
            refresh_period_s: 86_400,
            regions: vec!["DE".into(), "US".into()],
            pir: Some(pir_shape(PrefixBits::new(16).unwrap())),
        }
    }

    #[test]
    fn signed_parameters_round_trip() {
        let signed = parameters().sign(&identity());
        let stored = SignedBody::from_bytes(&signed.to_bytes()).unwrap();
        let verified = Parameters::verify(&stored, &identity().verifying_key());
        assert_eq!(verified, Ok(parameters()));
    }

    #[test]
    fn another_body_key_or_kind_of_signature_is_refused() {
        let signed = parameters().sign(&identity());
        let key = identity().verifying_key();
        let refused = Err(WireError::Signature("parameters"));
        let mut altered = signed.body.to_vec();
        altered[20] ^= 1;
        let altered = SignedBody { body: altered.into(), ..signed.clone() };
        assert_eq!(Parameters::verify(&altered, &key), refused);
        let stranger = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(Parameters::verify(&signed, &stranger), refused);
        let as_providers = SignedBody::sign(Kind::Providers, signed.body.to_vec(), &identity());
        assert_eq!(Parameters::verify(&as_providers, &key), refused);
    }

    #[test]
    fn well_signed_nonsense_is_refused_by_field() {
        let good = proto::Parameters::decode(parameters().sign(&identity()).body).unwrap();
        let field = |alter: fn(&mut proto::Parameters)| {
            let mut body = good.clone();
            alter(&mut body);
            let signed = SignedBody::sign(Kind::Parameters, body.encode_to_vec(), &identity());
            Parameters::verify(&signed, &identity().verifying_key()).unwrap_err().field()
        };
        assert_eq!(field(|p| p.directory_id = vec![0; 16].into()), "directory_id");
        assert_eq!(field(|p| p.directory_id = vec![0; 15].into()), "directory_id");
        assert_eq!(field(|p| p.not_after_s = p.not_before_s), "not_after_s");
        assert_eq!(field(|p| p.prefix_bits = 33), "prefix_bits");
        assert_eq!(field(|p| p.entry_bytes = 128), "entry_bytes");
        assert_eq!(field(|p| p.bucket_entries = 255), "bucket_entries");
        assert_eq!(field(|p| p.epochs.clear()), "epochs");
        assert_eq!(field(|p| p.epochs.reverse()), "epochs");
        assert_eq!(field(|p| p.epochs.push(p.epochs[0].clone())), "epochs");
        assert_eq!(field(|p| p.epochs[0].epoch = 0), "epochs.epoch");
        assert_eq!(field(|p| p.epochs[0].public_key = vec![0; 32].into()), "epochs.public_key");
        assert_eq!(field(|p| p.epochs[0].public_key = vec![0xff; 32].into()), "epochs.public_key");
        assert_eq!(field(|p| p.regions[0] = "de".into()), "regions");
        let pir = |p: &mut proto::Parameters| p.pir.as_mut().unwrap().rows = 32_768;
        assert_eq!(field(pir), "pir");
        assert_eq!(field(|p| p.pir.as_mut().unwrap().row_bytes = 1), "pir");
        let signed = SignedBody::sign(Kind::Parameters, vec![0xff; 9], &identity());
        let refused = Parameters::verify(&signed, &identity().verifying_key());
        assert_eq!(refused, Err(WireError::Encoding("parameters")));
    }
}
