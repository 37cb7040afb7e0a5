//! Neither logs at their most verbose nor the data folder hold anybody.

use blindbook::{bucket::Placement, identifier::Sii};

use super::estate::{Estate, assert_code, files, text};

const PEOPLE: [(&str, &str, &str); 3] = [
    ("+14155557312", "tel:+14155557312", "canary-user-aaaaaaaaaaaa"),
    ("canary.person.with.a.name@example.com", "", "canary-user-bbbbbbbbbbbb"),
    ("acct:canary.account@host.example", "", "canary-user-cccccccccccc"),
];
const ABSENT: &str = "canary.who.is.absent@example.com";

/// Every form in which an identifier, user or placement could be written.
fn canaries() -> Vec<Vec<u8>> {
    let mut canaries: Vec<Vec<u8>> = Vec::new();
    let siis = PEOPLE.iter().map(|(sii, ..)| *sii).chain([ABSENT]);
    for sii in siis {
        let parsed = Sii::parse(sii, None).unwrap();
        canaries.push(sii.as_bytes().to_vec());
        canaries.push(parsed.as_bytes().to_vec());
        let placement = *Placement::of(&parsed).expose();
        // Eight bytes are no accident, and more than any prefix.
        for part in [&placement[..8], &placement[8..16], &placement[24..]] {
            canaries.push(part.to_vec());
            let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            canaries.push(hex.to_uppercase().into_bytes());
            canaries.push(hex.into_bytes());
            let list: Vec<_> = part.iter().map(ToString::to_string).collect();
            canaries.push(list.join(", ").into_bytes());
        }
    }
    canaries.push(b"4155557312".to_vec());
    canaries.push(b"canary".to_vec());
    canaries
}

#[track_caller]
fn assert_holds_none(what: &str, bytes: &[u8], canaries: &[Vec<u8>]) {
    for canary in canaries {
        let found = bytes.windows(canary.len()).any(|part| part == canary.as_slice());
        assert!(!found, "{what} holds {:?}", text(canary));
    }
}

#[test]
fn logs_and_data_folder_hold_no_identifier_user_or_placement() {
    let estate = Estate::new();
    let canaries = canaries();
    let mut lines = String::from("sii,user\n");
    for (sii, _, user) in PEOPLE {
        lines.push_str(&format!("{sii},{user}\n"));
    }
    // Refused lines, too, are not to be quoted.
    lines.push_str("canary.broken@,canary-user-dddddddddddd\n+14155557312,\n");
    let file = estate.write("people.csv", &lines);
    let output = estate.load_command().args(["--log", "trace"]).arg(&file).output().unwrap();
    assert_code(&output, 0);
    let mut logs = text(&output.stderr) + &text(&output.stdout);
    std::fs::remove_file(&file).unwrap();

    let serving = estate.serve();
    let asked: Vec<_> = PEOPLE.iter().map(|(sii, ..)| *sii).chain([ABSENT]).collect();
    let output = estate
        .lookup_command(&serving)
        .args(["--log", "trace", "--state"])
        .arg(estate.path("state"))
        .args(asked)
        .output()
        .unwrap();
    assert_code(&output, 0);
    for (.., user) in PEOPLE {
        assert!(text(&output.stdout).contains(user), "the lookup must really happen");
    }
    logs += &text(&output.stderr);
    let (code, log) = serving.stop();
    assert_eq!(code, Some(0));
    assert!(log.contains("serving"), "the server must really log");
    logs += &log;

    assert_holds_none("a log", logs.as_bytes(), &canaries);
    let stored = files(&estate.data());
    assert!(stored.len() >= 2 && stored.iter().any(|path| path.metadata().unwrap().len() > 10_000));
    for path in stored {
        let bytes = std::fs::read(&path).unwrap();
        assert_holds_none(&path.display().to_string(), &bytes, &canaries);
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let canaries = canaries();
    for canary in &canaries {
        let hidden = [b"around ".as_slice(), canary, b" it"].concat();
        let caught = std::panic::catch_unwind(|| assert_holds_none("it", &hidden, &canaries));
        assert!(caught.is_err(), "{:?}", text(canary));
    }
}
