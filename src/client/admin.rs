//! What an administrator asks of a directory: a typed call for each method of
//! `AdminService`.
//!
//! ```no_run
//! use blindbook::client::{admin::Admin, registry::RegistryOptions};
//! # async fn example(pem: Vec<u8>, key: zeroize::Zeroizing<Vec<u8>>)
//! # -> Result<(), blindbook::client::registry::RegistryError> {
//! let mut options = RegistryOptions::new("https://dp.example");
//! options.certificate = Some((pem, key));
//! let admin = Admin::open(&options)?;
//! admin.list_all(100, |page| println!("{} partners", page.partners.len())).await
//! # }
//! ```

use std::{fmt, time::Duration};

use tonic::{Request, transport::Channel};

use super::{
    connect,
    registry::{RegistryError, RegistryOptions},
};
use crate::wire::{
    admin::{ListPartners, PartnersListed, PutPartner},
    proto::{self, admin_service_client::AdminServiceClient},
};

/// Room for a page of the longest partners.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The directory of partners, for one administrator. Clones share the
/// connection.
#[derive(Clone)]
pub struct Admin {
    stub: AdminServiceClient<Channel>,
    deadline: Duration,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin(..)")
    }
}

impl Admin {
    /// Prepares the connection; it is made by the first call.
    ///
    /// # Errors
    /// The address or a certificate is of no use.
    pub fn open(options: &RegistryOptions) -> Result<Self, RegistryError> {
        let channel = connect::partner_channel(options)?;
        let stub = AdminServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { stub, deadline: options.deadline })
    }

    /// Adds or changes a partner.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn put(&self, put: PutPartner) -> Result<(), RegistryError> {
        let request = self.request(proto::PutPartnerRequest::from(put));
        let answer = self.stub.clone().put_partner(request).await;
        answer.map(drop).map_err(|status| RegistryError::of(&status, self.deadline))
    }

    /// Removes a partner by the URI of its certificate.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn remove(&self, uri: impl Into<String>) -> Result<(), RegistryError> {
        let request = self.request(proto::RemovePartnerRequest { uri: uri.into() });
        let answer = self.stub.clone().remove_partner(request).await;
        answer.map(drop).map_err(|status| RegistryError::of(&status, self.deadline))
    }

    /// One page of partners.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached.
    pub async fn list(&self, list: ListPartners) -> Result<PartnersListed, RegistryError> {
        let request = self.request(proto::ListPartnersRequest::from(list));
        let answer = self.stub.clone().list_partners(request).await;
        let answer = answer.map_err(|status| RegistryError::of(&status, self.deadline))?;
        answer.into_inner().try_into().map_err(RegistryError::Malformed)
    }

    /// All partners, page after page, to whoever takes them.
    ///
    /// # Errors
    /// [`RegistryError`]: refused, or not reached; pages before were handed on.
    pub async fn list_all(
        &self,
        page_size: u32,
        mut take: impl FnMut(PartnersListed),
    ) -> Result<(), RegistryError> {
        let mut page_token = String::new();
        loop {
            let asked = ListPartners { page_size, page_token: page_token.clone() };
            let page = self.list(asked).await?;
            page_token.clone_from(&page.next_page_token);
            take(page);
            if page_token.is_empty() {
                return Ok(());
            }
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }
}
