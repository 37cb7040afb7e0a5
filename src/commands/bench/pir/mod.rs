//! Private information retrieval: what a query costs, from a matrix that is
//! built from the loaded store, on one thread, beside what memory allows.

mod matrix;
mod served;

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use self::{matrix::Measured, served::Served};
use super::{
    directory::Directory,
    report::{self, Row, mib},
    serving, step,
};

/// Bytes of an entry without its mapping's signature, as the drafts count.
const SHORT_ENTRY: usize = 128;

/// What was measured. The figures in front are those of the entries that the
/// drafts count with; all that is here is of one thread.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "keys among those of other parts")]
pub(super) struct Pir {
    pir_scan_vs_bandwidth: f64,
    pir_query_ms: f64,
    pir_query_vs_bandwidth: f64,
    pir_bytes: usize,
    pir_prepare_s: f64,
    pir_batch_gain: f64,
    pir_client_ms: f64,
    pir_memory_ratio: Option<f64>,
    kernel: &'static str,
    short_entries: Measured,
    entries: Measured,
    served: Served,
}

/// A figure, what it must be, and what is aimed at.
struct Goal {
    name: &'static str,
    value: f64,
    must: f64,
    aim: f64,
    most: bool,
}

impl Pir {
    fn goals(&self) -> Vec<Goal> {
        let least = |name, value, must, aim| Goal { name, value, must, aim, most: false };
        let most = |name, value, must, aim| Goal { name, value, must, aim, most: true };
        let mut goals = vec![
            least("pir_scan_vs_bandwidth", self.pir_scan_vs_bandwidth, 0.7, 0.9),
            most("pir_query_ms", self.pir_query_ms, 400.0, 150.0),
            least("pir_query_vs_bandwidth", self.pir_query_vs_bandwidth, 0.0, 0.5),
            most("pir_bytes", self.pir_bytes as f64, 1e6, 350e3),
            most("pir_prepare_s", self.pir_prepare_s, 60.0, 15.0),
            least("pir_batch_gain", self.pir_batch_gain, 1.5, 2.2),
            most("pir_client_ms", self.pir_client_ms, 100.0, 20.0),
        ];
        goals.extend(self.pir_memory_ratio.map(|ratio| most("pir_memory_ratio", ratio, 4.0, 2.0)));
        goals
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = vec![Row::new("kernels", self.kernel)];
        for Goal { name, value, must, aim, most } in self.goals() {
            let reaches = |bound: f64| if most { value <= bound } else { value >= bound };
            let told = match (reaches(must), reaches(aim)) {
                (_, true) => "reaches the aim",
                (true, false) => "meets the bound, misses the aim",
                _ => "MISSED",
            };
            let word = if most { "at most" } else { "at least" };
            rows.push(Row::new(name, format!("{value:.2}; {word} {must}, aim {aim}: {told}")));
        }
        for (name, measured) in [("128", &self.short_entries), ("192", &self.entries)] {
            let Measured { rows: count, row_bytes, bandwidth, scan, query_ms, batch_ms, .. } =
                measured;
            rows.push(Row::new(
                format!("matrix of {name}-byte entries"),
                format!(
                    "{count} rows of {row_bytes} bytes, {} in memory, prepared in {:.1} s",
                    measured.memory.map_or_else(|| "?".into(), mib),
                    measured.prepare_s
                ),
            ));
            rows.push(Row::new(
                format!("query, {name}-byte entries"),
                format!(
                    "{query_ms:.1} ms; four at once {batch_ms:.1} ms; scan {scan:.1} GB/s of \
                     {bandwidth:.1} GB/s; {} bytes up, {} down",
                    measured.query_bytes, measured.answer_bytes
                ),
            ));
            rows.push(Row::new(
                format!("client, {name}-byte entries"),
                format!(
                    "asks in {:.1} ms, decodes in {:.1} ms",
                    measured.ask_ms, measured.decode_ms
                ),
            ));
        }
        rows.extend(self.served.rows());
        rows
    }
}

impl Served {
    fn rows(&self) -> [Row; 5] {
        let following = &self.following;
        [
            Row::new(
                "over gRPC, 192-byte entries",
                format!(
                    "ready after {:.1} s; a whole lookup {:.0} ms; {:.1} lookups/s with eight at once",
                    self.ready_s, self.lookup_ms, self.lookups_per_s
                ),
            ),
            Row::new(
                "bytes of a whole lookup",
                format!(
                    "{:.0}: {:.0} sent, {:.0} received",
                    self.sent_bytes + self.received_bytes,
                    self.sent_bytes,
                    self.received_bytes
                ),
            ),
            Row::new("resident memory of the server", report::memory_text(self.server_memory)),
            Row::new(
                "a lookup in a bucket",
                format!(
                    "{:.1} ms, beside eight queries {:.1} ms",
                    self.bucket_ms, self.bucket_beside_queries_ms
                ),
            ),
            Row::new(
                "a claim is found",
                format!(
                    "after {:.1} s, {:.1} s at the latest of {}; beside {:.0} claims/s and {:.1} \
                     queries/s",
                    following.median_s,
                    following.longest_s,
                    following.found,
                    following.claims_per_s,
                    following.queries_per_s
                ),
            ),
        ]
    }
}

/// Measures on the store of a load.
pub(super) async fn measure(directory: &Directory, data: &Path) -> anyhow::Result<Pir> {
    step("private information retrieval, entries of 128 bytes")?;
    let store = serving::open(data).await?.current().await?.context("nothing was loaded")?;
    let identity = *directory.keyring.directory();
    let short_entries = matrix::measure(&*store, &identity, SHORT_ENTRY).await?;
    step("private information retrieval, entries of 192 bytes")?;
    let entries = matrix::measure(&*store, &identity, blindbook::bucket::ENTRY_BYTES).await?;
    drop(store);
    let served = served::measure(directory, data).await?;
    Ok(Pir {
        pir_scan_vs_bandwidth: short_entries.scan / short_entries.bandwidth,
        pir_query_ms: short_entries.query_ms,
        pir_query_vs_bandwidth: short_entries.query_vs_bandwidth,
        pir_bytes: short_entries.query_bytes + short_entries.answer_bytes,
        pir_prepare_s: short_entries.prepare_s,
        pir_batch_gain: 4.0 * short_entries.query_ms / short_entries.batch_ms,
        pir_client_ms: short_entries.ask_ms + short_entries.decode_ms,
        pir_memory_ratio: short_entries.memory_ratio,
        kernel: blindbook::pir::Kernel::best().name(),
        short_entries,
        entries,
        served,
    })
}
