//! Where one-time codes go out: a trait, and a spool folder for development.

use std::{
    error::Error,
    fmt,
    fs::{DirBuilder, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::identifier::{Provider, Sii};

/// A code on its way to its user. `Debug` prints neither user nor code.
pub struct CodeMessage {
    pub(super) to: Sii,
    pub(super) provider: Provider,
    pub(super) text: Zeroizing<String>,
    pub(super) id: [u8; 16],
    pub(super) expires_s: u64,
}

impl CodeMessage {
    /// The number or address to send it to.
    #[must_use]
    pub const fn to(&self) -> &Sii {
        &self.to
    }

    /// The provider that the text names.
    #[must_use]
    pub const fn provider(&self) -> &Provider {
        &self.provider
    }

    /// What the user reads.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Names the message: random.
    #[must_use]
    pub const fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// From then on the code is refused.
    #[must_use]
    pub const fn expires_s(&self) -> u64 {
        self.expires_s
    }
}

impl fmt::Debug for CodeMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeMessage(..)")
    }
}

/// A code could not be sent. Must not repeat the message.
#[derive(Debug, thiserror::Error)]
#[error("the code could not be sent: {0}")]
pub struct SendError(pub Box<dyn Error + Send + Sync>);

/// Sends codes.
#[async_trait]
pub trait CodeSender: Send + Sync {
    /// Hands the message over to whoever delivers it.
    ///
    /// # Errors
    /// It was not taken over.
    async fn send(&self, message: CodeMessage) -> Result<(), SendError>;
}

/// Writes each message into a file of a folder, for development: whoever reads
/// the folder can claim anybody.
#[derive(Debug)]
pub struct SpoolSender {
    folder: PathBuf,
}

impl SpoolSender {
    /// Makes the folder, readable by its owner only.
    ///
    /// # Errors
    /// The file system's.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        Ok(Self { folder: folder.into() })
    }
}

#[async_trait]
impl CodeSender for SpoolSender {
    async fn send(&self, message: CodeMessage) -> Result<(), SendError> {
        let path = self.folder.join(format!("{:032x}.txt", u128::from_be_bytes(message.id)));
        tokio::task::spawn_blocking(move || write(&path, &message))
            .await
            .map_err(|error| SendError(error.into()))?
            .map_err(|error| SendError(error.into()))
    }
}

/// Headers, a blank line, the text: as a mail spool has it.
fn write(path: &Path, message: &CodeMessage) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let text = Zeroizing::new(format!(
        "To: {}\nProvider: {}\nExpires: {}\n\n{}\n",
        message.to.as_str(),
        message.provider,
        message.expires_s,
        *message.text
    ));
    options.open(path)?.write_all(text.as_bytes())
}
