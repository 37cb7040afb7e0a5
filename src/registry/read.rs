//! The first pass of a load: reads the inputs, canonicalises on all cores and
//! spills every good record to the file of its placement.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use crossbeam_channel::{Receiver, Sender};

use super::{
    error::{HeaderError, LoadError},
    lines::{self, Block, Blocks},
    progress::Progress,
    records::{self, Layout, Promise},
    report::{At, Collector, Reason},
    spill::{Fan, Leaf, Spill},
    work::Stop,
};
use crate::identifier::{Provider, Region, Ssi};

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
    fn bytes(&self) -> Option<u64> {
        match &self.source {
            Source::File(path) => {
                path.metadata().ok().filter(std::fs::Metadata::is_file).map(|file| file.len())
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

/// How the first pass is to be done.
pub(super) struct Reading<'a> {
    pub(super) provider: &'a Provider,
    pub(super) region: Option<Region>,
    pub(super) threads: NonZeroUsize,
    pub(super) spill: &'a Spill,
    pub(super) bad: &'a Collector,
    pub(super) progress: &'a Progress,
    pub(super) stop: &'a Stop,
}

/// What the first pass found.
pub(super) struct Found {
    pub(super) leaves: Vec<Leaf>,
    /// Lines, headers and blank ones aside.
    pub(super) lines: u64,
}

/// Lines of one input on their way to a worker.
struct Chunk {
    file: u32,
    first: u64,
    bytes: Vec<u8>,
    layout: Arc<Layout>,
}

impl Reading<'_> {
    pub(super) fn run(&self, inputs: Vec<Input>) -> Result<Found, LoadError> {
        self.progress.begin_reading(inputs.iter().map(Input::bytes).sum());
        let fan = self.spill.fan(0, 0);
        let (sender, receiver) = crossbeam_channel::bounded(self.threads.get() * 2);
        let lines = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads.get())
                .map(|_| {
                    let receiver = receiver.clone();
                    let fan = &fan;
                    thread::Builder::new()
                        .name("load-read".into())
                        .spawn_scoped(scope, move || self.work(&receiver, fan))
                        .map_err(LoadError::Thread)
                })
                .collect();
            // The workers' ends alone keep the channel open.
            drop(receiver);
            let read = self.send(inputs, &sender);
            drop(sender);
            let mut lines = 0;
            let mut worked = Ok(());
            for worker in workers {
                match worker.and_then(|worker| worker.join().map_err(|_| LoadError::Worker)?) {
                    Ok(more) => lines += more,
                    Err(error) => worked = Err(error),
                }
            }
            // A worker's failure is the cause when the sender found nobody.
            worked.and(read).map(|too_long| lines + too_long)
        })?;
        Ok(Found { leaves: fan.into_leaves(), lines })
    }

    /// Cuts the inputs into chunks; how many lines were too long to be sent.
    fn send(&self, inputs: Vec<Input>, sender: &Sender<Chunk>) -> Result<u64, LoadError> {
        let mut too_long = 0;
        for (input, file) in inputs.into_iter().zip(0..) {
            let failed = {
                let file = input.name();
                move |error| LoadError::Input { file: Arc::clone(&file), error }
            };
            let promise = Promise::of(&input.name);
            let stream: Box<dyn Read + Send> = match input.source {
                Source::File(path) => Box::new(File::open(path).map_err(&failed)?),
                Source::Stream(stream) => stream,
            };
            let mut blocks = Blocks::new(stream);
            let mut layout = None;
            let mut counted = 0;
            while let Some(block) = self.next(&mut blocks, &failed)? {
                self.progress.read(blocks.bytes() - counted);
                counted = blocks.bytes();
                let header = |error| LoadError::Header { file: Arc::clone(&input.name), error };
                let (first, bytes) = match block {
                    Block::TooLong { .. } if layout.is_none() => {
                        return Err(header(HeaderError::TooLong));
                    }
                    Block::TooLong { line } => {
                        too_long += 1;
                        self.bad.add(At { file, line }, Reason::TooLong);
                        self.progress.lines(1, 1);
                        continue;
                    }
                    Block::Lines { first, bytes } => (first, bytes),
                };
                let known = layout.clone();
                let (layout_here, first, bytes) = match known {
                    Some(layout) => (layout, first, bytes),
                    None => match open(promise, first, bytes).map_err(header)? {
                        Some(opened) => opened,
                        None => continue,
                    },
                };
                layout = Some(Arc::clone(&layout_here));
                let chunk = Chunk { file, first, bytes, layout: layout_here };
                sender.send(chunk).map_err(|_| LoadError::Worker)?;
            }
        }
        Ok(too_long)
    }

    fn next(
        &self,
        blocks: &mut Blocks<impl Read>,
        failed: impl Fn(io::Error) -> LoadError,
    ) -> Result<Option<Block>, LoadError> {
        self.stop.check()?;
        blocks.next().map_err(failed)
    }

    /// Reads lines until there are no more; how many there were.
    fn work(&self, chunks: &Receiver<Chunk>, fan: &Fan<'_>) -> Result<u64, LoadError> {
        let mut writer = fan.writer();
        let mut all = 0;
        for chunk in chunks {
            self.stop.check()?;
            let (mut lines, mut bad) = (0, 0);
            for (line, text) in lines::numbered(chunk.first, &chunk.bytes) {
                let at = At { file: chunk.file, line };
                let record = chunk.layout.record(text, self.region).and_then(|record| {
                    if let Some(record) = &record {
                        Ssi::new(self.provider.clone(), record.user.clone())
                            .map_err(Reason::User)?;
                    }
                    Ok(record)
                });
                match record {
                    Ok(None) => continue,
                    Ok(Some(record)) => writer.push_line(&record, at)?,
                    Err(reason) => {
                        bad += 1;
                        self.bad.add(at, reason);
                    }
                }
                lines += 1;
            }
            self.progress.lines(lines, bad);
            all += lines;
        }
        writer.keep();
        Ok(all)
    }
}

/// Finds the layout in the first block that is not blank, and what follows
/// the header; `None` while everything is blank.
#[expect(clippy::type_complexity, reason = "the parts of a chunk, named where they are taken")]
fn open(
    promise: Promise,
    first: u64,
    mut bytes: Vec<u8>,
) -> Result<Option<(Arc<Layout>, u64, Vec<u8>)>, HeaderError> {
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
        return Ok(Some((Arc::new(layout), first, bytes)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(input: &str) -> Option<(bool, u64, String)> {
        let (layout, first, bytes) =
            open(Promise::Nothing, 1, input.as_bytes().to_vec()).unwrap()?;
        Some((*layout == Layout::Jsonl, first, String::from_utf8(bytes).unwrap()))
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
}
