//! Many claims on one call: a bounded number under way, so that their commits
//! share their syncs, and one that is refused keeps no other from being made.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::task::JoinSet;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::{Inner, RegistryError};
use crate::{
    identifier::Provider,
    registry::LedgerError,
    server::{gate::CallError, peer::Caller, status},
    wire::{
        proto::{ClaimManyRequest, ClaimManyResponse},
        registry::{Claim, Claimed, Outcome},
    },
};

/// Most claims of one call that are under way at once. Further ones are read
/// when some of these have been answered.
const MOST_UNDER_WAY: usize = 64;

/// The outcomes of the claims of one call, as they come. When its caller goes
/// away, no further claim is begun; a commit that was comes to its end.
pub(in crate::server) struct Outcomes {
    inner: Arc<Inner>,
    caller: Caller,
    provider: Provider,
    claims: Streaming<ClaimManyRequest>,
    read: Reading,
    under_way: JoinSet<(u64, Result<Claimed, RegistryError>)>,
}

enum Reading {
    /// The next claim is the nth.
    Next(u64),
    /// There are no more claims.
    Ended,
    /// The rest could not be read: told after the outcomes of what was.
    Broken(Status),
}

impl Outcomes {
    pub(super) fn new(
        inner: Arc<Inner>,
        caller: Caller,
        provider: Provider,
        claims: Streaming<ClaimManyRequest>,
    ) -> Self {
        Self { inner, caller, provider, claims, read: Reading::Next(0), under_way: JoinSet::new() }
    }

    /// Begins as many claims as there may be under way.
    fn begin(&mut self, cx: &mut Context<'_>) {
        while self.under_way.len() < MOST_UNDER_WAY {
            let Reading::Next(index) = self.read else { return };
            match Pin::new(&mut self.claims).poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.read = Reading::Ended,
                Poll::Ready(Some(Err(status))) => self.read = Reading::Broken(explained(status)),
                Poll::Ready(Some(Ok(request))) => {
                    self.read = Reading::Next(index + 1);
                    let (inner, provider) = (self.inner.clone(), self.provider.clone());
                    // A call may last longer than its caller's standing.
                    let still = self.caller.still().map_err(RegistryError::from);
                    self.under_way.spawn(async move {
                        let claim = still.and_then(|()| Ok(Claim::try_from(request)?));
                        let outcome = match claim {
                            Ok(claim) => inner.claim(&provider, claim).await,
                            Err(error) => Err(error),
                        };
                        (index, outcome)
                    });
                }
            }
        }
    }
}

/// The library's own words have no details.
fn explained(status: Status) -> Status {
    if status.details().is_empty() { CallError::Undecodable.into() } else { status }
}

impl Stream for Outcomes {
    type Item = Result<ClaimManyResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            this.begin(cx);
            match this.under_way.poll_join_next(cx) {
                Poll::Ready(Some(Ok((index, outcome)))) => {
                    let outcome = outcome.map_err(|error| status::refusal(&error));
                    return Poll::Ready(Some(Ok(Outcome { index, outcome }.into())));
                }
                // A claim that panicked: which, its task took with it.
                Poll::Ready(Some(Err(_))) => {
                    this.read = Reading::Broken(RegistryError::from(LedgerError::Worker).into());
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => match std::mem::replace(&mut this.read, Reading::Ended) {
                    Reading::Ended => return Poll::Ready(None),
                    Reading::Broken(status) => return Poll::Ready(Some(Err(status))),
                    // Nothing is under way and more may come.
                    next @ Reading::Next(_) => {
                        this.read = next;
                        return Poll::Pending;
                    }
                },
            }
        }
    }
}
