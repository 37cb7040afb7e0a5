//! Directory files as operators hand them in, CSV and JSONL.
//!
//! Input: one byte that chooses what the file's name promises, then the file.
//! Every line has one fate, whatever the line ends and whatever surrounds it,
//! and no fate tells what the line says.

#![no_main]

use std::io::Cursor;

use blindbook::registry::{Input, LoadError, Reason, check_lines};
use libfuzzer_sys::{Corpus, fuzz_target};

const NAMES: [&str; 3] = ["a.csv", "a.jsonl", "-"];

type Fates = Vec<(u64, Result<(), Reason>)>;

fn fates(name: &str, file: &[u8]) -> Result<Fates, LoadError> {
    let mut fates = Vec::new();
    let input = Input::stream(name, Cursor::new(file.to_vec()));
    check_lines(input, "US".parse().ok(), |line, fate| fates.push((line, fate)))?;
    Ok(fates)
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, file)) = data.split_first() else { return Corpus::Reject };
    let Some(name) = NAMES.get(usize::from(*choice)) else { return Corpus::Reject };
    let read = match fates(name, file) {
        Ok(read) => read,
        Err(LoadError::Header { .. }) => return Corpus::Keep,
        Err(error) => panic!("a file in memory cannot fail: {error}"),
    };

    let lines: Vec<_> = file.split(|byte| *byte == b'\n').collect();
    assert!(read.is_sorted_by(|(before, _), (after, _)| before < after), "lines come in order");
    for (line, fate) in &read {
        let text = usize::try_from(*line).ok().and_then(|line| lines.get(line - 1));
        let text = text.expect("a fate is that of a line of the file");
        assert!(!text.trim_ascii().is_empty(), "a blank line has no fate");
        if let Err(reason) = fate {
            let told = reason.to_string();
            let word = |word: &&[u8]| {
                word.len() > 16 && told.as_bytes().windows(word.len()).any(|w| w == *word)
            };
            assert!(!text.split(u8::is_ascii_whitespace).any(|it| word(&it)), "a reason tells");
        }
    }

    // A load of a file with other line ends is the same load.
    if !file.contains(&b'\r') {
        let windows = lines.join(b"\r\n".as_slice());
        let again = fates(name, &windows).expect("the header stays as it was");
        assert!(again == read, "line ends change a fate");
    }
    // A broken line behind the others spoils none of them.
    let mut broken = file.to_vec();
    broken.extend_from_slice(b"\n\"\n");
    let again = fates(name, &broken);
    if !read.is_empty() {
        let again = again.expect("the header stays as it was");
        assert!(again.starts_with(&read), "a broken line changes another's fate");
        assert_eq!(again.len(), read.len() + 1);
    }
    Corpus::Keep
});
