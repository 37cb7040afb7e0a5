//! Cuts an input of any length into blocks of whole lines, in bounded memory.
//! Every line keeps its number, and an endless one costs nothing but itself.

use std::io::{self, Read};

/// Most bytes of a line: several times the longest honest one.
pub const MAX_LINE_BYTES: usize = 4096;

/// Bytes of a block, far more than of a line.
const BLOCK_BYTES: usize = 256 * 1024;

/// A stretch of an input.
#[derive(PartialEq, Eq)]
pub(super) enum Block {
    /// Whole lines; only the last line of the input may lack its newline.
    Lines {
        /// The number of the first, from 1.
        first: u64,
        /// The lines.
        bytes: Vec<u8>,
    },
    /// A line longer than a block, left out.
    TooLong {
        /// Its number, from 1.
        line: u64,
    },
}

/// The blocks of one input.
pub(super) struct Blocks<R> {
    input: R,
    /// What was read behind the last whole line.
    carry: Vec<u8>,
    /// The number of the next line.
    line: u64,
    block_bytes: usize,
    /// Bytes read so far.
    bytes: u64,
}

impl<R: Read> Blocks<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, carry: Vec::new(), line: 1, block_bytes: BLOCK_BYTES, bytes: 0 }
    }

    /// Bytes taken from the input so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next block, `None` at the end of the input.
    pub(super) fn next(&mut self) -> io::Result<Option<Block>> {
        let mut bytes = std::mem::take(&mut self.carry);
        let ended = self.fill(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if !ended {
            let Some(newline) = bytes.iter().rposition(|byte| *byte == b'\n') else {
                return self.skip_line().map(Some);
            };
            self.carry = bytes.split_off(newline + 1);
        }
        let first = self.line;
        self.line += bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        Ok(Some(Block::Lines { first, bytes }))
    }

    /// Reads up to a full block; true at the end of the input.
    fn fill(&mut self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let missing = self.block_bytes.saturating_sub(bytes.len());
        let limit = u64::try_from(missing).unwrap_or(u64::MAX);
        let read = self.input.by_ref().take(limit).read_to_end(bytes)?;
        self.bytes += u64::try_from(read).unwrap_or(0);
        Ok(read < missing)
    }

    /// Drops the rest of a line that filled a block.
    fn skip_line(&mut self) -> io::Result<Block> {
        let line = self.line;
        self.line += 1;
        loop {
            let mut bytes = Vec::with_capacity(self.block_bytes);
            let ended = self.fill(&mut bytes)?;
            if let Some(newline) = bytes.iter().position(|byte| *byte == b'\n') {
                self.carry = bytes.split_off(newline + 1);
                return Ok(Block::TooLong { line });
            }
            if ended {
                return Ok(Block::TooLong { line });
            }
        }
    }
}

/// The lines of a block with their numbers, without their line ends.
pub(super) fn numbered(first: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    (first..).zip(whole.split(|byte| *byte == b'\n').map(without_return))
}

/// A line without the carriage return of a CRLF.
pub(super) fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time, as a slow pipe does.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.take(1).read(buffer).inspect(|read| self.0 = &self.0[*read..])
        }
    }

    fn lines(input: &[u8], block_bytes: usize) -> Vec<(u64, Option<String>)> {
        let mut blocks = Blocks { block_bytes, ..Blocks::new(Drip(input)) };
        let mut lines = Vec::new();
        while let Some(block) = blocks.next().unwrap() {
            match block {
                Block::TooLong { line } => lines.push((line, None)),
                Block::Lines { first, bytes } => {
                    assert!(bytes.len() <= block_bytes);
                    let text = |line: &[u8]| String::from_utf8(line.into()).unwrap();
                    lines.extend(numbered(first, &bytes).map(|(n, line)| (n, Some(text(line)))));
                }
            }
        }
        assert_eq!(blocks.bytes(), input.len() as u64);
        lines
    }

    #[test]
    fn lines_keep_their_numbers_whatever_the_block_size() {
        let input = b"one\r\ntwo\n\nfour\r\nfive";
        let expected = [(1, "one"), (2, "two"), (3, ""), (4, "four"), (5, "five")]
            .map(|(n, line)| (n, Some(line.to_owned())));
        for block_bytes in 6..64 {
            assert_eq!(lines(input, block_bytes), expected, "{block_bytes}");
        }
    }

    #[test]
    fn a_line_longer_than_a_block_is_left_out_and_counted() {
        let long = "x".repeat(1000);
        let input = format!("a\n{long}\nb\n{long}");
        for block_bytes in [8, 64, 999] {
            let lines = lines(input.as_bytes(), block_bytes);
            let a_and_b: Vec<_> = lines.iter().filter(|(n, _)| n % 2 == 1).collect();
            assert_eq!(a_and_b, [&(1, Some("a".into())), &(3, Some("b".into()))]);
            assert_eq!(lines.iter().filter(|(_, line)| line.is_none()).count(), 2);
        }
    }

    #[test]
    fn an_empty_input_has_no_block() {
        assert_eq!(lines(b"", 16), []);
        assert_eq!(lines(b"\n", 16), [(1, Some(String::new()))]);
    }
}
