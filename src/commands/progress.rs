//! Progress bars on standard error, silent when it is no terminal.

use blindbook::registry::{Phase, Snapshot};
use indicatif::{ProgressBar, ProgressStyle};

/// A bar over records, with rate and time left.
pub(crate) fn bar(what: &'static str, total: u64) -> ProgressBar {
    let template = "{msg:20} [{bar:30}] {human_pos}/{human_len} records, {per_sec}, {eta} left";
    styled(ProgressBar::new(total), template).with_message(what)
}

/// A bar over buckets.
pub(crate) fn buckets_bar(what: &'static str, total: u64) -> ProgressBar {
    let template = "{msg:20} [{bar:30}] {human_pos}/{human_len} buckets, {per_sec}, {eta} left";
    styled(ProgressBar::new(total), template).with_message(what)
}

/// The bar of a load's phase: over bytes while it reads, since only they are
/// known before, and over records afterwards.
pub(crate) fn load_bar(now: &Snapshot) -> ProgressBar {
    let what = match now.phase {
        Phase::Reading => "reading",
        Phase::Counting => "counting",
        Phase::Checking => "checking",
        Phase::Sealing => "sealing",
        Phase::Syncing => "syncing",
        Phase::Done => "done",
    };
    match (now.phase, now.bytes_total) {
        (Phase::Reading, Some(total)) => styled(
            ProgressBar::new(total),
            "{msg:20} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
        )
        .with_message(what),
        (Phase::Reading, None) => {
            let template = "{msg:20} {spinner} {bytes}, {bytes_per_sec}, {elapsed}";
            styled(ProgressBar::new_spinner(), template).with_message(what)
        }
        _ => bar(what, now.total),
    }
}

/// Moves the bar of a load's phase.
pub(crate) fn advance(bar: &ProgressBar, now: &Snapshot) {
    if now.phase == Phase::Reading {
        bar.set_position(now.bytes_read);
    } else {
        bar.set_length(now.total);
        bar.set_position(now.done);
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // The templates are ours and parse; without one the bar is plain.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
