//! Removes what lapsed, a few buckets at a time, for ever: within a period
//! every bucket was looked at, and no lookup waits for it.

use std::{convert::Infallible, time::Duration};

use crate::{
    bucket::PrefixBits,
    registry::{Ledger, LedgerError},
    server::Clock,
};

/// Buckets that are swept in one go.
const STRETCH: usize = 16;

/// Sweeps round after round, each spread evenly over `period`, and writes down
/// after each how much the directory holds.
pub(in crate::server) async fn keep_swept(
    ledger: Ledger,
    bits: PrefixBits,
    clock: Clock,
    period: Duration,
) -> Infallible {
    let stretches = bits.buckets().div_ceil(STRETCH as u64);
    let pause = period.div_f64(stretches as f64);
    let (mut next, mut removed, mut skipped) = (None, 0, 0);
    loop {
        tokio::time::sleep(pause).await;
        match ledger.sweep(clock.now_s(), next, STRETCH).await {
            Ok(swept) => {
                next = swept.next;
                removed += swept.removed;
                skipped += swept.skipped;
                if next.is_none() {
                    end_round(&ledger, removed, skipped).await;
                    (removed, skipped) = (0, 0);
                }
            }
            // The server is stopping, and this task with it.
            Err(LedgerError::Closed) => {}
            // The same stretch again, after the pause.
            Err(error) => tracing::error!(%error, "what lapsed could not be removed"),
        }
    }
}

async fn end_round(ledger: &Ledger, removed: usize, skipped: usize) {
    if skipped > 0 {
        tracing::error!(
            buckets = skipped,
            "damaged buckets were not swept: stop the server and run `blindbook verify`"
        );
    }
    tracing::debug!(removed, "every bucket was swept");
    if let Err(error) = ledger.note_counts().await {
        tracing::error!(%error, "the number of mappings could not be written down");
    }
}
