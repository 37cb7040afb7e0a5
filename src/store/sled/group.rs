//! Gathers what waits to be made durable: whoever commits at once shares a
//! sync.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

/// Most commits that one sync makes durable.
const MAX_GROUP: usize = 64;

/// How long a group waits for one more commit at most, and for all of them.
const MAX_PATIENCE: Duration = Duration::from_millis(2);
const MAX_GATHERING: Duration = Duration::from_millis(8);

/// Commits group after group, until nobody is left who could ask. `commit` tells
/// how long its sync took.
pub(super) fn run<T>(mut waiting: mpsc::Receiver<T>, mut commit: impl FnMut(Vec<T>) -> Duration) {
    let mut patience = Duration::ZERO;
    while let Some(first) = waiting.blocking_recv() {
        let group = gather(first, &mut waiting, patience);
        let alone = group.len() == 1;
        let syncing = commit(group);
        // Where several commit, waiting half as long as a sync takes for one more
        // commit spares it a sync of its own; whoever is alone waits for nobody.
        patience = if alone { Duration::ZERO } else { (syncing / 2).min(MAX_PATIENCE) };
    }
}

/// The commits of one group: those that wait, and those that come while others
/// do.
fn gather<T>(first: T, waiting: &mut mpsc::Receiver<T>, patience: Duration) -> Vec<T> {
    let mut group = vec![first];
    let begun = Instant::now();
    let mut newest = begun;
    while group.len() < MAX_GROUP {
        if let Ok(next) = waiting.try_recv() {
            group.push(next);
            newest = Instant::now();
        } else if newest.elapsed() < patience && begun.elapsed() < MAX_GATHERING {
            thread::sleep(patience / 8);
        } else {
            break;
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_one_group_and_the_end_comes_after_the_last() {
        let (sender, waiting) = mpsc::channel(256);
        for n in 0..130 {
            sender.blocking_send(n).unwrap();
        }
        drop(sender);
        let mut groups = Vec::new();
        run(waiting, |group| {
            groups.push(group);
            Duration::ZERO
        });
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 2]);
        assert!(groups.into_iter().flatten().eq(0..130));
    }
}
