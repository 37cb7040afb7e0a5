//! Somebody who asks, with a certificate or without, and how tokens are had.

use blindbook::{
    access::quota::{Limit, Limits},
    oprf::BlindedBatch,
    server::{Anonymous, QuotaOptions},
    token::{Blinded, Challenge, Day, Pass, PublicKey},
    wire::{
        SignedBody, TokenKeys,
        proto::{
            EvaluateRequest, EvaluateResponse, FetchBucketsRequest, GetLimitsRequest,
            GetLimitsResponse, GetTokenKeysRequest, IssueTokensRequest,
            discovery_service_client::DiscoveryServiceClient,
            quota_service_client::QuotaServiceClient,
        },
    },
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::scene::{BITS, Scene, Served};

pub(crate) const DAY_S: u64 = 86_400;

/// A connection, and the services at its end.
pub(crate) struct Asker {
    pub(crate) discovery: DiscoveryServiceClient<Channel>,
    pub(crate) quota: QuotaServiceClient<Channel>,
}

impl Asker {
    pub(crate) async fn anonymous(served: &Served<'_>) -> Self {
        Self::on(served.channel(None).await.unwrap())
    }

    pub(crate) async fn partner(served: &Served<'_>, uri: &str) -> Self {
        let identity = served.scene.authority.partner(&[uri]);
        Self::on(served.channel(Some(identity)).await.unwrap())
    }

    pub(crate) async fn ap(served: &Served<'_>, name: &str) -> Self {
        Self::partner(served, &format!("spiffe://{name}/ap")).await
    }

    pub(crate) fn on(channel: Channel) -> Self {
        Self {
            discovery: DiscoveryServiceClient::new(channel.clone()),
            quota: QuotaServiceClient::new(channel),
        }
    }

    pub(crate) async fn evaluate(
        &mut self,
        request: &EvaluateRequest,
    ) -> Result<EvaluateResponse, Status> {
        Ok(self.discovery.evaluate(request.clone()).await?.into_inner())
    }

    /// Asks for so many elements, as a partner.
    pub(crate) async fn elements(&mut self, count: u32) -> Result<EvaluateResponse, Status> {
        self.evaluate(&batch(count)).await
    }

    /// Fetches so many buckets.
    pub(crate) async fn buckets(&mut self, count: usize) -> Result<usize, Status> {
        let request = FetchBucketsRequest {
            epoch: 1,
            directory_prefix_bits: BITS,
            prefix_bits: BITS,
            prefixes: vec![3; count],
        };
        let mut stream = self.discovery.fetch_buckets(request).await?.into_inner();
        let mut got = 0;
        while stream.message().await?.is_some() {
            got += 1;
        }
        Ok(got)
    }

    pub(crate) async fn limits(&mut self) -> GetLimitsResponse {
        self.quota.get_limits(GetLimitsRequest {}).await.unwrap().into_inner()
    }

    /// The token keys, verified.
    pub(crate) async fn keys(&mut self, scene: &Scene) -> TokenKeys {
        let response = self.quota.get_token_keys(GetTokenKeysRequest {}).await.unwrap();
        let signed = SignedBody::try_from(response.into_inner()).unwrap();
        TokenKeys::verify(&signed, &scene.directory.keyring.identity().verifying_key()).unwrap()
    }

    /// Tokens of today.
    pub(crate) async fn tokens(&mut self, scene: &Scene, count: usize) -> Vec<Pass> {
        let today = Day::at(scene.clock().now_s());
        let key = self.keys(scene).await.key(today).unwrap().clone();
        let blinded = blind(scene, today, &key, count);
        let signatures = self.issue(today, &blinded).await.unwrap();
        finalize(&blinded, &signatures, &key)
    }

    pub(crate) async fn issue(&mut self, day: Day, blinded: &[Blinded]) -> Result<Vec<u8>, Status> {
        let messages: Vec<&[u8]> = blinded.iter().map(Blinded::message).collect();
        let request =
            IssueTokensRequest { day: day.number(), blinded_messages: messages.concat().into() };
        Ok(self.quota.issue_tokens(request).await?.into_inner().blind_signatures.to_vec())
    }
}

pub(crate) fn blind(scene: &Scene, day: Day, key: &PublicKey, count: usize) -> Vec<Blinded> {
    let challenge = Challenge::of(scene.directory.keyring.directory().as_bytes(), day);
    (0..count).map(|_| key.blind(&challenge, &mut rand::rng()).unwrap()).collect()
}

pub(crate) fn finalize(blinded: &[Blinded], signatures: &[u8], key: &PublicKey) -> Vec<Pass> {
    let (signatures, rest) = signatures.as_chunks::<256>();
    assert!(rest.is_empty() && signatures.len() == blinded.len());
    let pairs = blinded.iter().zip(signatures);
    pairs.map(|(blinded, signature)| blinded.finalize(signature, key).unwrap()).collect()
}

/// A fresh batch of so many elements, not paid for.
pub(crate) fn batch(count: u32) -> EvaluateRequest {
    let inputs: Vec<_> = (0..count).map(u32::to_be_bytes).collect();
    let batch = BlindedBatch::blind(&inputs, &mut rand::rng()).unwrap();
    EvaluateRequest {
        epoch: 1,
        blinded_elements: batch.blinded_elements().to_vec().into(),
        ..EvaluateRequest::default()
    }
}

/// The same, with tokens.
pub(crate) fn paid(request: EvaluateRequest, passes: &[Pass]) -> EvaluateRequest {
    let tokens: Vec<&[u8]> = passes.iter().map(|pass| pass.expose().as_slice()).collect();
    EvaluateRequest { tokens: tokens.concat().into(), ..request }
}

/// Anonymous callers pay with tokens, and partners have little.
pub(crate) fn tight() -> QuotaOptions {
    QuotaOptions {
        anonymous: Anonymous::Tokens,
        anonymous_bytes: Limit::new(DAY_S, 10 * 49_152).unwrap(),
        partner: Limits {
            elements: Limit::new(DAY_S, 1024).unwrap(),
            bytes: Limit::new(DAY_S, 10 * 49_152).unwrap(),
            tokens: Limit::new(DAY_S, 300).unwrap(),
            queries: Limit::new(DAY_S, 3).unwrap(),
        },
        ..QuotaOptions::default()
    }
}

pub(crate) async fn scene() -> Scene {
    Scene { quotas: tight(), ..Scene::new().await }
}

/// That a quota is used up, of what, and when to come back.
#[track_caller]
pub(crate) fn exhausted<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (String, u64, String) {
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "QUOTA_EXHAUSTED");
    let delay = details.retry_info().unwrap().retry_delay.unwrap();
    let violation = details.quota_failure().unwrap().violations[0].clone();
    (violation.subject, delay.as_secs(), status.message().to_owned())
}
