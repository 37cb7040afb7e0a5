//! Listing partners.

use std::fmt::Write as _;

use blindbook::wire::admin::{ListedPartner, PartnerRole};
use serde::Serialize;

use super::{Outcome, Speaker, failed, speak};
use crate::commands::registry::print;

/// Partners asked for at once.
const PAGE: u32 = 500;

#[derive(clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    speaker: Speaker,
}

#[derive(Serialize)]
struct Line<'a> {
    uri: &'a str,
    alias: &'a str,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_key: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    numbers: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    domains: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluations_per_day: Option<u64>,
    configured: bool,
}

impl<'a> Line<'a> {
    fn of(listed: &'a ListedPartner) -> Self {
        let partner = &listed.partner;
        let (role, provider, numbers, domains): (_, _, &[String], &[String]) = match &partner.role {
            PartnerRole::Ap(provider) => ("ap", Some(provider.as_str()), &[], &[]),
            PartnerRole::Peer => ("peer", None, &[], &[]),
            PartnerRole::Authority { numbers, domains } => ("authority", None, numbers, domains),
            PartnerRole::Admin => ("admin", None, &[], &[]),
        };
        Self {
            uri: &partner.uri,
            alias: &partner.alias,
            role,
            provider,
            provider_key: listed.key.map(|key| digits(key.as_bytes())),
            numbers,
            domains,
            evaluations_per_day: partner.evaluations_per_day,
            configured: listed.configured,
        }
    }
}

impl List {
    pub(super) fn run(self) -> Outcome {
        speak(&self.speaker, async |admin| {
            let mut printed = Ok(());
            let listing = admin.list_all(PAGE, |page| {
                for listed in &page.partners {
                    if printed.is_ok() {
                        printed = print(&Line::of(listed));
                    }
                }
            });
            listing.await.map_err(failed)?;
            printed
        })
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}
