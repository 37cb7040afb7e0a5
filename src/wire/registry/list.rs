//! Lists of mappings.

use bytes::Bytes;

use super::{
    MappingName, Proof, WireError, audience_number, audience_said, mapping, proof, proto, sii,
};
use crate::{bucket::Audience, identifier::Sii};

/// Most mappings that a page is asked for.
pub const MAX_PAGE_SIZE: u32 = 1000;

const DEFAULT_PAGE_SIZE: u32 = 100;

/// Lists mappings.
#[derive(Clone, PartialEq, Eq)]
pub enum List {
    /// The caller's own, page by page.
    Own {
        /// Of the page before; empty for the first.
        page_token: Bytes,
        /// About how many, 1 to [`MAX_PAGE_SIZE`].
        page_size: u32,
    },
    /// All of one identifier.
    Control {
        /// Whose.
        sii: Sii,
        /// Shows control of it.
        proof: Proof,
    },
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("List(..)")
    }
}

impl TryFrom<proto::ListRequest> for List {
    type Error = WireError;

    fn try_from(request: proto::ListRequest) -> Result<Self, WireError> {
        use proto::list_request::List as Which;
        match request.list.ok_or(WireError::Missing("list"))? {
            Which::Own(own) => {
                let page_size = match own.page_size {
                    0 => DEFAULT_PAGE_SIZE,
                    size if size <= MAX_PAGE_SIZE => size,
                    _ => {
                        let rule = "must be at most 1000";
                        return Err(WireError::Rule { field: "page_size", rule });
                    }
                };
                Ok(Self::Own { page_token: own.page_token, page_size })
            }
            Which::Control(control) => Ok(Self::Control {
                sii: sii("sii", &control.sii)?,
                proof: proof::proof(control.proof)?,
            }),
        }
    }
}

impl From<List> for proto::ListRequest {
    fn from(list: List) -> Self {
        use proto::list_request::List as Which;
        let which = match list {
            List::Own { page_token, page_size } => {
                Which::Own(proto::OwnList { page_token, page_size })
            }
            List::Control { sii, proof } => Which::Control(proto::ControlList {
                sii: sii.as_str().into(),
                proof: Some(proof.into()),
            }),
        };
        Self { list: Some(which) }
    }
}

/// One mapping, listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedMapping {
    /// Whose.
    pub sii: Sii,
    /// Which.
    pub mapping: MappingName,
    /// Whom it is meant for.
    pub audience: Audience,
    /// When it was made the default, seconds since 1970; 0: never.
    pub default_since_s: u32,
    /// Until when it counts as verified, seconds since 1970; 0: without end.
    pub verified_until_s: u32,
    /// Seconds for which an answer may be kept.
    pub ttl_s: u32,
}

impl From<ListedMapping> for proto::ListedMapping {
    fn from(listed: ListedMapping) -> Self {
        Self {
            sii: listed.sii.as_str().into(),
            mapping: Some(listed.mapping.into()),
            audience: audience_number(listed.audience),
            default_since_s: listed.default_since_s,
            verified_until_s: listed.verified_until_s,
            ttl_s: listed.ttl_s,
        }
    }
}

impl TryFrom<proto::ListedMapping> for ListedMapping {
    type Error = WireError;

    fn try_from(listed: proto::ListedMapping) -> Result<Self, WireError> {
        Ok(Self {
            sii: sii("sii", &listed.sii)?,
            mapping: mapping(listed.mapping)?,
            audience: audience_said("audience", listed.audience)?,
            default_since_s: listed.default_since_s,
            verified_until_s: listed.verified_until_s,
            ttl_s: listed.ttl_s,
        })
    }
}

/// A page of mappings.
#[derive(Clone, PartialEq, Eq)]
pub struct Listed {
    /// May be empty though there is a next page.
    pub mappings: Vec<ListedMapping>,
    /// For the next page; empty at the end.
    pub next_page_token: Bytes,
}

impl std::fmt::Debug for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listed(..)")
    }
}

impl From<Listed> for proto::ListResponse {
    fn from(listed: Listed) -> Self {
        Self {
            mappings: listed.mappings.into_iter().map(Into::into).collect(),
            next_page_token: listed.next_page_token,
        }
    }
}

impl TryFrom<proto::ListResponse> for Listed {
    type Error = WireError;

    fn try_from(response: proto::ListResponse) -> Result<Self, WireError> {
        Ok(Self {
            mappings: response
                .mappings
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            next_page_token: response.next_page_token,
        })
    }
}
