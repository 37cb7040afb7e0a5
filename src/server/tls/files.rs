//! The files that TLS is made of, and who looks whether they changed: when asked
//! to, and by a digest of their content every few seconds.

use std::{convert::Infallible, fs, path::PathBuf, time::Duration};

use tokio::{sync::Notify, time::sleep};
use zeroize::Zeroizing;

use super::{Clock, Lists, ServerError, Tls, TlsPem};

/// Where TLS lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// [`TlsPem::cert`].
    pub cert: PathBuf,
    /// [`TlsPem::key`].
    pub key: PathBuf,
    /// [`TlsPem::client_ca`].
    pub client_ca: Option<PathBuf>,
    /// [`TlsPem::client_crl`].
    pub client_crl: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads them and puts them in force.
    ///
    /// # Errors
    /// [`ServerError::Tls`] names the file that does not serve, and why.
    pub fn open(self, clock: Clock) -> Result<(Tls, TlsKeeper), ServerError> {
        let pem = self.read()?;
        let tls = Tls::new(&pem, clock).map_err(|error| self.named(error))?;
        let seen = Ok(digest(&pem));
        Ok((tls.clone(), TlsKeeper { files: self, tls, seen, lists: Lists::None }))
    }

    fn read(&self) -> Result<TlsPem, ServerError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|error| ServerError::Tls(format!("{}: {error}", path.display())))
        };
        Ok(TlsPem {
            cert: read(&self.cert)?,
            key: Zeroizing::new(read(&self.key)?),
            client_ca: self.client_ca.as_ref().map(read).transpose()?,
            client_crl: self.client_crl.as_ref().map(read).transpose()?,
        })
    }

    /// An error with the files that it is about.
    fn named(&self, error: ServerError) -> ServerError {
        let ServerError::Tls(why) = error else { return error };
        let part = why.split(": ").next().unwrap_or_default();
        let paths = [
            ("tls_cert", Some(&self.cert)),
            ("tls_key", Some(&self.key)),
            ("client_ca", self.client_ca.as_ref()),
            ("client_crl", self.client_crl.as_ref()),
        ];
        let named: Vec<String> = paths
            .into_iter()
            .filter(|(name, _)| part.split(' ').any(|word| word == *name))
            .filter_map(|(_, path)| Some(path?.display().to_string()))
            .collect();
        ServerError::Tls(format!("{why} ({})", named.join(", ")))
    }
}

/// What a look at the files came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// They are what they were.
    Unchanged,
    /// They changed and are in force.
    Done,
    /// They changed, and do not serve: the old ones stay in force.
    Refused,
}

/// Looks after the files of a [`Tls`].
#[derive(Debug)]
pub struct TlsKeeper {
    files: TlsFiles,
    tls: Tls,
    /// What was there the last time, or why it could not be read.
    seen: Result<[u8; 32], String>,
    /// What the log was told of the revocation lists.
    lists: Lists,
}

impl TlsKeeper {
    /// Looks once, and logs what changed, what does not serve, and which lists
    /// end.
    pub fn look(&mut self) -> Reload {
        let reload = self.reload();
        self.tell_lists();
        reload
    }

    /// Logs that lists end, once.
    fn tell_lists(&mut self) {
        let lists = self.tls.lists();
        if lists != self.lists {
            match lists {
                Lists::None | Lists::InDate => {}
                Lists::EndSoon => tracing::warn!(
                    "a list in client_crl ends within a day: fetch its authority's newest"
                ),
                Lists::Ended => tracing::error!(
                    "a list in client_crl has ended: partners of its authority are refused until a \
                     newer one is there"
                ),
            }
            self.lists = lists;
        }
    }

    fn reload(&mut self) -> Reload {
        let pem = match self.files.read() {
            Ok(pem) => pem,
            Err(error) => {
                let told = error.to_string();
                if self.seen.as_ref().err() == Some(&told) {
                    return Reload::Unchanged;
                }
                return self.refused(Err(told.clone()), &told);
            }
        };
        let found = Ok(digest(&pem));
        if found == self.seen {
            return Reload::Unchanged;
        }
        match self.tls.replace(&pem) {
            Ok(()) => {
                self.seen = found;
                tracing::info!("new TLS files are in force");
                Reload::Done
            }
            Err(error) => {
                let told = self.files.named(error).to_string();
                self.refused(found, &told)
            }
        }
    }

    fn refused(&mut self, seen: Result<[u8; 32], String>, told: &str) -> Reload {
        self.seen = seen;
        tracing::error!(error = told, "new TLS files do not serve: the old ones stay in force");
        Reload::Refused
    }

    /// Looks for ever: every `period`, and whenever it is `asked` to.
    pub async fn keep(mut self, period: Duration, asked: &Notify) -> Infallible {
        self.tell_lists();
        loop {
            let was_asked = tokio::select! {
                () = sleep(period) => false,
                () = asked.notified() => true,
            };
            // A few small files: shorter than a handshake takes.
            if self.look() == Reload::Unchanged && was_asked {
                tracing::info!("the TLS files are what they were");
            }
        }
    }
}

fn digest(pem: &TlsPem) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("blindbook v1 tls files");
    let parts = [Some(&pem.cert), Some(&*pem.key), pem.client_ca.as_ref(), pem.client_crl.as_ref()];
    for part in parts {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        hash.update(&length.to_be_bytes()).update(part.map_or(&[], Vec::as_slice));
    }
    hash.finalize().into()
}
