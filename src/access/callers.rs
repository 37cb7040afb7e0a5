//! The list of partners: by the URI of their certificate, or by a token where
//! there is no TLS.

use std::{collections::BTreeMap, fmt, sync::Arc};

use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::{AccessError, Coverage};
use crate::identifier::Provider;

/// Fewest bytes of a token.
pub const MIN_TOKEN_BYTES: usize = 16;

/// What a partner is to the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// An application provider: speaks for itself alone.
    Provider(Provider),
    /// An authority over numbers or domains.
    Authority(Coverage),
}

/// A partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What it is.
    pub role: Role,
}

/// All partners.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Callers {
    by_uri: BTreeMap<String, Arc<Caller>>,
    by_token: Vec<([u8; 32], Arc<Caller>)>,
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callers({} by URI, {} by token)", self.by_uri.len(), self.by_token.len())
    }
}

impl Callers {
    /// Lists a partner by the URI of its certificate.
    ///
    /// # Errors
    /// [`AccessError::Uri`] or [`AccessError::DuplicateUri`].
    pub fn add_uri(&mut self, uri: &str, role: Role) -> Result<(), AccessError> {
        let shaped = uri.split_once("://").is_some_and(|(scheme, rest)| {
            !scheme.is_empty()
                && !rest.is_empty()
                && uri.bytes().all(|byte| byte.is_ascii_graphic())
        });
        if !shaped {
            return Err(AccessError::Uri(uri.into()));
        }
        if self.by_uri.contains_key(uri) {
            return Err(AccessError::DuplicateUri(uri.into()));
        }
        self.by_uri.insert(uri.into(), Arc::new(Caller { role }));
        Ok(())
    }

    /// Lists a partner by a token, which is kept as a hash.
    ///
    /// # Errors
    /// [`AccessError::Token`] or [`AccessError::DuplicateToken`].
    pub fn add_token(&mut self, token: &str, role: Role) -> Result<(), AccessError> {
        let shaped =
            token.len() >= MIN_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !shaped {
            return Err(AccessError::Token);
        }
        if self.by_token(token).is_some() {
            return Err(AccessError::DuplicateToken);
        }
        self.by_token.push((hash(token), Arc::new(Caller { role })));
        Ok(())
    }

    /// The partner whose certificate holds this URI, byte for byte.
    #[must_use]
    pub fn by_uri(&self, uri: &str) -> Option<Arc<Caller>> {
        self.by_uri.get(uri).cloned()
    }

    /// The partner with this token. How long it takes does not depend on which
    /// it is, nor on how much of it is right.
    #[must_use]
    pub fn by_token(&self, token: &str) -> Option<Arc<Caller>> {
        let given = hash(token);
        // One past the last: nobody.
        let mut found = u32::MAX;
        for (index, (hash, _)) in (0..).zip(&self.by_token) {
            let same: Choice = hash.ct_eq(&given);
            found = u32::conditional_select(&found, &index, same);
        }
        let (_, caller) = self.by_token.get(usize::try_from(found).ok()?)?;
        Some(caller.clone())
    }

    /// Whether any partner is an application provider.
    #[must_use]
    pub fn has_providers(&self) -> bool {
        let all = self.by_uri.values().chain(self.by_token.iter().map(|(_, caller)| caller));
        all.into_iter().any(|caller| matches!(caller.role, Role::Provider(_)))
    }

    /// Whether any partner has a token.
    #[must_use]
    pub const fn has_tokens(&self) -> bool {
        !self.by_token.is_empty()
    }

    /// Whether any partner has a certificate.
    #[must_use]
    pub fn has_uris(&self) -> bool {
        !self.by_uri.is_empty()
    }
}

fn hash(token: &str) -> [u8; 32] {
    blake3::derive_key("blindbook v1 caller token", token.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str) -> Role {
        Role::Provider(Provider::parse(name).unwrap())
    }

    #[test]
    fn callers_are_found_by_their_own_uri_or_token_and_by_nothing_else() {
        let mut callers = Callers::default();
        callers.add_uri("spiffe://wa.example/ap", provider("wa.example")).unwrap();
        callers.add_uri("spiffe://sg.example/ap", provider("sg.example")).unwrap();
        let tokens = ["0123456789abcdef", "0123456789abcdeg", "0123456789abcdefg"];
        for (token, name) in tokens.iter().zip(["a.example", "b.example", "c.example"]) {
            callers.add_token(token, provider(name)).unwrap();
        }
        let role = |caller: Option<Arc<Caller>>| caller.map(|caller| caller.role.clone());
        let wa = callers.by_uri("spiffe://wa.example/ap");
        assert_eq!(role(wa), Some(provider("wa.example")));
        for uri in ["", "spiffe://wa.example/", "spiffe://wa.example/ap/", "SPIFFE://wa.example/ap"]
        {
            assert_eq!(callers.by_uri(uri), None, "{uri}");
        }
        for (token, name) in tokens.iter().zip(["a.example", "b.example", "c.example"]) {
            assert_eq!(role(callers.by_token(token)), Some(provider(name)));
        }
        for token in ["", "0123456789abcde", "0123456789abcdefgh"] {
            assert_eq!(callers.by_token(token), None);
        }
        assert_eq!(Callers::default().by_token(tokens[0]), None);
        assert!(!format!("{callers:?}").contains("0123"));
    }

    #[test]
    fn callers_that_cannot_be_told_apart_are_refused() {
        let mut callers = Callers::default();
        let uri = "spiffe://wa.example/ap";
        callers.add_uri(uri, provider("wa.example")).unwrap();
        let again = callers.add_uri(uri, provider("sg.example"));
        assert_eq!(again, Err(AccessError::DuplicateUri(uri.into())));
        for uri in ["", "wa.example", "://x", "spiffe://", "spiffe://a b"] {
            let refused = callers.add_uri(uri, provider("wa.example"));
            assert_eq!(refused, Err(AccessError::Uri(uri.into())));
        }
        callers.add_token("0123456789abcdef", provider("wa.example")).unwrap();
        let again = callers.add_token("0123456789abcdef", provider("sg.example"));
        assert_eq!(again, Err(AccessError::DuplicateToken));
        for token in ["", "0123456789abcde", "0123456789 abcdef"] {
            assert_eq!(callers.add_token(token, provider("wa.example")), Err(AccessError::Token));
        }
    }
}
