//! What does not fit is named by its line, and the rest is loaded.

use blindbook::registry::{LoadError, Reason};

use crate::directory::{Directory, people, placed, sii, siis};

fn refused(report: &blindbook::registry::LoadReport, reason: Reason) -> Vec<u64> {
    let listed = report.bad.listed.iter();
    listed.filter(|bad| bad.reason == reason).map(|bad| bad.line).collect()
}

#[tokio::test]
async fn the_ninth_mapping_of_an_identifier_is_refused_by_its_line() {
    let directory = Directory::memory();
    let lines: Vec<_> = (0..10).map(|n| format!("a@mail.example,user-{n}\n")).collect();
    let text = format!("sii,user\n{}b@mail.example,bob\n", lines.concat());
    for again in [false, true] {
        let report = directory.load(&text).await.unwrap();
        assert_eq!(refused(&report, Reason::TooManyMappings), [10, 11]);
        let (added, unchanged) = if again { (0, 9) } else { (9, 0) };
        assert_eq!((report.added, report.unchanged), (added, unchanged));
        assert_eq!((report.mappings, report.identifiers), (9, 2));
    }
    let users: Vec<_> =
        directory.find("mailto:a@mail.example").await.into_iter().map(|seen| seen.1).collect();
    assert_eq!(users, (0..8).map(|n| format!("user-{n}")).collect::<Vec<_>>());

    // Also for another provider: the eight are all providers' together.
    let other = directory.of("other.example");
    let report = other.load("sii,user\na@mail.example,x\nb@mail.example,x\n").await.unwrap();
    assert_eq!(refused(&report, Reason::TooManyMappings), [2]);
    assert_eq!(directory.find("mailto:b@mail.example").await.len(), 2);
}

#[tokio::test]
async fn a_provider_fills_no_bucket_beyond_its_share() {
    let directory = Directory::memory();
    // 200 mappings, all in the first of two buckets: the mean is 100, and a
    // provider may hold 100 + 8 * 10 + 16 in one.
    let numbers: Vec<_> = placed(0, 1).take(200).collect();
    let text = people(numbers.iter().copied());
    for _ in 0..2 {
        let report = directory.load(&text).await.unwrap();
        assert_eq!(report.prefix_bits, 1);
        assert_eq!(refused(&report, Reason::ShareTaken), [198, 199, 200, 201]);
        assert_eq!((report.mappings, report.added + report.unchanged), (196, 196));
    }
    let found = directory.find_all(&siis(numbers)).await;
    assert_eq!(found.iter().filter(|seen| seen.is_empty()).count(), 4);
    assert!(found[..196].iter().all(|seen| seen.len() == 1));
}

#[tokio::test]
async fn a_full_bucket_takes_no_more() {
    let directory = Directory::memory();
    // Two providers' shares together exceed a bucket.
    let numbers: Vec<_> = placed(0, 2).take(300).collect();
    let report = directory.load(&people(numbers[..200].iter().copied())).await.unwrap();
    let first = report.mappings;
    assert_eq!((report.prefix_bits, first), (1, 196));
    let other = directory.of("other.example");
    let report = other.load(&people(numbers[200..].iter().copied())).await.unwrap();
    // 296 mappings: four buckets now, still all in the first. The share of a
    // hundred is 25 + 8 * 5 + 16 = 81, of which 60 find a slot.
    assert_eq!((report.resplit_from, report.prefix_bits), (Some(1), 2));
    assert_eq!(report.added, 60);
    let full = refused(&report, Reason::BucketFull);
    let lines: Vec<u64> = (62..=101).collect();
    assert_eq!(full, lines);
    let found = directory.find_all(&siis(numbers)).await;
    assert_eq!(found.iter().filter(|seen| seen.len() == 1).count(), 256);
}

#[tokio::test]
async fn strict_refuses_all_when_one_record_does_not_fit() {
    let directory = Directory::memory();
    let numbers: Vec<_> = placed(0, 3).take(200).collect();
    let text = people(numbers);
    let refused = directory.load_strictly(&text).await;
    let Err(LoadError::Refused(report)) = refused else { panic!("not refused") };
    assert_eq!(report.bad.total, 4);
    assert!(directory.generations.current().await.unwrap().is_none());
    assert_eq!(directory.meta().await, []);

    // In place, and where it would be re-split.
    directory.load_strictly(&people(100_000..100_100)).await.unwrap();
    let before = (directory.buckets().await, directory.meta().await);
    let nine: Vec<_> = (0..9).map(|n| format!("{},another-{n}\n", sii(100_000))).collect();
    for text in [format!("sii,user\n{}", nine.concat()), text] {
        let refused = directory.load_strictly(&text).await;
        assert!(matches!(refused, Err(LoadError::Refused(_))));
        assert!((directory.buckets().await, directory.meta().await) == before);
    }
}
