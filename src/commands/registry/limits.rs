//! What the caller may ask, and what is left of it.

use blindbook::{
    client::registry::Registry,
    wire::{LimitTold, LimitsTold},
};
use serde::Serialize;

use super::{Outcome, failed, print};

#[derive(clap::Args)]
pub(super) struct Limits {}

#[derive(Serialize)]
struct Line {
    per_day: u64,
    burst: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_in_s: Option<u64>,
}

impl Line {
    const fn of(told: LimitTold) -> Self {
        let LimitTold { per_day, burst, available, full_in_s } = told;
        Self { per_day, burst, available, full_in_s }
    }
}

#[derive(Serialize)]
struct Lines {
    #[serde(skip_serializing_if = "Option::is_none")]
    elements: Option<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket_bytes: Option<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pir_queries: Option<Line>,
    tokens_required: bool,
    elements_per_token: u32,
}

impl Limits {
    pub(super) async fn run(&self, registry: &Registry) -> Outcome {
        let told = registry.limits().await.map_err(failed)?;
        let LimitsTold { elements, bucket_bytes, tokens, pir_queries, .. } = told;
        let LimitsTold { tokens_required, elements_per_token, .. } = told;
        print(&Lines {
            elements: elements.map(Line::of),
            bucket_bytes: bucket_bytes.map(Line::of),
            tokens: tokens.map(Line::of),
            pir_queries: pir_queries.map(Line::of),
            tokens_required,
            elements_per_token,
        })
    }
}
