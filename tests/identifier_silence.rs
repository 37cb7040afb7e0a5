//! No identifier reaches a log, however verbose: the libraries beneath print
//! what they parse at `trace`, which is compiled out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use blindbook::identifier::{Region, Sii, mobile_numbers, regions};
use log::{LevelFilter, Log, Metadata, Record, STATIC_MAX_LEVEL};

struct Recorder(Mutex<Vec<String>>);

impl Log for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(format!("{} {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

static RECORDER: Recorder = Recorder(Mutex::new(Vec::new()));

#[test]
fn nothing_is_logged_while_identifiers_are_read() {
    assert!(STATIC_MAX_LEVEL < LevelFilter::Trace, "trace records of dependencies are compiled in");
    log::set_logger(&RECORDER).unwrap();
    log::set_max_level(LevelFilter::Trace);
    log::debug!("the recorder works");

    let us: Region = "US".parse().unwrap();
    for input in [
        "+14155552671",
        "(415) 555-2671",
        "555-5555",
        "+999123456",
        "1",
        "(555) 555-5555",
        "tel:331-6005;phone-context=+64-3",
        "tel:1;phone-context=!",
        "canary@canary.example",
        "canary@@canary",
        "acct:canary@canary.example",
        "+61 00 459 840 599",
    ] {
        let _either_way = (Sii::parse(input, None), Sii::parse(input, Some(us)));
    }
    for region in regions() {
        assert!(mobile_numbers(region).take(2).count() <= 2);
    }

    assert_eq!(*RECORDER.0.lock().unwrap(), ["identifier_silence the recorder works"]);
}
