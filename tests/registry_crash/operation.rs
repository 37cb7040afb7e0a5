//! What a writer does, as it is written down before it begins.

use rand::{Rng, RngExt as _};
use serde::{Deserialize, Serialize};

use crate::world::{IDENTIFIERS, PROVIDERS, SWEPT, USERS};

/// A claim token, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) now_s: u64,
    pub(crate) provider: usize,
    pub(crate) text: String,
}

/// Which mapping: provider and user.
pub(crate) type Name = (usize, usize);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Operation {
    Claim { of: usize, name: Name, business: bool, circle: bool, brief: bool, proof: Token },
    ReleaseOwn { of: usize, name: Name },
    ReleaseAll { of: usize },
    Release { of: usize, name: Name, proof: Token },
    SetDefault { of: usize, name: Name, proof: Token },
    SetAudience { of: usize, name: Name, business: bool },
    Port { of: usize, from: Option<usize>, to: Name, proof: Token },
    Replay { of: usize, proof: Token },
    Sweep { now_s: u64 },
}

impl Operation {
    /// The identifiers that it may change.
    pub(crate) fn identifiers(&self) -> Vec<usize> {
        match self {
            Self::Claim { of, .. }
            | Self::ReleaseOwn { of, .. }
            | Self::ReleaseAll { of }
            | Self::Release { of, .. }
            | Self::SetDefault { of, .. }
            | Self::SetAudience { of, .. }
            | Self::Port { of, .. } => vec![*of],
            Self::Replay { .. } => Vec::new(),
            Self::Sweep { .. } => SWEPT.collect(),
        }
    }

    /// When it is done, if that matters.
    pub(crate) fn now_s(&self) -> u64 {
        match self {
            Self::Sweep { now_s } => *now_s,
            other => other.proof().map_or(0, |(_, proof)| proof.now_s),
        }
    }

    /// The proof that it uses up, if it does.
    pub(crate) fn proof(&self) -> Option<(usize, &Token)> {
        match self {
            Self::Claim { of, proof, .. }
            | Self::Release { of, proof, .. }
            | Self::SetDefault { of, proof, .. }
            | Self::Port { of, proof, .. } => Some((*of, proof)),
            _ => None,
        }
    }
}

/// What is drawn before a proof is made for it.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Claim,
    ReleaseOwn,
    ReleaseAll,
    Release,
    SetDefault,
    SetAudience,
    Port,
    Replay,
}

/// Draws what a writer does next.
pub(crate) fn kind(rng: &mut impl Rng) -> Kind {
    match rng.random_range(0..20) {
        0..8 => Kind::Claim,
        8..10 => Kind::ReleaseOwn,
        10 => Kind::ReleaseAll,
        11..13 => Kind::Release,
        13..15 => Kind::SetDefault,
        15..17 => Kind::SetAudience,
        17..19 => Kind::Port,
        _ => Kind::Replay,
    }
}

pub(crate) fn name(rng: &mut impl Rng) -> Name {
    (rng.random_range(0..PROVIDERS.len()), rng.random_range(0..USERS))
}

/// One of a writer's own identifiers.
pub(crate) fn identifier(writer: usize, writers: usize, rng: &mut impl Rng) -> usize {
    let each = IDENTIFIERS / writers;
    writer * each + rng.random_range(0..each)
}
