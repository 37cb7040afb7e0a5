//! What an application provider's backend asks for its users: blind signatures
//! over their tokens, and what is left of its limits.

use super::{Registry, RegistryError};
use crate::{
    client::tokens::{SIGNATURE_BYTES, TokenSource, TokenSourceError},
    wire::{IssueTokens, LimitsTold, issued_from_proto, proto},
};

impl Registry {
    /// The caller's limits, and what is left of them.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn limits(&self) -> Result<LimitsTold, RegistryError> {
        let request = self.request(proto::GetLimitsRequest {});
        let response = self.quota.clone().get_limits(request).await;
        let response = response.map_err(|status| RegistryError::of(&status, self.deadline))?;
        Ok(response.into_inner().into())
    }

    /// Has the directory sign what users blinded. The provider sees neither
    /// their tokens nor their lookups; bound what each of them gets.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn issue_tokens(
        &self,
        issue: IssueTokens,
    ) -> Result<Vec<[u8; SIGNATURE_BYTES]>, RegistryError> {
        let asked = issue.blinded.len();
        let request = self.request(proto::IssueTokensRequest::from(issue));
        let response = self.quota.clone().issue_tokens(request).await;
        let response =
            response.map_err(|status| RegistryError::of(&status, self.deadline))?.into_inner();
        issued_from_proto(&response, asked).map_err(RegistryError::Malformed)
    }
}

/// A provider that looks up for itself, as a user of its own.
#[tonic::async_trait]
impl TokenSource for Registry {
    async fn issue(
        &self,
        request: IssueTokens,
    ) -> Result<Vec<[u8; SIGNATURE_BYTES]>, TokenSourceError> {
        let issued = self.issue_tokens(request).await;
        issued.map_err(|error| TokenSourceError(error.to_string()))
    }
}
