//! What the tests of proofs share.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use blindbook::{
    identifier::{Provider, Sii},
    registry::proof::{CodeMessage, CodeSender, MemoryPending, Pending, SendError},
};
use rand::{TryCryptoRng, TryRng};

pub(crate) const NOW_S: u64 = 1_800_000_000;

pub(crate) fn sii(text: &str) -> Sii {
    Sii::from_canonical(text).unwrap()
}

pub(crate) fn provider(name: &str) -> Provider {
    Provider::from_canonical(name).unwrap()
}

pub(crate) fn pending() -> Arc<dyn Pending> {
    Arc::new(MemoryPending::new(10_000))
}

/// Gives out the given bytes, over and over.
pub(crate) struct Given(VecDeque<u8>);

impl Given {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes.iter().copied().collect())
    }
}

impl TryRng for Given {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = self.0[0];
            self.0.rotate_left(1);
        }
        Ok(())
    }
}

impl TryCryptoRng for Given {}

/// Keeps what was sent, or refuses to send.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) sent: Mutex<Vec<CodeMessage>>,
    pub(crate) broken: Mutex<bool>,
}

impl Outbox {
    /// The newest message's code: its text begins with it.
    pub(crate) fn code(&self) -> String {
        let sent = self.sent.lock().unwrap();
        sent.last().unwrap().text().chars().take_while(char::is_ascii_digit).collect()
    }
}

#[async_trait]
impl CodeSender for Outbox {
    async fn send(&self, message: CodeMessage) -> Result<(), SendError> {
        if *self.broken.lock().unwrap() {
            return Err(SendError("no line".into()));
        }
        self.sent.lock().unwrap().push(message);
        Ok(())
    }
}

/// A refusal's name.
pub(crate) fn name(error: &dyn std::fmt::Debug) -> String {
    format!("{error:?}").split(['(', ' ']).next().unwrap().to_owned()
}
