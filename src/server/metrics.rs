//! What an operator may count: calls by method and outcome, connections, and what
//! each partner was charged, by its configured alias. Nothing that a peer sends
//! becomes a label, and nothing here tells a hit from a miss.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use http::HeaderMap;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tonic::Code;

use super::connection::End;
use crate::access::quota::Counted;

/// The method of a call that has none of ours.
const NO_METHOD: &str = "other";

/// The counters of a server.
pub(super) struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    took: Family<MethodLabels, Histogram, fn() -> Histogram>,
    under_way: Gauge,
    connections: Gauge,
    turned_away: Counter,
    cut_off: Family<EndLabels, Counter>,
    charged: Family<ChargeLabels, Counter>,
    over_quota: Family<ChargeLabels, Counter>,
    queries: Queries,
}

/// Private information retrieval.
#[derive(Default)]
struct Queries {
    waiting: Gauge,
    refused: Counter,
    answered: Counter,
    passes: Counter,
    /// Seconds of passes.
    busy: Counter<f64, AtomicU64>,
    renewed: Counter,
}

impl Queries {
    fn register(&self, registry: &mut Registry) {
        let waiting = self.waiting.clone();
        registry.register("pir_waiting", "Queries for rows that wait", waiting);
        let refused = self.refused.clone();
        registry.register("pir_refused", "Queries that found the queue full", refused);
        let answered = self.answered.clone();
        registry.register("pir_answered", "Queries that were answered", answered);
        let passes = "Passes over a matrix, each for one to four queries";
        registry.register("pir_passes", passes, self.passes.clone());
        let busy = "Time of all passes";
        registry.register_with_unit("pir_busy", busy, Unit::Seconds, self.busy.clone());
        let renewed = "Rows that were put in place for others";
        registry.register("pir_rows_renewed", renewed, self.renewed.clone());
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ChargeLabels {
    /// An alias that the operator chose; empty for all that are no partners.
    partner: String,
    of: &'static str,
}

impl ChargeLabels {
    fn of(alias: &str, counted: Counted) -> Self {
        let of = match counted {
            Counted::Elements => "elements",
            Counted::Bytes => "bytes",
            Counted::Tokens => "tokens",
            Counted::Queries => "pir_queries",
        };
        Self { partner: alias.to_owned(), of }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From 0.2 milliseconds to 6.6 seconds.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.0002, 2.0, 16))
}

impl Metrics {
    /// All of them, at zero.
    #[must_use]
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("blindbook"),
            calls: Family::default(),
            took: Family::new_with_constructor(latencies as fn() -> Histogram),
            under_way: Gauge::default(),
            connections: Gauge::default(),
            turned_away: Counter::default(),
            cut_off: Family::default(),
            charged: Family::default(),
            over_quota: Family::default(),
            queries: Queries::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "calls",
            "Calls that ended, by method and gRPC code",
            metrics.calls.clone(),
        );
        registry.register_with_unit(
            "call_duration",
            "From a call's headers to the end of its answer",
            Unit::Seconds,
            metrics.took.clone(),
        );
        registry.register("calls_under_way", "Calls under way", metrics.under_way.clone());
        registry.register("connections", "Connections", metrics.connections.clone());
        registry.register(
            "connections_turned_away",
            "Connections that found no room",
            metrics.turned_away.clone(),
        );
        registry.register(
            "connections_cut_off",
            "Connections that were closed for what their peer did, by reason",
            metrics.cut_off.clone(),
        );
        registry.register(
            "charged",
            "Elements, bytes of buckets, tokens and queries for rows charged, by partner",
            metrics.charged.clone(),
        );
        registry.register("over_quota", "Charges refused, by partner", metrics.over_quota.clone());
        metrics.queries.register(registry);
        metrics
    }

    /// The text that Prometheus reads: `OpenMetrics` 1.0.
    ///
    /// # Errors
    /// Never: a string takes whatever is written.
    pub(super) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A call begins; `method` is ours, as `Evaluate`, or `None`.
    pub(super) fn begin(self: &Arc<Self>, method: Option<&'static str>) -> Measured {
        self.under_way.inc();
        Measured {
            metrics: self.clone(),
            method: method.unwrap_or(NO_METHOD),
            begun: Instant::now(),
            code: Mutex::new(None),
        }
    }

    /// A connection is there for as long as what is returned.
    pub(super) fn connected(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }

    /// So many were charged to a partner; the empty alias is everybody else.
    pub(super) fn charged(&self, alias: &str, counted: Counted, count: u64) {
        self.charged.get_or_create(&ChargeLabels::of(alias, counted)).inc_by(count);
    }

    /// A charge was refused.
    pub(super) fn over_quota(&self, alias: &str, counted: Counted) {
        self.over_quota.get_or_create(&ChargeLabels::of(alias, counted)).inc();
    }

    /// So many queries wait for their turn.
    pub(super) fn queries_waiting(&self, count: usize) {
        self.queries.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A query found the queue full.
    pub(super) fn query_refused(&self) {
        self.queries.refused.inc();
    }

    /// So many queries were answered in one pass.
    pub(super) fn queries_answered(&self, count: usize, took: Duration) {
        self.queries.answered.inc_by(count as u64);
        self.queries.passes.inc();
        self.queries.busy.inc_by(took.as_secs_f64());
    }

    /// So many rows were put in place for others.
    pub(super) fn rows_renewed(&self, count: usize) {
        self.queries.renewed.inc_by(count as u64);
    }

    /// A connection found no room.
    pub(super) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// A connection had to go.
    pub(super) fn cut_off(&self, end: End) {
        let reason = match end {
            End::NoPreface => "no_preface",
            End::Stalled => "stalled",
            End::Silent => "silent",
            End::Idle => "idle",
            End::Resets => "resets",
        };
        self.cut_off.get_or_create(&EndLabels { reason }).inc();
    }
}

/// A connection that is counted.
pub(super) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A call that is counted when it ends.
pub(super) struct Measured {
    metrics: Arc<Metrics>,
    method: &'static str,
    begun: Instant,
    code: Mutex<Option<Code>>,
}

impl Measured {
    /// The answer ends, if these headers or trailers hold a status.
    pub(super) fn ends(&self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            *self.code.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let Self { metrics, method, begun, code } = self;
        // An answer that nobody took to its end was called off.
        let code =
            code.get_mut().unwrap_or_else(PoisonError::into_inner).unwrap_or(Code::Cancelled);
        let labels = CallLabels { method, code: name(code) };
        metrics.calls.get_or_create(&labels).inc();
        let took = metrics.took.get_or_create(&MethodLabels { method });
        took.observe(begun.elapsed().as_secs_f64());
        metrics.under_way.dec();
    }
}

/// As gRPC writes them.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_once_it_ends_with_its_code() {
        let metrics = Arc::new(Metrics::new());
        let call = metrics.begin(Some("Evaluate"));
        assert!(metrics.encode().unwrap().contains("blindbook_calls_under_way 1"));
        call.ends(&HeaderMap::new());
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "8".parse().unwrap());
        call.ends(&trailers);
        drop(call);
        drop(metrics.begin(None));
        let text = metrics.encode().unwrap();
        for line in [
            "blindbook_calls_total{method=\"Evaluate\",code=\"RESOURCE_EXHAUSTED\"} 1",
            "blindbook_calls_total{method=\"other\",code=\"CANCELLED\"} 1",
            "blindbook_call_duration_seconds_count{method=\"Evaluate\"} 1",
            "blindbook_calls_under_way 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_charged_is_counted_by_alias() {
        let metrics = Metrics::new();
        metrics.charged("wa", Counted::Elements, 512);
        metrics.charged("", Counted::Bytes, 49_152);
        metrics.over_quota("wa", Counted::Tokens);
        let text = metrics.encode().unwrap();
        for line in [
            "blindbook_charged_total{partner=\"wa\",of=\"elements\"} 512",
            "blindbook_charged_total{partner=\"\",of=\"bytes\"} 49152",
            "blindbook_over_quota_total{partner=\"wa\",of=\"tokens\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn connections_are_counted_while_they_are_there() {
        let metrics = Metrics::new();
        let connected = metrics.connected();
        metrics.turned_away();
        assert!(metrics.encode().unwrap().contains("blindbook_connections 1"));
        drop(connected);
        let text = metrics.encode().unwrap();
        assert!(text.contains("blindbook_connections 0"));
        assert!(text.contains("blindbook_connections_turned_away_total 1"));
    }
}
