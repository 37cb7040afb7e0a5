//! interim
use crate::secret::Secret;
/// e
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OprfError {
    /// x
    #[error("x")]
    X,
}
/// k
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey([u8; 32]);
impl PublicKey {
    /// f
    /// # Errors
    /// x
    pub fn from_bytes(b: &[u8]) -> Result<Self, OprfError> {
        b.try_into().map(Self).map_err(|_| OprfError::X)
    }
    /// b
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}
/// s
pub struct ServerKey([u8; 32]);
impl ServerKey {
    /// d
    /// # Errors
    /// x
    pub fn derive(seed: &Secret<32>, info: &[u8]) -> Result<Self, OprfError> {
        Ok(Self(*blake3::keyed_hash(seed.expose(), info).as_bytes()))
    }
    /// p
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        PublicKey(self.0)
    }
}
