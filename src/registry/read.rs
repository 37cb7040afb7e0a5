//! The first pass of a load: canonicalises on all cores and spills every good
//! record to the file of its placement.

use std::{num::NonZeroUsize, thread};

use crossbeam_channel::{Receiver, Sender};

use super::{
    error::LoadError,
    input::{Cut, Cutter, Input, Lines},
    progress::Progress,
    report::{At, Collector, Reason},
    spill::{Fan, Leaf, Spill},
    work::Stop,
};
use crate::identifier::{Provider, Region, Ssi};

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
    lines: Lines,
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
            let mut cutter = Cutter::open(input)?;
            let mut counted = 0;
            loop {
                self.stop.check()?;
                let cut = cutter.next()?;
                self.progress.read(cutter.bytes() - counted);
                counted = cutter.bytes();
                match cut {
                    None => break,
                    Some(Cut::TooLong { line }) => {
                        too_long += 1;
                        self.bad.add(At { file, line }, Reason::TooLong);
                        self.progress.lines(1, 1);
                    }
                    Some(Cut::Lines(lines)) => {
                        sender.send(Chunk { file, lines }).map_err(|_| LoadError::Worker)?;
                    }
                }
            }
        }
        Ok(too_long)
    }

    /// Reads lines until there are no more; how many there were.
    fn work(&self, chunks: &Receiver<Chunk>, fan: &Fan<'_>) -> Result<u64, LoadError> {
        let mut writer = fan.writer();
        let mut all = 0;
        for chunk in chunks {
            self.stop.check()?;
            let (mut lines, mut bad) = (0, 0);
            for (line, record) in chunk.lines.records(self.region) {
                let at = At { file: chunk.file, line };
                let record = record.and_then(|record| {
                    Ssi::new(self.provider.clone(), record.user.clone()).map_err(Reason::User)?;
                    Ok(record)
                });
                match record {
                    Ok(record) => writer.push_line(&record, at)?,
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
