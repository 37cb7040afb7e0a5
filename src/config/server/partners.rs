//! The sections `[[admin]]` and `[[caller]]`: the partners that a server knows
//! from its start, and that nobody changes while it runs.

use serde::Deserialize;

use super::registry::{RegistryConfigError, provider};
use crate::access::{AccessError, Alias, Coverage, Partner, PartnerUri, Role};

/// Why partners of the configuration are refused.
#[derive(Debug, thiserror::Error)]
pub enum PartnersConfigError {
    /// An administrator that cannot be listed.
    #[error("an [[admin]] is refused: {0}")]
    Admin(AccessError),
    /// A caller that cannot be listed.
    #[error("a [[caller]] is refused: {0}")]
    Caller(#[from] AccessError),
    /// Not the name of a provider.
    #[error(transparent)]
    Provider(#[from] RegistryConfigError),
    /// A role with what belongs to another.
    #[error(
        "a [[caller]] with role \"ap\" has a provider, one with role \"authority\" numbers or \
         domains, one with role \"peer\" neither, and none has both"
    )]
    Role,
    /// One URI or alias for two.
    #[error("the {0} of an [[admin]] or [[caller]] is listed twice: each has its own")]
    Twice(&'static str),
    /// Certificates that nobody could verify.
    #[error(
        "an [[admin]] or [[caller]] is known by its client certificate, which needs TLS, and \
         client_ca, which verifies it"
    )]
    NoClientCa,
    /// Authorities of certificates without TLS.
    #[error("client_ca and client_crl need TLS: with insecure_plaintext nobody has a certificate")]
    ClientCaWithoutTls,
    /// Lists of what authorities revoked, and no authority.
    #[error("client_crl revokes certificates of a client_ca: set it too")]
    CrlWithoutCa,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminSection {
    uri: String,
    alias: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallerSection {
    uri: String,
    alias: String,
    role: RoleName,
    provider: Option<String>,
    #[serde(default)]
    numbers: Vec<String>,
    #[serde(default)]
    domains: Vec<String>,
    evaluations_per_day: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    Ap,
    Peer,
    Authority,
}

impl AdminSection {
    fn partner(&self) -> Result<Partner, AccessError> {
        Ok(Partner {
            uri: PartnerUri::parse(&self.uri)?,
            alias: Alias::parse(&self.alias)?,
            role: Role::Admin,
            evaluations_per_day: None,
        })
    }
}

impl CallerSection {
    fn partner(&self) -> Result<Partner, PartnersConfigError> {
        Ok(Partner {
            uri: PartnerUri::parse(&self.uri)?,
            alias: Alias::parse(&self.alias)?,
            role: self.role()?,
            evaluations_per_day: self.evaluations_per_day,
        })
    }

    fn role(&self) -> Result<Role, PartnersConfigError> {
        let nothing_covered = self.numbers.is_empty() && self.domains.is_empty();
        match (self.role, &self.provider) {
            (RoleName::Ap, Some(name)) if nothing_covered => Ok(Role::Ap(provider(name)?)),
            (RoleName::Peer, None) if nothing_covered => Ok(Role::Peer),
            (RoleName::Authority, None) => {
                Ok(Role::Authority(Coverage::new(&self.numbers, &self.domains)?))
            }
            _ => Err(PartnersConfigError::Role),
        }
    }
}

/// All partners that the configuration lists.
pub(super) fn check(
    admins: &[AdminSection],
    callers: &[CallerSection],
    client_ca: bool,
) -> Result<Vec<Partner>, PartnersConfigError> {
    let admins = admins.iter().map(|admin| admin.partner().map_err(PartnersConfigError::Admin));
    let callers = callers.iter().map(CallerSection::partner);
    let partners = admins.chain(callers).collect::<Result<Vec<_>, _>>()?;
    if !partners.is_empty() && !client_ca {
        return Err(PartnersConfigError::NoClientCa);
    }
    for (index, one) in partners.iter().enumerate() {
        for next in partners.iter().skip(index + 1) {
            if one.uri == next.uri {
                return Err(PartnersConfigError::Twice("uri"));
            }
            if one.alias == next.alias {
                return Err(PartnersConfigError::Twice("alias"));
            }
        }
    }
    Ok(partners)
}

#[cfg(test)]
mod tests {
    use crate::{
        access::{Role, RoleKind},
        config::{Config, ConfigError, Tls},
        identifier::Provider,
    };

    const BASE: &str = "data = \"d\"\nkeys = \"k\"\nlisten = \"127.0.0.1:1\"\n";
    const PLAIN: &str = "insecure_plaintext = true\n";
    const TLS: &str = "tls_cert = \"c\"\ntls_key = \"k\"\n";
    const CA: &str = "client_ca = \"ca.pem\"\n";
    const ADMIN: &str = "[[admin]]\nuri = \"spiffe://dp.example/admin\"\nalias = \"operator\"\n";
    const AP: &str = "[[caller]]\nuri = \"spiffe://wa.example/ap\"\nalias = \"wa\"\nrole = \"ap\"\nprovider = \"wa.example\"\n";

    fn parse(parts: &[&str]) -> Result<Config, ConfigError> {
        Config::parse(&[&[BASE], parts].concat().concat())
    }

    #[track_caller]
    fn says(parts: &[&str], words: &str) {
        let refused = parse(parts).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }

    #[test]
    fn partners_are_listed_by_the_uri_of_their_certificate() {
        let authority = "[[caller]]\nuri = \"spiffe://n.example/na\"\nalias = \"na\"\nrole = \"authority\"\nnumbers = [\"+1415\"]\ndomains = [\"mail.example\"]\nevaluations_per_day = 0\n";
        let peer = "[[caller]]\nuri = \"spiffe://o.example/dp\"\nalias = \"o\"\nrole = \"peer\"\nevaluations_per_day = 9\n";
        let config = parse(&[TLS, CA, ADMIN, AP, authority, peer]).unwrap();
        let kinds: Vec<_> = config.partners.iter().map(|one| one.role.kind()).collect();
        assert_eq!(kinds, [RoleKind::Admin, RoleKind::Ap, RoleKind::Authority, RoleKind::Peer]);
        let quotas: Vec<_> = config.partners.iter().map(|one| one.evaluations_per_day).collect();
        assert_eq!(quotas, [None, None, Some(0), Some(9)]);
        assert_eq!(config.partners[1].role, Role::Ap(Provider::parse("wa.example").unwrap()));
        let crl = "client_crl = \"crl.pem\"\n";
        let Tls::Files(files) = parse(&[TLS, CA, crl]).unwrap().tls else { panic!("no TLS") };
        assert_eq!(files.client_crl, Some("crl.pem".into()));
        says(&[TLS, crl], "client_ca");
        says(&[TLS, AP], "client_ca");
        says(&[TLS, ADMIN], "client_ca");
        says(&[PLAIN, AP], "client_ca");
        says(&[PLAIN, CA], "need TLS");
        says(&[PLAIN, crl], "need TLS");
    }

    #[test]
    fn partners_that_are_none_are_refused_with_clear_words() {
        says(&[TLS, CA, AP, AP], "uri of an [[admin]] or [[caller]] is listed twice");
        says(&[TLS, CA, AP, &ADMIN.replace("operator", "wa")], "alias of an [[admin]]");
        says(&[TLS, CA, &ADMIN.replace("spiffe://", "")], "[[admin]] is refused");
        for (from, to, words) in [
            ("\"ap\"", "\"operator\"", "expected one of `ap`, `peer`, `authority`"),
            ("\"ap\"", "\"admin\"", "expected one of"),
            ("\"ap\"", "\"authority\"", "role"),
            ("\"ap\"", "\"peer\"", "role"),
            ("provider = \"wa.example\"", "", "role"),
            ("provider = \"wa.example\"", "provider = \"w a\"", "w a"),
            ("provider = \"wa.example\"", "provider = \"wa.example\"\nnumbers = [\"+1\"]", "role"),
            ("role = \"ap\"\nprovider = \"wa.example\"", "role = \"authority\"", "list some"),
            ("uri = \"spiffe://wa.example/ap\"\n", "", "uri"),
            ("alias = \"wa\"\n", "", "alias"),
            ("alias = \"wa\"", "alias = \"W A\"", "no alias"),
            ("uri = \"spiffe://wa.example/ap\"", "token = \"0123456789abcdef\"", "token"),
            ("spiffe://wa.example/ap", "wa.example", "no URI"),
            ("provider", "providr", "providr"),
        ] {
            says(&[TLS, CA, &AP.replace(from, to)], words);
        }
    }
}
