//! Every method of every service by everybody: the methods come from the
//! descriptors, so that none is forgotten, and who may call them from a table of
//! this file's own.

use std::collections::{BTreeMap, BTreeSet};

use blindbook::{
    access::{RIGHTS, Role},
    server::{ServerOptions, tls_config},
    wire::proto::FILE_DESCRIPTOR_SET,
};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{
    Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;

use crate::{
    common::Running,
    scene::{ADMIN, NUMBERS, PEER, Scene, listed, refused},
};

/// Whether these may call a method: nobody known, a certificate that is not
/// listed, an application provider, a peer, an authority, an administrator.
const TABLE: &[(&str, [bool; 6])] = &[
    ("blindbook.v1.DiscoveryService/GetParameters", ANYBODY),
    ("blindbook.v1.DiscoveryService/ListProviders", ANYBODY),
    ("blindbook.v1.DiscoveryService/Evaluate", ANYBODY),
    ("blindbook.v1.DiscoveryService/FetchBuckets", ANYBODY),
    ("blindbook.v1.DiscoveryService/QueryPir", ANYBODY),
    ("blindbook.v1.QuotaService/GetLimits", ANYBODY),
    ("blindbook.v1.QuotaService/GetTokenKeys", ANYBODY),
    ("blindbook.v1.QuotaService/IssueTokens", AP),
    ("blindbook.v1.RegistryService/StartVerification", AP),
    ("blindbook.v1.RegistryService/FinishVerification", AP),
    ("blindbook.v1.RegistryService/StartChallenge", AP),
    ("blindbook.v1.RegistryService/Claim", AP),
    ("blindbook.v1.RegistryService/ClaimMany", AP),
    ("blindbook.v1.RegistryService/SetPreferences", AP),
    ("blindbook.v1.RegistryService/Release", AP_OR_AUTHORITY),
    ("blindbook.v1.RegistryService/Port", AP_OR_AUTHORITY),
    ("blindbook.v1.RegistryService/List", AP),
    ("blindbook.v1.RegistryService/WatchInvalidations", ANYBODY),
    ("blindbook.v1.AdminService/PutPartner", ADMINS),
    ("blindbook.v1.AdminService/RemovePartner", ADMINS),
    ("blindbook.v1.AdminService/ListPartners", ADMINS),
    ("grpc.health.v1.Health/Check", ANYBODY),
    ("grpc.health.v1.Health/Watch", ANYBODY),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ANYBODY),
];

const ANYBODY: [bool; 6] = [true; 6];
const AP: [bool; 6] = [false, false, true, false, false, false];
const AP_OR_AUTHORITY: [bool; 6] = [false, false, true, false, true, false];
const ADMINS: [bool; 6] = [false, false, false, false, false, true];

/// Served elsewhere, by the same package.
const NOT_HERE: &str = "blindbook.v1.SidecarService/";

/// Every method of this server, from the descriptors.
fn methods() -> BTreeSet<String> {
    let sets = [
        FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = BTreeSet::new();
    for set in sets {
        for file in FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                for method in &service.method {
                    methods.insert(format!(
                        "{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
    }
    methods.retain(|method| !method.starts_with(NOT_HERE));
    methods
}

/// Calls a method with an empty message, whatever its kind.
async fn call(channel: &Channel, method: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(format!("/{method}")).unwrap();
    let codec = ProstCodec::<(), ()>::default();
    grpc.streaming(Request::new(tokio_stream::once(())), path, codec).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_may_call_what_the_table_says_and_nothing_else() {
    let table: BTreeMap<_, _> = TABLE.iter().copied().collect();
    let named: BTreeSet<_> = table.keys().map(|method| (*method).to_owned()).collect();
    assert_eq!(methods(), named, "the descriptors name other methods than this table");
    let rights = RIGHTS.iter().map(|right| format!("{}/{}", right.service, right.method));
    assert_eq!(rights.collect::<BTreeSet<_>>(), named, "access has lines for other methods");

    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut channels = vec![("anonymous", served.channel(None).await.unwrap())];
    for (who, uri) in [
        ("unlisted", "spiffe://evil.example/ap"),
        ("ap", "spiffe://wa.example/ap"),
        ("peer", PEER),
        ("authority", NUMBERS),
        ("admin", ADMIN),
    ] {
        let identity = scene.authority.partner(&[uri]);
        channels.push((who, served.channel(Some(identity)).await.unwrap()));
    }
    let mut wrong = Vec::new();
    for (method, may) in &table {
        for ((who, channel), may) in channels.iter().zip(may) {
            let met = match call(channel, method).await {
                Ok(()) => (Code::Ok, String::new()),
                // Health says so of a service that it does not know, in its own words.
                Err(status) if method.starts_with("grpc.") => (status.code(), String::new()),
                Err(status) => refused::<()>(Err(status)),
            };
            let expected = match (may, *who) {
                (true, _) => None,
                (false, "anonymous") => Some((Code::Unauthenticated, "CALLER_UNIDENTIFIED")),
                (false, "unlisted") => Some((Code::Unauthenticated, "CALLER_UNKNOWN")),
                (false, _) => Some((Code::PermissionDenied, "ROLE_NOT_ALLOWED")),
            };
            let (code, reason) = (met.0, met.1.as_str());
            let fits = match expected {
                Some(expected) => (code, reason) == expected,
                None => !matches!(
                    code,
                    Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented
                ),
            };
            if !fits {
                wrong.push(format!("{method} by {who}: {code:?} {reason}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_plain_text_lookups_are_served_and_partners_are_told_what_to_do() {
    let scene = Scene::new().await;
    let server = scene.directory.server(ServerOptions::default()).await;
    let server = server.with_partners(Vec::new()).await.unwrap();
    let server = server.with_registry(scene.registry()).await.unwrap();
    let running = Running::start(server).await;
    let channel = running.channel().await;
    for (method, may) in TABLE {
        let met = call(&channel, method).await;
        if may[0] {
            let code = met.err().map(|status| status.code());
            assert!(!matches!(code, Some(Code::Unauthenticated)), "{method}");
        } else {
            let status = met.unwrap_err();
            assert!(status.message().contains("tls_cert, tls_key and client_ca"), "{status}");
            let told = (Code::Unauthenticated, "CALLER_UNIDENTIFIED".to_owned());
            assert_eq!(refused::<()>(Err(status)), told);
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn partners_that_no_certificate_could_name_are_refused_at_the_start() {
    let scene = Scene::new().await;
    let (cert, key) = scene.authority.server();
    let without_ca = tls_config(cert.as_bytes(), key.as_bytes()).unwrap();
    for tls in [None, Some(without_ca)] {
        let options = ServerOptions { tls, ..Default::default() };
        let server = scene.directory.server(options).await;
        let partner = listed(ADMIN, "admin", Role::Admin);
        let refused = server.with_partners(vec![partner]).await.unwrap_err().to_string();
        assert!(refused.contains("client_ca"), "{refused}");
    }
}
