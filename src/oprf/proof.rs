//! The proof that a whole batch was evaluated with one key: RFC 9497
//! section 2.2, discrete logarithm equality. Everything but the key and the
//! nonce `r` is public, so only these two meet constant-time arithmetic.

use curve25519_dalek::{RistrettoPoint, Scalar, traits::VartimeMultiscalarMul as _};
use rand::CryptoRng;

use super::{
    OprfError, PROOF_BYTES, PublicKey,
    element::{Encoding, double_and_encode},
    scalar::SecretScalar,
    suite::{ELEMENT_LEN, HASH_LEN, Suite},
};

/// A proof as it travels, with scalars known to be canonical.
pub(super) struct Proof {
    c: Scalar,
    s: Scalar,
}

impl Proof {
    /// Decodes `c || s`, both below the group order.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, OprfError> {
        let proof: &[u8; PROOF_BYTES] =
            bytes.try_into().map_err(|_| OprfError::WrongProofLength { found: bytes.len() })?;
        let scalar = |bytes: Option<&[u8; 32]>| {
            bytes
                .and_then(|bytes| Option::from(Scalar::from_canonical_bytes(*bytes)))
                .ok_or(OprfError::MalformedProof)
        };
        Ok(Self { c: scalar(proof.first_chunk())?, s: scalar(proof.last_chunk())? })
    }

    fn to_bytes(&self) -> [u8; PROOF_BYTES] {
        let mut bytes = [0; PROOF_BYTES];
        let (c, s) = bytes.split_at_mut(32);
        c.copy_from_slice(self.c.as_bytes());
        s.copy_from_slice(self.s.as_bytes());
        bytes
    }
}

/// The weights `di` of `ComputeComposites`: one per element, from both sides'
/// encodings.
pub(super) fn composite_weights(
    suite: &Suite,
    key: &PublicKey,
    blinded: &[Encoding],
    evaluated: &[Encoding],
) -> Vec<Scalar> {
    let seed = suite.composite_seed(&key.to_bytes());
    let hasher = suite.hash_to_scalar_after(&[HASH_LEN.as_slice(), &seed].concat());

    (0..=u16::MAX)
        .zip(blinded.iter().zip(evaluated))
        .map(|(i, (c_i, d_i))| {
            hasher.scalar(&[&i.to_be_bytes(), &ELEMENT_LEN, c_i, &ELEMENT_LEN, d_i, b"Composite"])
        })
        .collect()
}

/// `GenerateProof` with `ComputeCompositesFast`, RFC 9497 section 2.2.1.
///
/// `secret` is the half of `key` that evaluated the `blinded` elements, whose
/// `weights` bind the results.
pub(super) fn generate(
    suite: &Suite,
    secret: &SecretScalar,
    key: &PublicKey,
    blinded: &[RistrettoPoint],
    weights: &[Scalar],
    rng: &mut impl CryptoRng,
) -> [u8; PROOF_BYTES] {
    let m = RistrettoPoint::vartime_multiscalar_mul(weights, blinded);
    let r = SecretScalar::random(rng);

    // Z = k * M, t2 = r * A, t3 = r * M.
    let [z, t2, t3] =
        double_and_encode(&[secret.half * m, RistrettoPoint::mul_base(&r.half), r.half * m]);
    let c = challenge(suite, key, &m.compress().to_bytes(), &z, &t2, &t3);
    Proof { c, s: r.whole - c * secret.whole }.to_bytes()
}

/// `VerifyProof` of RFC 9497 section 2.2.2, from half of the composite `M`
/// and the whole `Z`.
pub(super) fn verify(
    suite: &Suite,
    key: &PublicKey,
    m_half: &RistrettoPoint,
    z: &RistrettoPoint,
    proof: &Proof,
) -> Result<(), OprfError> {
    let c_half = proof.c.div_by_2();
    let s_half = proof.s.div_by_2();

    // t2 = s * A + c * B, t3 = s * M + c * Z.
    let t2_half =
        RistrettoPoint::vartime_double_scalar_mul_basepoint(&c_half, key.point(), &s_half);
    let t3_half = RistrettoPoint::vartime_multiscalar_mul([proof.s, c_half], [*m_half, *z]);
    let [m, t2, t3] = double_and_encode(&[*m_half, t2_half, t3_half]);

    if challenge(suite, key, &m, &z.compress().to_bytes(), &t2, &t3) == proof.c {
        Ok(())
    } else {
        Err(OprfError::InvalidProof)
    }
}

/// The challenge `c`, which binds key, composites and commitments.
fn challenge(
    suite: &Suite,
    key: &PublicKey,
    m: &Encoding,
    z: &Encoding,
    t2: &Encoding,
    t3: &Encoding,
) -> Scalar {
    let len = &ELEMENT_LEN;
    suite.hash_to_scalar(&[len, &key.to_bytes(), len, m, len, z, len, t2, len, t3, b"Challenge"])
}
