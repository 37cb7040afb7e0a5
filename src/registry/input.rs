//! Directory files: opened, told apart, and cut into blocks of numbered lines.

use std::{
    fmt,
    fs::{File, Metadata},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::{HeaderError, LoadError},
    lines::{self, Block, Blocks},
    records::{self, Layout, Promise, Record},
    report::Reason,
};
use crate::identifier::Region;

/// A directory file, or a stream of one.
pub struct Input {
    name: Arc<str>,
    source: Source,
}

enum Source {
    File(PathBuf),
    Stream(Box<dyn Read + Send>),
}

impl Input {
    /// A file, opened when its turn comes.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        let name = path.to_string_lossy();
        Self { name: name.as_ref().into(), source: Source::File(path.into()) }
    }

    /// A stream under a name for the report, such as `-` for standard input.
    #[must_use]
    pub fn stream(name: &str, stream: impl Read + Send + 'static) -> Self {
        Self { name: name.into(), source: Source::Stream(Box::new(stream)) }
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// The length of a regular file; a stream does not tell.
    pub(super) fn bytes(&self) -> Option<u64> {
        match &self.source {
            Source::File(path) => {
                path.metadata().ok().filter(Metadata::is_file).map(|file| file.len())
            }
            Source::Stream(_) => None,
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A stretch of an input.
pub(super) enum Cut {
    /// Whole lines, behind the header.
    Lines(Lines),
    /// A line that was left out.
    TooLong {
        /// Its number.
        line: u64,
    },
}

/// Whole lines of one input.
pub(super) struct Lines {
    first: u64,
    bytes: Vec<u8>,
    layout: Arc<Layout>,
}

impl Lines {
    /// What each line says, by number; blank ones say nothing.
    pub(super) fn records(
        &self,
        region: Option<Region>,
    ) -> impl Iterator<Item = (u64, Result<Record, Reason>)> {
        lines::numbered(self.first, &self.bytes).filter_map(move |(line, text)| {
            let record = self.layout.record(text, region).transpose()?;
            Some((line, record))
        })
    }
}

/// Cuts one input.
pub(super) struct Cutter {
    name: Arc<str>,
    promise: Promise,
    blocks: Blocks<Box<dyn Read + Send>>,
    /// Known from the first line that is not blank.
    layout: Option<Arc<Layout>>,
}

impl Cutter {
    pub(super) fn open(input: Input) -> Result<Self, LoadError> {
        let Input { name, source } = input;
        let stream: Box<dyn Read + Send> = match source {
            Source::Stream(stream) => stream,
            Source::File(path) => Box::new(
                File::open(path)
                    .map_err(|error| LoadError::Input { file: Arc::clone(&name), error })?,
            ),
        };
        let promise = Promise::of(&name);
        Ok(Self { name, promise, blocks: Blocks::new(stream), layout: None })
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.blocks.bytes()
    }

    /// The next stretch, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Cut>, LoadError> {
        loop {
            let block = self
                .blocks
                .next()
                .map_err(|error| LoadError::Input { file: Arc::clone(&self.name), error })?;
            let header = |error| LoadError::Header { file: Arc::clone(&self.name), error };
            let (first, bytes) = match block {
                None => return Ok(None),
                // It might have been the header, unless there is none.
                Some(Block::TooLong { .. })
                    if self.layout.is_none() && self.promise != Promise::Jsonl =>
                {
                    return Err(header(HeaderError::TooLong));
                }
                Some(Block::TooLong { line }) => return Ok(Some(Cut::TooLong { line })),
                Some(Block::Lines { first, bytes }) => (first, bytes),
            };
            if let Some(layout) = &self.layout {
                let layout = Arc::clone(layout);
                return Ok(Some(Cut::Lines(Lines { first, bytes, layout })));
            }
            if let Some(lines) = open(self.promise, first, bytes).map_err(header)? {
                self.layout = Some(Arc::clone(&lines.layout));
                return Ok(Some(Cut::Lines(lines)));
            }
        }
    }
}

/// Finds the layout in the first block that is not blank, and what follows
/// the header; `None` while everything is blank.
fn open(promise: Promise, first: u64, mut bytes: Vec<u8>) -> Result<Option<Lines>, HeaderError> {
    if first == 1 {
        let mark = bytes.len() - records::without_mark(&bytes).len();
        bytes.drain(..mark);
    }
    let mut from = 0;
    for (number, line) in (first..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            from += line.len();
            continue;
        }
        let text = lines::without_return(line.strip_suffix(b"\n").unwrap_or(line));
        let (layout, is_header) = Layout::detect(promise, text)?;
        let (first, from) =
            if is_header { (number + 1, from + line.len()) } else { (number, from) };
        bytes.drain(..from);
        return Ok(Some(Lines { first, bytes, layout: Arc::new(layout) }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(input: &str) -> Option<(bool, u64, String)> {
        let lines = open(Promise::Nothing, 1, input.as_bytes().to_vec()).unwrap()?;
        let json = *lines.layout == Layout::Jsonl;
        Some((json, lines.first, String::from_utf8(lines.bytes).unwrap()))
    }

    #[test]
    fn the_header_is_taken_off_behind_mark_and_blank_lines() {
        for (input, csv, first, rest) in [
            ("sii,user\na,b\n", true, 2, "a,b\n"),
            ("\u{feff}sii,user\r\na,b\r\n", true, 2, "a,b\r\n"),
            ("\n \r\nsii,user\r\n\r\na,b", true, 4, "\r\na,b"),
            ("sii,user", true, 2, ""),
            ("\u{feff}{}\n{}", false, 1, "{}\n{}"),
            ("\n\n {}\n", false, 3, " {}\n"),
        ] {
            assert_eq!(opened(input), Some((!csv, first, rest.into())), "{input:?}");
        }
        assert_eq!(opened(""), None);
        assert_eq!(opened("\n \r\n"), None);
    }

    /// What becomes of each line of a file.
    fn fates(name: &str, text: &str) -> Result<Vec<(u64, Option<Reason>)>, LoadError> {
        let input = Input::stream(name, std::io::Cursor::new(text.to_owned()));
        let mut cutter = Cutter::open(input)?;
        let mut fates = Vec::new();
        while let Some(cut) = cutter.next()? {
            match cut {
                Cut::TooLong { line } => fates.push((line, Some(Reason::TooLong))),
                Cut::Lines(lines) => {
                    fates.extend(lines.records(None).map(|(line, record)| (line, record.err())));
                }
            }
        }
        Ok(fates)
    }

    #[test]
    fn a_line_longer_than_any_block_spoils_only_itself() {
        let long = "x".repeat(1 << 20);
        let csv = format!("sii,user\na@b.example,u\n\n{long}\nc@d.example\n");
        let surplus = Reason::Fields { expected: 2, found: 1 };
        let expected = [(2, None), (4, Some(Reason::TooLong)), (5, Some(surplus))];
        assert_eq!(fates("a.csv", &csv).unwrap(), expected);

        // Without a header a long first line is one line like any other.
        let json = format!("{long}\n{{}}\n");
        let expected = [(1, Some(Reason::TooLong)), (2, Some(Reason::NoSii))];
        assert_eq!(fates("a.jsonl", &json).unwrap(), expected);
        let refused = fates("a.txt", &json);
        assert!(matches!(refused, Err(LoadError::Header { error: HeaderError::TooLong, .. })));
    }
}
