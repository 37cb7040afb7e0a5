//! Compiles the protos in pure Rust: no system protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 5] = [
    "proto/blindbook/v1/admin.proto",
    "proto/blindbook/v1/discovery.proto",
    "proto/blindbook/v1/quota.proto",
    "proto/blindbook/v1/registry.proto",
    "proto/blindbook/v1/sidecar.proto",
];

/// Messages that hold identifiers, users, tokens, codes or bucket numbers: they
/// get a `Debug` of their own, in `wire`, that prints nothing.
const SILENT: [&str; 45] = [
    "ApplicationProvider",
    "AudienceChange",
    "ClaimManyRequest",
    "ClaimRequest",
    "ControlList",
    "ControlRelease",
    "DefaultChange",
    "EvaluateRequest",
    "FinishVerificationRequest",
    "FinishVerificationResponse",
    "IdentityProof",
    "Invalidation",
    "IssueTokensRequest",
    "IssueTokensResponse",
    "ListPartnersRequest",
    "ListPartnersResponse",
    "ListRequest",
    "ListResponse",
    "ListedMapping",
    "ListedPartner",
    "MappingName",
    "NamingAuthority",
    "OwnList",
    "OwnRelease",
    "Partner",
    "PassportProof",
    "PortRequest",
    "Proof",
    "PutPartnerRequest",
    "QueryPirRequest",
    "QueryPirResponse",
    "Refusal",
    "ReleaseRequest",
    "RemovePartnerRequest",
    "ResolveManyRequest",
    "ResolveManyResponse",
    "ResolveManyResult",
    "ResolveRequest",
    "ResolveResponse",
    "ResolvedMapping",
    "SetPreferencesRequest",
    "StartChallengeRequest",
    "StartChallengeResponse",
    "StartVerificationRequest",
    "WatchInvalidationsResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    if env::var_os("CARGO_FEATURE_WIRE").is_none() {
        return Ok(());
    }
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("blindbook.v1.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // Without it the server alone would need a client's transport.
        .build_transport(false)
        .bytes(".")
        .skip_debug(SILENT.map(|message| format!(".blindbook.v1.{message}")))
        .compile_fds(descriptors)?;
    Ok(())
}
