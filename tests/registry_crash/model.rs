//! What must be there, by identifier.

use std::collections::BTreeMap;

use blindbook::registry::proof::TOKEN_LIFETIME_S;

use crate::{
    operation::{Name, Operation, Token},
    world::{START_S, until},
};

/// Most mappings of an identifier.
const MAX_MAPPINGS: usize = 8;

/// One mapping: which, whether in the circle, and what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known {
    pub(crate) name: Name,
    pub(crate) circle: bool,
    pub(crate) business: bool,
    pub(crate) since: u32,
    pub(crate) until: u32,
}

/// Sorted.
pub(crate) type Mappings = Vec<Known>;

#[derive(Clone, Default)]
pub(crate) struct Model {
    mappings: BTreeMap<usize, Mappings>,
    proofs: BTreeMap<usize, Token>,
    now_s: u64,
}

impl Model {
    /// The latest time of any operation.
    pub(crate) fn now_s(&self) -> u64 {
        self.now_s.max(START_S)
    }

    pub(crate) fn mappings(&self, of: usize) -> Option<&Mappings> {
        self.mappings.get(&of)
    }

    pub(crate) fn all(&self) -> BTreeMap<usize, Mappings> {
        self.mappings.clone()
    }

    /// The newest proof that was used for each identifier, unless it has expired:
    /// what the registry has to remember.
    pub(crate) fn fresh_proofs(&self) -> Vec<(usize, Token)> {
        let fresh =
            self.proofs.iter().filter(|(_, proof)| proof.now_s + TOKEN_LIFETIME_S > self.now_s);
        fresh.map(|(of, proof)| (*of, proof.clone())).collect()
    }

    /// Takes over what another knows of an identifier's mappings.
    pub(crate) fn take(&mut self, of: usize, from: &Self) {
        match from.mappings.get(&of) {
            Some(mappings) => drop(self.mappings.insert(of, mappings.clone())),
            None => drop(self.mappings.remove(&of)),
        }
    }

    /// A proof was used by an operation that was never answered.
    pub(crate) fn used(&mut self, of: usize, proof: &Token) {
        self.proofs.insert(of, proof.clone());
    }

    /// So late it was, at least.
    pub(crate) fn saw(&mut self, now_s: u64) {
        self.now_s = self.now_s.max(now_s);
    }

    /// What an operation comes to, or the name of its refusal.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        let mut next = self.clone();
        let result = next.change(operation);
        if result.is_ok() {
            *self = next;
        }
        self.saw(operation.now_s());
        result
    }

    fn change(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Claim { of, name, business, circle, brief, proof } => {
                let until = until(*brief, proof.now_s);
                self.claim(*of, *name, *circle, *business, until, 0)?;
            }
            Operation::ReleaseOwn { of, name } => {
                self.remove(*of, |known| known.name == *name).map(drop)?;
            }
            Operation::ReleaseAll { of } => {
                let _ = self.remove(*of, |_| true);
            }
            Operation::Release { of, name, .. } => {
                self.remove(*of, |known| known.name == *name && !known.circle).map(drop)?;
            }
            Operation::SetDefault { of, name, proof } => {
                self.set_default(*of, *name, u32::try_from(proof.now_s).unwrap())?;
            }
            Operation::SetAudience { of, name, business } => {
                self.find(*of, *name, false)?.business = *business;
            }
            Operation::Port { of, from, to, proof } => {
                if *from == Some(to.0) {
                    return Err("PortToItself".into());
                }
                let gone = self.remove(*of, |known| Some(known.name.0) == *from);
                let since = gone.unwrap_or_default().iter().map(|known| known.since).max();
                let until = until(false, proof.now_s);
                self.claim(*of, *to, false, false, until, since.unwrap_or(0))?;
            }
            Operation::Replay { .. } => return Err("ProofUsed".into()),
            Operation::Sweep { now_s } => {
                for of in operation.identifiers() {
                    let _ = self.remove(of, |known| u64::from(known.until) <= *now_s);
                }
            }
        }
        if let Some((of, proof)) = operation.proof() {
            self.proofs.insert(of, proof.clone());
        }
        if let Some(of) = operation.identifiers().first()
            && let Some(mappings) = self.mappings.get_mut(of)
        {
            mappings.sort_unstable();
        }
        Ok(())
    }

    fn find(&mut self, of: usize, name: Name, circle: bool) -> Result<&mut Known, String> {
        let mut known = self.mappings.get_mut(&of).into_iter().flatten();
        known
            .find(|known| known.name == name && known.circle == circle)
            .ok_or_else(|| "NotFound".into())
    }

    fn claim(
        &mut self,
        of: usize,
        name: Name,
        circle: bool,
        business: bool,
        until: u32,
        since: u32,
    ) -> Result<(), String> {
        if let Ok(known) = self.find(of, name, circle) {
            (known.business, known.until) = (business, until);
            return Ok(());
        }
        let mappings = self.mappings.entry(of).or_default();
        if mappings.len() >= MAX_MAPPINGS {
            return Err("TooManyMappings".into());
        }
        mappings.push(Known { name, circle, business, since, until });
        Ok(())
    }

    fn remove(&mut self, of: usize, gone: impl Fn(&Known) -> bool) -> Result<Vec<Known>, String> {
        let mappings = self.mappings.remove(&of).unwrap_or_default();
        let (removed, kept): (Vec<_>, Vec<_>) = mappings.into_iter().partition(gone);
        if !kept.is_empty() {
            self.mappings.insert(of, kept);
        }
        if removed.is_empty() { Err("NotFound".into()) } else { Ok(removed) }
    }

    fn set_default(&mut self, of: usize, name: Name, now: u32) -> Result<(), String> {
        let mine = self.find(of, name, false)?.since;
        let all = self.mappings.get(&of).into_iter().flatten();
        let greatest = all.clone().map(|known| known.since).max().unwrap_or(0);
        let alone = all.filter(|known| known.since == greatest).count() == 1;
        if mine != greatest || !alone {
            self.find(of, name, false)?.since = now.max(greatest + 1);
        }
        Ok(())
    }
}
