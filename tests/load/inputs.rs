//! What is read, what is refused, and what a refusal says.

use std::{
    fs,
    io::{self, Cursor},
    sync::Arc,
};

use blindbook::{
    bucket::Audience,
    registry::{
        self, HeaderError, Input, LoadError, LoadOptions, Phase, Progress, Reason, Snapshot,
    },
};

use crate::directory::{Directory, found, is_empty, people, plain, siis};

#[tokio::test]
async fn a_new_directory_holds_everybody_on_either_engine() {
    for directory in [Directory::memory(), Directory::sled().await] {
        let report = directory.load(&people(0..1000)).await.unwrap();
        assert_eq!((report.lines, report.added, report.bad.total), (1000, 1000, 0));
        assert_eq!((report.mappings, report.identifiers), (1000, 1000));
        // 1000 mappings in 8 buckets: 125 each.
        assert_eq!((report.prefix_bits, report.buckets_written), (3, 8));
        assert_eq!(directory.find_all(&siis(0..1000)).await, found(0..1000));
        assert!(directory.find_all(&siis(1000..1100)).await.iter().all(Vec::is_empty));
        assert!(is_empty(&directory.data.path().join("spill")));
        let versions = directory.buckets().await;
        assert!(versions.values().all(|(bucket, _)| bucket.version == 1_800_000_000 << 20));
        let counts = registry::counts(&*directory.generations).await.unwrap().unwrap();
        assert_eq!((counts.mappings, counts.identifiers), (1000, 1000));
    }
}

#[tokio::test]
async fn an_empty_file_makes_a_directory_of_one_signed_bucket() {
    let directory = Directory::memory();
    let report = directory.load("sii,user\n").await.unwrap();
    assert_eq!((report.lines, report.buckets_written, report.prefix_bits), (0, 1, 0));
    assert_eq!(directory.buckets().await.len(), 1);
}

#[tokio::test]
async fn files_of_both_kinds_are_read_together() {
    let directory = Directory::memory();
    let csv = directory.data.path().join("a.csv");
    fs::write(
        &csv,
        "\u{feff}ttl_s,user,default,sii,audience\r\n\r\n60,alice,true,415-555-2671,business\r\n",
    )
    .unwrap();
    let json = "{\"user\":\"bob\",\"sii\":\"tel:+14155552671\",\"ttl_s\":5}\n\n";
    let inputs = vec![Input::file(&csv), Input::stream("-", Cursor::new(json))];
    let report = directory.load_inputs(directory.options.clone(), inputs).await.unwrap();
    assert_eq!((report.lines, report.added, report.identifiers), (2, 2, 1));
    let alice = ("wa.example".into(), "alice".into(), Audience::Business, 1_800_000_000, 60);
    let bob = ("wa.example".into(), "bob".into(), Audience::Personal, 0, 5);
    assert_eq!(directory.find("tel:+14155552671").await, [alice, bob]);
}

#[tokio::test]
async fn bad_lines_are_named_and_the_rest_is_loaded() {
    let directory = Directory::memory();
    let csv = format!(
        "sii,user\n\
         +1 415 555 2671,alice\n\
         \"+1 415 555 2672,canary-quote\n\
         canary-sii-canary,bob\n\
         +1 415 555 2673,carol\r\n\
         +1 415 555 2674,canary user\n\
         +1 415 555 2675,dan,canary-surplus\n\
         {},canary-long\n\
         +1 415 555 2676,{}\n\
         \n\
         +1 415 555 2677,erin",
        "canary".repeat(50_000),
        "u".repeat(70),
    );
    let report = directory.load(&csv).await.unwrap();
    let bad: Vec<_> = report.bad.listed.iter().map(|bad| (&*bad.file, bad.line)).collect();
    assert_eq!(bad, [3, 4, 6, 7, 8, 9].map(|line| ("people.csv", line)));
    let reasons: Vec<_> = report.bad.listed.iter().map(|bad| bad.reason).collect();
    assert!(matches!(
        reasons[..],
        [
            Reason::Quotes,
            Reason::Sii(_),
            Reason::User(_),
            Reason::Fields { expected: 2, found: 3 },
            Reason::TooLong,
            Reason::User(_),
        ]
    ));
    assert_eq!((report.lines, report.added, report.bad.total), (9, 3, 6));
    assert!(!format!("{report:?}").contains("canary"));
    for bad in &report.bad.listed {
        assert!(!bad.to_string().contains("canary"), "{bad}");
    }
    assert_eq!(directory.find("tel:+14155552671").await, [plain("alice")]);
    assert_eq!(directory.find("tel:+14155552673").await, [plain("carol")]);
    assert_eq!(directory.find("tel:+14155552677").await, [plain("erin")]);
}

#[tokio::test]
async fn a_report_lists_as_many_bad_lines_as_it_may_and_counts_all() {
    let directory = Directory::memory();
    let options = LoadOptions { listed_bad_lines: 3, ..directory.options.clone() };
    let text = format!("sii,user\n{}", "bad\n".repeat(50));
    let report = directory.load_with(options, &text).await.unwrap();
    assert_eq!((report.bad.total, report.bad.listed.len()), (50, 3));
}

/// A stream that ends in an error.
struct Torn(Cursor<String>);

impl io::Read for Torn {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("torn")),
            read => Ok(read),
        }
    }
}

#[tokio::test]
async fn a_wrong_header_or_a_missing_file_changes_nothing() {
    let directory = Directory::memory();
    directory.load(&people(0..10)).await.unwrap();
    let before = (directory.buckets().await, directory.meta().await);

    let input = |text: &'static str| Input::stream("more.csv", Cursor::new(text));
    let good = || Input::stream("good.csv", Cursor::new(people(10..20)));
    let options = directory.options.clone();
    let refused =
        directory.load_inputs(options.clone(), vec![good(), input("canary,user\na,b\n")]).await;
    let error = refused.unwrap_err();
    assert!(matches!(&error, LoadError::Header { error: HeaderError::Unknown(1), .. }));
    assert!(!format!("{error} {error:?}").contains("canary"));

    let missing = directory.data.path().join("missing.csv");
    let refused = directory.load_inputs(options.clone(), vec![good(), Input::file(&missing)]).await;
    assert!(matches!(refused, Err(LoadError::Input { .. })));

    let torn = Input::stream("torn.csv", Torn(Cursor::new(people(10..20))));
    let refused = directory.load_inputs(options, vec![torn]).await;
    assert!(matches!(refused, Err(LoadError::Input { .. })));

    assert!((directory.buckets().await, directory.meta().await) == before);
    assert!(is_empty(&directory.data.path().join("spill")));
}

#[tokio::test]
async fn strict_refuses_all_for_one_bad_line() {
    for directory in [Directory::memory(), Directory::sled().await] {
        let text = format!("{}bad\n", people(0..10));
        let refused = directory.load_strictly(&text).await;
        let Err(LoadError::Refused(report)) = refused else { panic!("not refused") };
        assert_eq!((report.bad.total, report.bad.listed[0].line), (1, 12));
        assert!(directory.generations.current().await.unwrap().is_none());
        assert_eq!(directory.meta().await, []);

        let report = directory.load_strictly(&people(0..10)).await.unwrap();
        assert_eq!(report.added, 10);
        let before = (directory.buckets().await, directory.meta().await);
        assert!(directory.load_strictly(&text.replace("user-3", "user-x")).await.is_err());
        assert!((directory.buckets().await, directory.meta().await) == before);
    }
}

#[tokio::test]
async fn little_memory_and_one_thread_give_the_same_directory() {
    let directory = Directory::memory();
    let options = LoadOptions {
        memory_bytes: 1,
        threads: std::num::NonZeroUsize::MIN,
        ..directory.options.clone()
    };
    let text = format!("{}{}", people(0..700), people(0..700).replacen("sii,user\n", "", 1));
    let report = directory.load_with(options, &text).await.unwrap();
    assert_eq!((report.added, report.superseded), (700, 700));
    assert_eq!(directory.find_all(&siis(0..700)).await, found(0..700));
}

#[tokio::test]
async fn nothing_that_was_loaded_can_be_read_from_the_data_folder() {
    fn search(folder: &std::path::Path, files: &mut usize) {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                search(&path, files);
                continue;
            }
            *files += 1;
            let bytes = fs::read(&path).unwrap();
            for needle in ["person-1", "user-1", "mail.example"] {
                let found = bytes.windows(needle.len()).any(|it| it == needle.as_bytes());
                assert!(!found, "{needle}");
            }
        }
    }
    let directory = Directory::sled().await;
    directory.load(&people(0..500)).await.unwrap();
    let mut files = 0;
    search(directory.data.path(), &mut files);
    assert!(files > 0);
}

#[tokio::test]
async fn progress_ends_with_everything_read_and_counted() {
    let directory = Directory::memory();
    let path = directory.data.path().join("people.csv");
    let text = format!("{}bad\n", people(0..300));
    fs::write(&path, &text).unwrap();
    let progress = Arc::new(Progress::default());
    assert_eq!(progress.snapshot(), Snapshot::default());
    let load = registry::load(
        Arc::clone(&directory.generations),
        Arc::clone(&directory.keyring),
        directory.options.clone(),
        vec![Input::file(&path)],
        Arc::clone(&progress),
    );
    load.await.unwrap();
    let bytes = text.len() as u64;
    let end = progress.snapshot();
    assert_eq!((end.phase, end.bytes_read, end.bytes_total), (Phase::Done, bytes, Some(bytes)));
    assert_eq!((end.lines, end.bad), (301, 1));
}
