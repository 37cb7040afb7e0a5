//! What an application provider or an authority asks of a directory's
//! registry: a typed call for each method of `RegistryService`.
//!
//! The server knows the caller by its client certificate. A call is sent once: who
//! gets no answer does not know whether it was done, and asks again; a claim that
//! was done then says that its proof was used.

mod error;
mod tokens;

use std::{fmt, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, transport::Channel};
use zeroize::Zeroizing;

pub use self::error::RegistryError;
use super::connect;
use crate::wire::{
    Checkpoint, Invalidations, Watch, WireError,
    proto::{
        self, quota_service_client::QuotaServiceClient,
        registry_service_client::RegistryServiceClient,
    },
    registry::{
        ChallengeStarted, Claim, Claimed, FinishVerification, List, Listed, Outcome, Port, Ported,
        Release, Released, SetPreferences, StartChallenge, StartVerification, VerificationFinished,
        VerificationStarted,
    },
};

/// Room for a page of the longest mappings.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Claims of a stream that were sent and not answered yet, at most.
const AHEAD: usize = 64;

/// How to reach a registry, and as whom.
#[derive(Clone)]
pub struct RegistryOptions {
    /// `https://HOST[:PORT]`, or `http://HOST[:PORT]` for what is everybody's.
    pub server: String,
    /// The PEM certificates that may sign the server's; the Web's roots when
    /// there are none.
    pub ca_pem: Option<Vec<u8>>,
    /// The caller's certificate chain and private key, PEM.
    pub certificate: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// How long one call may take; a stream has no end of its own.
    pub deadline: Duration,
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions").field("server", &self.server).finish_non_exhaustive()
    }
}

impl RegistryOptions {
    /// The defaults for the directory at this address.
    #[must_use]
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            ca_pem: None,
            certificate: None,
            deadline: Duration::from_secs(30),
        }
    }
}

type Stub = RegistryServiceClient<Channel>;

/// The registry of one directory, for one caller. Clones share the connection.
#[derive(Clone)]
pub struct Registry {
    stub: Stub,
    quota: QuotaServiceClient<Channel>,
    deadline: Duration,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry(..)")
    }
}

impl Registry {
    /// Prepares the connection; it is made by the first call.
    ///
    /// # Errors
    /// The address or a certificate is of no use.
    pub fn open(options: &RegistryOptions) -> Result<Self, RegistryError> {
        let channel = connect::partner_channel(options)?;
        let quota = QuotaServiceClient::new(channel.clone());
        let stub = Stub::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { stub, quota, deadline: options.deadline })
    }

    /// Has a one-time code sent.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn start_verification(
        &self,
        start: StartVerification,
    ) -> Result<VerificationStarted, RegistryError> {
        let request = self.request(proto::StartVerificationRequest::from(start));
        self.answered(self.stub.clone().start_verification(request).await)
    }

    /// Gives the code back for a claim token.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn finish_verification(
        &self,
        finish: FinishVerification,
    ) -> Result<VerificationFinished, RegistryError> {
        let request = self.request(proto::FinishVerificationRequest::from(finish));
        self.checked(self.stub.clone().finish_verification(request).await)
    }

    /// Opens a challenge for a `PASSporT` or an OIDC `id_token`.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn start_challenge(
        &self,
        start: StartChallenge,
    ) -> Result<ChallengeStarted, RegistryError> {
        let request = self.request(proto::StartChallengeRequest::from(start));
        self.checked(self.stub.clone().start_challenge(request).await)
    }

    /// Claims an identifier for a user.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, RegistryError> {
        let request = self.request(proto::ClaimRequest::from(claim));
        self.answered(self.stub.clone().claim(request).await)
    }

    /// Claims many. Claims are taken from the stream as the server takes them;
    /// outcomes come in any order, each with the place of its claim.
    ///
    /// # Errors
    /// [`RegistryError`]: the stream as a whole is refused or breaks, which says
    /// nothing of claims without an outcome.
    pub async fn claim_many<S>(
        &self,
        claims: S,
    ) -> Result<impl Stream<Item = Result<Outcome, RegistryError>> + use<S>, RegistryError>
    where
        S: Stream<Item = Claim> + Send + 'static,
    {
        // What is claimed waits here, a bounded number, until the server takes it.
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            let mut claims = std::pin::pin!(claims);
            while let Some(claim) = claims.next().await {
                if sender.send(proto::ClaimManyRequest::from(claim)).await.is_err() {
                    break;
                }
            }
        });
        let request = Request::new(ReceiverStream::new(receiver));
        let deadline = self.deadline;
        let answers = self.stub.clone().claim_many(request).await;
        let answers = answers.map_err(|status| RegistryError::of(&status, deadline))?.into_inner();
        Ok(answers.map(move |answer| {
            let answer = answer.map_err(|status| RegistryError::of(&status, deadline))?;
            Outcome::try_from(answer).map_err(RegistryError::Malformed)
        }))
    }

    /// Changes preferences.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn set_preferences(&self, set: SetPreferences) -> Result<(), RegistryError> {
        let request = self.request(proto::SetPreferencesRequest::from(set));
        let answer = self.stub.clone().set_preferences(request).await;
        answer.map(drop).map_err(|status| RegistryError::of(&status, self.deadline))
    }

    /// Removes mappings.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn release(&self, release: Release) -> Result<Released, RegistryError> {
        let request = self.request(proto::ReleaseRequest::from(release));
        self.answered(self.stub.clone().release(request).await)
    }

    /// Moves an identifier from one operator to another.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn port(&self, port: Port) -> Result<Ported, RegistryError> {
        let request = self.request(proto::PortRequest::from(port));
        self.answered(self.stub.clone().port(request).await)
    }

    /// One page of mappings, or all of one identifier.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn list(&self, list: List) -> Result<Listed, RegistryError> {
        let request = self.request(proto::ListRequest::from(list));
        self.checked(self.stub.clone().list(request).await)
    }

    /// All of the caller's own mappings, page after page, to whoever takes them.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached; pages before were handed on.
    pub async fn list_all(
        &self,
        page_size: u32,
        mut take: impl FnMut(Listed),
    ) -> Result<(), RegistryError> {
        let mut page_token = Bytes::new();
        loop {
            let page = self.list(List::Own { page_token, page_size }).await?;
            page_token = page.next_page_token.clone();
            take(page);
            if page_token.is_empty() {
                return Ok(());
            }
        }
    }

    /// Which buckets change, from a checkpoint on or from now on. It ends when the
    /// server stops or the connection breaks; go on from the last checkpoint
    /// then.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn watch_invalidations(
        &self,
        watch: Watch,
    ) -> Result<impl Stream<Item = Result<Invalidations, RegistryError>> + use<>, RegistryError>
    {
        let mut known = watch.checkpoint.as_ref().map(Checkpoint::prefix_bits);
        let request = Request::new(proto::WatchInvalidationsRequest::from(watch));
        let deadline = self.deadline;
        let told = self.stub.clone().watch_invalidations(request).await;
        let told = told.map_err(|status| RegistryError::of(&status, deadline))?.into_inner();
        Ok(told.map(move |told| {
            let told = told.map_err(|status| RegistryError::of(&status, deadline))?;
            let told = Invalidations::check(told, known).map_err(RegistryError::Malformed)?;
            if let Some(checkpoint) = &told.checkpoint {
                known = Some(checkpoint.prefix_bits());
            }
            Ok(told)
        }))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    fn answered<P, T: From<P>>(
        &self,
        answer: Result<Response<P>, Status>,
    ) -> Result<T, RegistryError> {
        let answer = answer.map_err(|status| RegistryError::of(&status, self.deadline))?;
        Ok(answer.into_inner().into())
    }

    fn checked<P, T: TryFrom<P, Error = WireError>>(
        &self,
        answer: Result<Response<P>, Status>,
    ) -> Result<T, RegistryError> {
        let answer = answer.map_err(|status| RegistryError::of(&status, self.deadline))?;
        answer.into_inner().try_into().map_err(RegistryError::Malformed)
    }
}
