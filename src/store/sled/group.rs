//! Gathers what waits to be made durable: whoever commits at once shares a
//! sync.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

/// Most commits that one sync makes durable.
const MAX_GROUP: usize = 64;

/// How long a group waits for more commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For one more, and for all of them.
    one: Duration,
    all: Duration,
    /// How often it looks.
    nap: Duration,
}

impl Patience {
    const NONE: Self = Self { one: Duration::ZERO, all: Duration::ZERO, nap: Duration::ZERO };

    /// Where several commit, waiting half as long as a sync takes for one more
    /// commit spares it a sync of its own; whoever is alone waits for nobody.
    pub(super) fn of_syncs(group: usize, syncing: Duration) -> Self {
        if group == 1 {
            return Self::NONE;
        }
        let one = (syncing / 2).min(Duration::from_millis(2));
        Self { one, all: Duration::from_millis(8), nap: one / 8 }
    }

    /// Where many commit at once, and processors are scarcer than time: one sync
    /// for all who come in three milliseconds. Where few do nobody waits.
    pub(super) const fn of_crowds(group: usize, _: Duration) -> Self {
        if group < 4 {
            return Self::NONE;
        }
        let all = Duration::from_millis(3);
        Self { one: all, all, nap: all }
    }
}

/// Commits group after group, until nobody is left who could ask. `commit` tells
/// how long its sync took, and `patience` what follows from that and from how
/// many there were.
pub(super) fn run<T>(
    mut waiting: mpsc::Receiver<T>,
    patience: impl Fn(usize, Duration) -> Patience,
    mut commit: impl FnMut(Vec<T>) -> Duration,
) {
    let mut wait = Patience::NONE;
    while let Some(first) = waiting.blocking_recv() {
        let group = gather(first, &mut waiting, wait);
        let count = group.len();
        let syncing = commit(group);
        wait = patience(count, syncing);
    }
}

/// The commits of one group: those that wait, and those that come while others
/// do.
fn gather<T>(first: T, waiting: &mut mpsc::Receiver<T>, patience: Patience) -> Vec<T> {
    let mut group = vec![first];
    let begun = Instant::now();
    let mut newest = begun;
    while group.len() < MAX_GROUP {
        if let Ok(next) = waiting.try_recv() {
            group.push(next);
            newest = Instant::now();
        } else if newest.elapsed() < patience.one && begun.elapsed() < patience.all {
            thread::sleep(patience.nap);
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
        run(waiting, Patience::of_syncs, |group| {
            groups.push(group);
            Duration::ZERO
        });
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 2]);
        assert!(groups.into_iter().flatten().eq(0..130));
    }
}
