//! A partner as it lies in the store: JSON, sealed under a name that says
//! nothing.

use serde::{Deserialize, Serialize};

use super::{AccessError, Alias, Coverage, Partner, PartnerUri, Role};
use crate::identifier::Provider;

/// The form of a record.
const FORMAT: u8 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u8,
    uri: String,
    alias: String,
    role: RoleRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evaluations_per_day: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum RoleRecord {
    Ap { provider: String },
    Peer {},
    Authority { numbers: Vec<String>, domains: Vec<String> },
    Admin {},
}

pub(super) fn encode(partner: &Partner) -> Vec<u8> {
    let owned = |text: &str| text.to_owned();
    let record = Record {
        format: FORMAT,
        uri: partner.uri.as_str().into(),
        alias: partner.alias.as_str().into(),
        role: match &partner.role {
            Role::Ap(provider) => RoleRecord::Ap { provider: provider.as_str().into() },
            Role::Peer => RoleRecord::Peer {},
            Role::Authority(coverage) => RoleRecord::Authority {
                numbers: coverage.numbers().map(owned).collect(),
                domains: coverage.domains().map(owned).collect(),
            },
            Role::Admin => RoleRecord::Admin {},
        },
        evaluations_per_day: partner.evaluations_per_day,
    };
    // Texts and numbers always have a form in JSON.
    serde_json::to_vec(&record).unwrap_or_default()
}

/// `None` if it is no record of this form.
pub(super) fn decode(bytes: &[u8]) -> Option<Partner> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    if record.format != FORMAT {
        return None;
    }
    partner(record).ok()?
}

fn partner(record: Record) -> Result<Option<Partner>, AccessError> {
    let role = match record.role {
        RoleRecord::Ap { provider } => match Provider::from_canonical(&provider) {
            Ok(provider) => Role::Ap(provider),
            Err(_) => return Ok(None),
        },
        RoleRecord::Peer {} => Role::Peer,
        RoleRecord::Authority { numbers, domains } => {
            Role::Authority(Coverage::new(&numbers, &domains)?)
        }
        RoleRecord::Admin {} => Role::Admin,
    };
    Ok(Some(Partner {
        uri: PartnerUri::parse(&record.uri)?,
        alias: Alias::parse(&record.alias)?,
        role,
        evaluations_per_day: record.evaluations_per_day,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partners_of_every_role_are_read_back_and_other_bytes_are_none() {
        let coverage = Coverage::new(&["+1415".into()], &["mail.example".into()]).unwrap();
        for (role, quota) in [
            (Role::Ap(Provider::parse("wa.example").unwrap()), None),
            (Role::Peer, Some(0)),
            (Role::Authority(coverage), Some(u64::MAX)),
            (Role::Admin, None),
        ] {
            let partner = Partner {
                uri: PartnerUri::parse("spiffe://wa.example/ap").unwrap(),
                alias: Alias::parse("wa").unwrap(),
                role,
                evaluations_per_day: quota,
            };
            let bytes = encode(&partner);
            assert!(decode(&bytes) == Some(partner));
            let text = String::from_utf8(bytes).unwrap();
            for (from, to) in [
                ("\"format\":1", "\"format\":2"),
                ("\"alias\":\"wa\"", "\"alias\":\"W\""),
                ("spiffe://", "spiffe:"),
                ("\"role\"", "\"rule\""),
            ] {
                assert!(decode(text.replace(from, to).as_bytes()).is_none(), "{to}");
            }
            assert!(decode(&text.as_bytes()[..text.len() - 1]).is_none());
        }
    }
}
