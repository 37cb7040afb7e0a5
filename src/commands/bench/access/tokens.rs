//! Tokens as an application provider has them signed for its users.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use blindbook::{
    token::{Blinded, Challenge, Pass, PublicKey, SIGNATURE_BYTES},
    wire::{
        IssueTokens, MAX_ISSUED, SignedBody, TokenKeys, issued_from_proto,
        proto::{
            GetTokenKeysRequest, IssueTokensRequest, quota_service_client::QuotaServiceClient,
        },
    },
};
use bytes::Bytes;
use tonic::transport::Channel;

use super::{
    super::{super::progress, directory::Directory, step},
    SHORT,
};

/// Tokens, and what one costs to verify.
pub(super) struct Tokens {
    pub(super) passes: Vec<Bytes>,
    pub(super) verify_us: f64,
}

/// Has at least `count` tokens signed.
pub(super) async fn issue(
    directory: &Directory,
    channel: Channel,
    count: usize,
) -> anyhow::Result<Tokens> {
    step("having tokens signed")?;
    let mut client = QuotaServiceClient::new(channel);
    let identity = directory.keyring.identity().verifying_key();
    let answer = client.get_token_keys(GetTokenKeysRequest {}).await?.into_inner();
    let keys = TokenKeys::verify(&SignedBody::try_from(answer)?, &identity)?;
    let (day, key) = keys.keys.first().context("no key issues tokens")?;
    let challenge = Challenge::of(directory.keyring.directory().as_bytes(), *day);
    let bar = progress::bar("having tokens signed", count as u64);
    let mut passes: Vec<Pass> = Vec::with_capacity(count);
    while passes.len() < count {
        let blinded = (0..MAX_ISSUED)
            .map(|_| key.blind(&challenge, &mut rand::rng()))
            .collect::<Result<Vec<Blinded>, _>>()?;
        let messages = blinded.iter().map(|blinded| blinded.message().try_into());
        let messages = messages.collect::<Result<Vec<[u8; SIGNATURE_BYTES]>, _>>()?;
        let request = IssueTokensRequest::from(IssueTokens { day: *day, blinded: messages });
        let answer = client.issue_tokens(request).await?.into_inner();
        let signed = issued_from_proto(&answer, blinded.len())?;
        for (blinded, signature) in blinded.iter().zip(&signed) {
            passes.push(blinded.finalize(signature, key)?);
        }
        bar.set_position(passes.len() as u64);
    }
    bar.finish_and_clear();
    let verify_us = verify_us(&passes, &challenge, key)?;
    let passes = passes.iter().map(|pass| Bytes::copy_from_slice(pass.expose())).collect();
    Ok(Tokens { passes, verify_us })
}

/// What a server does for each token before it looks whether it was spent.
fn verify_us(passes: &[Pass], challenge: &Challenge, key: &PublicKey) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut verified = 0_u32;
    for pass in passes.iter().cycle() {
        pass.verify(challenge, key)?;
        verified += 1;
        if begun.elapsed() >= SHORT {
            break;
        }
    }
    ensure!(verified > 0, "no token was verified");
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(verified))
}
