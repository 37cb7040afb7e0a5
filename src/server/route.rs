//! Where each method leads, how long its messages may be, and among which calls
//! it counts.

use tonic::server::NamedService;
use tonic_health::{pb::health_server::HealthServer, server::HealthService};

use super::{admin::Admin, lookup::Lookup, quota::Quotas, registry::Registry};
use crate::{
    pir::Shape,
    token::{ELEMENTS_PER_TOKEN, SIGNATURE_BYTES, TOKEN_BYTES},
    wire::{
        BUCKET_BATCHES, ELEMENT_BATCHES, ELEMENT_BYTES, MAX_ISSUED,
        proto::{
            admin_service_server::AdminServiceServer,
            discovery_service_server::DiscoveryServiceServer,
            quota_service_server::QuotaServiceServer,
            registry_service_server::RegistryServiceServer,
        },
    },
};

/// Bytes of a message beside its batch.
const SLACK_BYTES: usize = 64;

/// Bytes of one prefix as it may be encoded, packed or each with its tag.
const PREFIX_BYTES: usize = 5;

/// Longest message of health and reflection.
const MAX_SERVICE_MESSAGE_BYTES: usize = 1024;

/// Longest message with an identifier and at most a code.
const MAX_NAMING_MESSAGE_BYTES: usize = 1024;

/// Longest message with a proof, which may bring a chain of certificates.
const MAX_PROVING_MESSAGE_BYTES: usize = 16 << 10;

/// Longest message about a partner: the longest record, as it may be encoded.
const MAX_PARTNER_MESSAGE_BYTES: usize = 16 << 10;

/// Longest request for invalidations: a sequence for each of 2^16 partitions
/// would be half a megabyte, and nobody has so many.
const MAX_CHECKPOINT_MESSAGE_BYTES: usize = 64 << 10;

pub(super) const DISCOVERY: &str = <DiscoveryServiceServer<Lookup> as NamedService>::NAME;
pub(super) const QUOTA: &str = <QuotaServiceServer<Quotas> as NamedService>::NAME;
pub(super) const REGISTRY: &str = <RegistryServiceServer<Registry> as NamedService>::NAME;
pub(super) const ADMIN: &str = <AdminServiceServer<Admin> as NamedService>::NAME;
pub(super) const HEALTH: &str = <HealthServer<HealthService> as NamedService>::NAME;
pub(super) const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";

/// A method of this server.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub(super) to: To,
    pub(super) max_message_bytes: usize,
    /// Whether the peer sends one message and ends, or may go on.
    pub(super) one_message: bool,
    pub(super) room: Room,
    /// Whether it waits for an evaluation.
    pub(super) evaluates: bool,
}

/// Among which calls one counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    /// Those that are answered at once.
    Brief,
    /// Those that last as long as the peer wants, and that anybody may make.
    Lasting,
    /// Queries for rows: as many as may wait, and each is long.
    Query,
    /// Those with many claims.
    Bulk,
    /// Those that are told of changes, by the client of everybody.
    Watch,
}

#[derive(Clone, Copy)]
pub(super) enum To {
    Discovery,
    Quota,
    Registry,
    Admin,
    Health,
    Reflection,
}

impl Route {
    pub(super) fn of(path: &str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let once = |to, max_message_bytes| Self {
            to,
            max_message_bytes,
            one_message: true,
            room: Room::Brief,
            evaluates: false,
        };
        let most = |batches: &[usize]| batches.iter().copied().max().unwrap_or(0);
        match (service, method) {
            (DISCOVERY, "GetParameters" | "ListProviders") => {
                Some(once(To::Discovery, SLACK_BYTES))
            }
            (DISCOVERY, "Evaluate") => {
                let elements = most(&ELEMENT_BATCHES);
                let tokens = elements / ELEMENTS_PER_TOKEN * TOKEN_BYTES;
                let bytes = elements * ELEMENT_BYTES + tokens + SLACK_BYTES;
                Some(Self { evaluates: true, ..once(To::Discovery, bytes) })
            }
            (DISCOVERY, "FetchBuckets") => {
                Some(once(To::Discovery, most(&BUCKET_BATCHES) * PREFIX_BYTES + SLACK_BYTES))
            }
            (DISCOVERY, "QueryPir") => {
                let query = Shape::LARGEST.query_bytes();
                let once = once(To::Discovery, query + TOKEN_BYTES + SLACK_BYTES);
                Some(Self { room: Room::Query, ..once })
            }
            (QUOTA, "GetLimits" | "GetTokenKeys") => Some(once(To::Quota, SLACK_BYTES)),
            (QUOTA, "IssueTokens") => {
                Some(once(To::Quota, MAX_ISSUED * SIGNATURE_BYTES + SLACK_BYTES))
            }
            (REGISTRY, "StartVerification" | "FinishVerification" | "StartChallenge") => {
                Some(once(To::Registry, MAX_NAMING_MESSAGE_BYTES))
            }
            (REGISTRY, "Claim" | "SetPreferences" | "Release" | "Port" | "List") => {
                Some(once(To::Registry, MAX_PROVING_MESSAGE_BYTES))
            }
            (REGISTRY, "ClaimMany") => Some(Self {
                to: To::Registry,
                max_message_bytes: MAX_PROVING_MESSAGE_BYTES,
                one_message: false,
                room: Room::Bulk,
                evaluates: false,
            }),
            (REGISTRY, "WatchInvalidations") => {
                Some(Self { room: Room::Watch, ..once(To::Registry, MAX_CHECKPOINT_MESSAGE_BYTES) })
            }
            (ADMIN, "PutPartner" | "RemovePartner" | "ListPartners") => {
                Some(once(To::Admin, MAX_PARTNER_MESSAGE_BYTES))
            }
            (HEALTH, "Check") => Some(once(To::Health, MAX_SERVICE_MESSAGE_BYTES)),
            (HEALTH, "Watch") => {
                Some(Self { room: Room::Lasting, ..once(To::Health, MAX_SERVICE_MESSAGE_BYTES) })
            }
            (REFLECTION, "ServerReflectionInfo") => Some(Self {
                to: To::Reflection,
                max_message_bytes: MAX_SERVICE_MESSAGE_BYTES,
                one_message: false,
                room: Room::Lasting,
                evaluates: false,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declared_method_has_a_route_and_no_other_has() {
        for method in ["GetParameters", "ListProviders", "Evaluate", "FetchBuckets"] {
            let route = Route::of(&format!("/blindbook.v1.DiscoveryService/{method}")).unwrap();
            assert!(route.one_message && route.room == Room::Brief, "{method}");
        }
        for method in ["GetLimits", "GetTokenKeys", "IssueTokens"] {
            let route = Route::of(&format!("/blindbook.v1.QuotaService/{method}")).unwrap();
            assert!(route.one_message && route.room == Room::Brief, "{method}");
        }
        for (method, one_message, room) in [
            ("StartVerification", true, Room::Brief),
            ("FinishVerification", true, Room::Brief),
            ("StartChallenge", true, Room::Brief),
            ("Claim", true, Room::Brief),
            ("ClaimMany", false, Room::Bulk),
            ("SetPreferences", true, Room::Brief),
            ("Release", true, Room::Brief),
            ("Port", true, Room::Brief),
            ("List", true, Room::Brief),
            ("WatchInvalidations", true, Room::Watch),
        ] {
            let route = Route::of(&format!("/blindbook.v1.RegistryService/{method}")).unwrap();
            assert_eq!((route.one_message, route.room), (one_message, room), "{method}");
        }
        for method in ["PutPartner", "RemovePartner", "ListPartners"] {
            let route = Route::of(&format!("/blindbook.v1.AdminService/{method}")).unwrap();
            assert!(route.one_message && route.room == Room::Brief, "{method}");
        }
        let query = Route::of("/blindbook.v1.DiscoveryService/QueryPir").unwrap();
        assert!(query.one_message && query.room == Room::Query);
        let room = |path: &str| Route::of(path).unwrap().room;
        assert_eq!(room("/grpc.health.v1.Health/Watch"), Room::Lasting);
        assert_eq!(room("/grpc.health.v1.Health/Check"), Room::Brief);
        assert!(
            !Route::of("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
                .unwrap()
                .one_message
        );
        for path in ["", "/", "Evaluate", "/blindbook.v1.DiscoveryService/", "/x/Evaluate"] {
            assert!(Route::of(path).is_none(), "{path}");
        }
    }
}
