//! A load that is cut off anywhere and started again ends with the directory
//! of one that was not.

use std::{sync::Arc, time::Duration};

use blindbook::registry::{self, LoadError};

use crate::{
    directory::{Directory, found, is_empty, people, siis},
    faults::{Fault, FaultyGenerations},
};

/// Loads `before`, cuts off a load of `text` after each number of writes,
/// and loads it again.
async fn cut_off_everywhere(before: &str, text: &str, people: usize, fault: Fault) {
    let mut cuts = 0;
    for writes in 0.. {
        let directory = Directory::memory();
        if !before.is_empty() {
            directory.load(before).await.unwrap();
        }
        let faulty =
            Arc::new(FaultyGenerations::new(Arc::clone(&directory.generations), writes, fault));
        let cut = directory.through(Arc::clone(&faulty) as _);
        let outcome = if fault == Fault::Hang {
            // Given up once it stands still.
            let load = cut.load(text);
            tokio::select! {
                outcome = load => Some(outcome),
                () = async {
                    while !faulty.blown() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                } => None,
            }
        } else {
            Some(cut.load(text).await)
        };
        if !faulty.blown() {
            outcome.unwrap().unwrap();
            break;
        }
        assert!(matches!(outcome, None | Some(Err(LoadError::Store(_)))));
        cuts += 1;

        let report = directory.load(text).await.unwrap();
        assert_eq!(report.bad.total, 0);
        let mappings = u64::try_from(people).unwrap();
        assert_eq!((report.mappings, report.identifiers), (mappings, mappings), "{writes}");
        assert_eq!(directory.find_all(&siis(0..people)).await, found(0..people), "{writes}");
        let counts = registry::counts(&*directory.generations).await.unwrap().unwrap();
        assert_eq!(counts.mappings, mappings);
    }
    assert!(cuts >= 4, "only {cuts} writes were cut off");
}

#[tokio::test]
async fn a_first_load() {
    for fault in [Fault::Before, Fault::After] {
        cut_off_everywhere("", &people(0..500), 500, fault).await;
    }
}

#[tokio::test]
async fn a_load_into_what_is_there() {
    for fault in [Fault::Before, Fault::After] {
        cut_off_everywhere(&people(0..400), &people(200..550), 550, fault).await;
    }
}

#[tokio::test]
async fn a_load_that_re_splits() {
    for fault in [Fault::Before, Fault::After] {
        cut_off_everywhere(&people(0..200), &people(100..600), 600, fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_whose_future_is_dropped() {
    cut_off_everywhere("", &people(0..500), 500, Fault::Hang).await;
    cut_off_everywhere(&people(0..400), &people(200..550), 550, Fault::Hang).await;
    cut_off_everywhere(&people(0..200), &people(100..600), 600, Fault::Hang).await;
}

#[tokio::test]
async fn counts_are_unknown_after_a_cut_and_exact_after_the_next_load_of_anything() {
    let directory = Directory::memory();
    directory.load(&people(0..1000)).await.unwrap();
    let faulty = FaultyGenerations::new(Arc::clone(&directory.generations), 3, Fault::Before);
    let cut = directory.through(Arc::new(faulty));
    assert!(cut.load(&people(1000..1100)).await.is_err());
    assert_eq!(registry::counts(&*directory.generations).await.unwrap(), None);

    let report = directory.load(&people(0..1)).await.unwrap();
    let counts = registry::counts(&*directory.generations).await.unwrap().unwrap();
    assert_eq!((counts.mappings, counts.identifiers), (report.mappings, report.identifiers));
    let there = directory.find_all(&siis(0..1100)).await;
    let there = there.iter().map(Vec::len).sum::<usize>();
    assert_eq!(usize::try_from(report.mappings).unwrap(), there);
    assert!(there > 1000);
    assert!(is_empty(&directory.data.path().join("spill")));
}
