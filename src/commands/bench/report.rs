//! All figures of a run: the ratios beside their targets, and what was measured
//! on the way, as a table or as one JSON object.

use std::{fmt::Write as _, thread};

use serde::Serialize;

use super::{
    access::Access, arithmetic::Arithmetic, claims::Claims, fetch::Fetch, load::Load,
    lookups::Lookups, memory::Memory, overload::Overload, pir::Pir, sidecar::Sidecar,
};

/// A line of the table.
pub(super) struct Row {
    name: String,
    value: String,
}

impl Row {
    pub(super) fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// Everything that a run measured; what it did not measure is absent.
#[derive(Default, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    ratios: Ratios,
    targets: Targets,
    records: usize,
    seconds: f64,
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arithmetic: Option<Arithmetic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) load: Option<Load>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fetch: Option<Fetch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lookups: Option<Lookups>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<Claims>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sidecar: Option<Sidecar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<Access>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overload: Option<Overload>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) pir: Option<Pir>,
}

/// What the machine is like.
#[derive(Serialize)]
struct Machine {
    cores: usize,
    /// Whether curve arithmetic runs on AVX-512 IFMA.
    avx512_ifma: bool,
    os: &'static str,
    arch: &'static str,
}

impl Default for Machine {
    fn default() -> Self {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        Self { cores: cores(), avx512_ifma: avx512_ifma(), os, arch }
    }
}

/// How many threads work at once.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// Whether curve25519-dalek was built with the code, and finds the processor
/// fit for it.
#[cfg(target_arch = "x86_64")]
fn avx512_ifma() -> bool {
    let built = cfg!(curve25519_dalek_backend = "avx512")
        || cfg!(all(target_feature = "avx512ifma", target_feature = "avx512vl"));
    built && is_x86_feature_detected!("avx512ifma") && is_x86_feature_detected!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
const fn avx512_ifma() -> bool {
    false
}

#[derive(Default, Serialize)]
struct Ratios {
    #[serde(skip_serializing_if = "Option::is_none")]
    oprf_batch_vs_voprf: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bulk_prf_vs_voprf: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_vs_arithmetic: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fetch_vs_echo: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims_vs_engine: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sidecar_vs_echo: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secured_vs_plain: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goodput_overload_vs_saturation: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goodput_throttled_vs_saturation: Option<f64>,
}

/// What each ratio should be at least, on this machine.
#[derive(Serialize)]
struct Targets {
    oprf_batch_vs_voprf: f64,
    /// Stated for AVX-512 IFMA only.
    bulk_prf_vs_voprf: Option<f64>,
    load_vs_arithmetic: f64,
    fetch_vs_echo: f64,
    claims_vs_engine: f64,
    sidecar_vs_echo: f64,
    secured_vs_plain: f64,
    goodput_overload_vs_saturation: f64,
    goodput_throttled_vs_saturation: f64,
}

impl Default for Targets {
    fn default() -> Self {
        let ifma = avx512_ifma();
        Self {
            oprf_batch_vs_voprf: if ifma { 2.5 } else { 1.8 },
            bulk_prf_vs_voprf: ifma.then_some(1.5),
            load_vs_arithmetic: 0.75,
            fetch_vs_echo: 0.8,
            claims_vs_engine: 0.7,
            sidecar_vs_echo: 0.7,
            secured_vs_plain: 0.7,
            goodput_overload_vs_saturation: 0.9,
            goodput_throttled_vs_saturation: 0.9,
        }
    }
}

impl Report {
    /// Closes a run over so many records that took so long.
    pub(super) fn close(&mut self, records: usize, seconds: f64) {
        self.records = records;
        self.seconds = seconds;
        self.ratios = Ratios {
            oprf_batch_vs_voprf: self.arithmetic.as_ref().map(|part| part.batch_ratio),
            bulk_prf_vs_voprf: self.arithmetic.as_ref().map(|part| part.bulk_prf_ratio),
            load_vs_arithmetic: self.load.as_ref().and_then(|part| part.ratio),
            fetch_vs_echo: self.fetch.as_ref().map(|part| part.ratio),
            claims_vs_engine: self.claims.as_ref().map(|part| part.ratio),
            sidecar_vs_echo: self.sidecar.as_ref().map(|part| part.ratio),
            secured_vs_plain: self.access.as_ref().map(|part| part.ratio),
            goodput_overload_vs_saturation: self.overload.as_ref().map(|part| part.ratio),
            goodput_throttled_vs_saturation: self
                .overload
                .as_ref()
                .map(|part| part.throttled_ratio),
        };
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let Machine { cores, avx512_ifma, os, arch } = self.machine;
        let ifma = if avx512_ifma { "with AVX-512 IFMA" } else { "without AVX-512 IFMA" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} records, {cores} cores, {arch} {os}, {ifma}, {:.0} s\n",
            self.records, self.seconds
        );
        let _ = writeln!(text, "{:<32}{:>9}{:>10}", "ratio", "measured", "at least");
        let (ratios, targets) = (&self.ratios, &self.targets);
        for (name, ratio, target) in [
            ("oprf_batch_vs_voprf", ratios.oprf_batch_vs_voprf, Some(targets.oprf_batch_vs_voprf)),
            ("bulk_prf_vs_voprf", ratios.bulk_prf_vs_voprf, targets.bulk_prf_vs_voprf),
            ("load_vs_arithmetic", ratios.load_vs_arithmetic, Some(targets.load_vs_arithmetic)),
            ("fetch_vs_echo", ratios.fetch_vs_echo, Some(targets.fetch_vs_echo)),
            ("claims_vs_engine", ratios.claims_vs_engine, Some(targets.claims_vs_engine)),
            ("sidecar_vs_echo", ratios.sidecar_vs_echo, Some(targets.sidecar_vs_echo)),
            ("secured_vs_plain", ratios.secured_vs_plain, Some(targets.secured_vs_plain)),
            (
                "goodput_overload_vs_saturation",
                ratios.goodput_overload_vs_saturation,
                Some(targets.goodput_overload_vs_saturation),
            ),
            (
                "goodput_throttled_vs_saturation",
                ratios.goodput_throttled_vs_saturation,
                Some(targets.goodput_throttled_vs_saturation),
            ),
        ] {
            let Some(ratio) = ratio else { continue };
            let _ = match target {
                Some(target) => {
                    let met = if ratio >= target { "met" } else { "MISSED" };
                    writeln!(text, "{name:<32}{ratio:>9.2}{target:>10.2}  {met}")
                }
                None => writeln!(text, "{name:<32}{ratio:>9.2}{:>10}", "-"),
            };
        }
        let parts = [
            self.arithmetic.as_ref().map(Arithmetic::rows),
            self.load.as_ref().map(Load::rows),
            self.fetch.as_ref().map(Fetch::rows),
            self.lookups.as_ref().map(Lookups::rows),
            self.claims.as_ref().map(Claims::rows),
            self.sidecar.as_ref().map(Sidecar::rows),
            self.access.as_ref().map(Access::rows),
            self.overload.as_ref().map(Overload::rows),
            self.pir.as_ref().map(Pir::rows),
        ];
        for rows in parts.into_iter().flatten() {
            text.push('\n');
            for Row { name, value } in rows {
                let _ = writeln!(text, "{name:<44}  {value}");
            }
        }
        text
    }
}

/// Resident memory for a person.
pub(super) fn memory_text(memory: Option<Memory>) -> String {
    memory.map_or_else(
        || "not available on this system".into(),
        |memory| format!("{}, at most {}", mib(memory.resident_bytes), mib(memory.peak_bytes)),
    )
}

/// Bytes as MiB.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_told_and_an_absent_measurement_is_not_made_up() {
        let mut report = Report::default();
        report.close(1000, 1.5);
        report.ratios.fetch_vs_echo = Some(0.79);
        report.ratios.load_vs_arithmetic = Some(0.75);
        let table = report.table();
        let line = |name| table.lines().find(|line| line.starts_with(name));
        assert!(line("fetch_vs_echo").unwrap().ends_with("0.80  MISSED"));
        assert!(line("load_vs_arithmetic").unwrap().ends_with("0.75  met"));
        assert!(line("oprf_batch_vs_voprf").is_none());

        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["fetch_vs_echo"], 0.79);
        assert_eq!(json["records"], 1000);
        assert!(json["machine"]["cores"].as_u64().unwrap() > 0);
        assert!(json.get("oprf_batch_vs_voprf").is_none());
        assert!(json.get("lookups").is_none());
    }
}
