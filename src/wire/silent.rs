//! `Debug` of the generated messages that hold what nobody may read in a log:
//! their name, and nothing of what is in them. `build.rs` has the same list.

use std::fmt;

use super::proto;

macro_rules! silent {
    ($($message:ident)*) => {
        $(impl fmt::Debug for proto::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "(..)"))
            }
        })*
    };
}

silent! {
    ApplicationProvider
    AudienceChange
    ClaimManyRequest
    ClaimRequest
    ControlList
    ControlRelease
    DefaultChange
    EvaluateRequest
    FinishVerificationRequest
    FinishVerificationResponse
    IdentityProof
    Invalidation
    IssueTokensRequest
    IssueTokensResponse
    ListPartnersRequest
    ListPartnersResponse
    ListRequest
    ListResponse
    ListedMapping
    ListedPartner
    MappingName
    NamingAuthority
    OwnList
    OwnRelease
    Partner
    PassportProof
    PortRequest
    Proof
    PutPartnerRequest
    QueryPirRequest
    QueryPirResponse
    Refusal
    ReleaseRequest
    RemovePartnerRequest
    ResolveManyRequest
    ResolveManyResponse
    ResolveManyResult
    ResolveRequest
    ResolveResponse
    ResolvedMapping
    SetPreferencesRequest
    StartChallengeRequest
    StartChallengeResponse
    StartVerificationRequest
    WatchInvalidationsResponse
}

impl fmt::Debug for proto::resolve_many_result::Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found(_) => "Found(..)",
            Self::Refusal(_) => "Refusal(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_prints_nothing_of_what_it_holds() {
        let claim = proto::ClaimRequest {
            sii: "canary".into(),
            user: "canary".into(),
            circle_secret: b"canary".to_vec().into(),
            ..proto::ClaimRequest::default()
        };
        let port = proto::PortRequest { claim: Some(claim), ..proto::PortRequest::default() };
        assert_eq!(format!("{port:?}"), "PortRequest(..)");
    }
}
