//! When to look at the files of TLS anew: every few seconds, and at a SIGHUP.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use blindbook::server::TlsKeeper;
use tokio::sync::Notify;

/// How often the files are looked at without being asked.
const PERIOD: Duration = Duration::from_secs(5);

/// Is notified by each SIGHUP. From here on none ends the process.
#[cfg(unix)]
pub(super) fn asked() -> io::Result<Arc<Notify>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = signal(SignalKind::hangup())?;
    let asked = Arc::new(Notify::new());
    let notified = asked.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            notified.notify_one();
        }
    });
    Ok(asked)
}

#[cfg(not(unix))]
pub(super) fn asked() -> io::Result<Arc<Notify>> {
    Ok(Arc::new(Notify::new()))
}

/// Looks for ever; without TLS there is nothing to look at.
pub(super) async fn keep(keeper: Option<TlsKeeper>, asked: Arc<Notify>) -> Infallible {
    match keeper {
        Some(keeper) => keeper.keep(PERIOD, &asked).await,
        None => loop {
            asked.notified().await;
            tracing::info!("there are no TLS files to look at: the server speaks plain text");
        },
    }
}
