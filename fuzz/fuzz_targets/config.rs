//! `blindbook.toml` as an operator writes it.
//!
//! Input: the text. What is accepted lies in its ranges and says the same when
//! it is written out again, and one unknown key more is always refused.

#![no_main]

use std::path::Path;

use blindbook::{
    access::{Partner, Role, quota::Limits},
    config::{Config, Tls},
    server::Anonymous,
};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    match Config::parse(text) {
        Ok(config) => {
            in_range(&config);
            let again = Config::parse(&written(&config)).expect("what was accepted is accepted");
            // What the registry's section says is not written again.
            assert_eq!(again, Config { registry: None, ..config });
            assert!(Config::parse(&format!("{text}\nlissten = 1\n")).is_err(), "an unknown key");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Corpus::Keep
});

fn in_range(config: &Config) {
    assert!((60..=30 * 86_400).contains(&config.refresh_period_s));
    let limits = &config.limits;
    assert!((1..=1 << 20).contains(&limits.max_connections));
    assert!((1..=1000).contains(&limits.max_streams));
    assert!((1..=1 << 20).contains(&limits.max_calls));
    assert!((1..=1 << 20).contains(&limits.max_watches));
    assert!(limits.evaluation_threads <= 512);
    assert!((1..=1 << 16).contains(&limits.queued_per_thread));
    assert!((1..=86_400).contains(&limits.max_call_time_s));
    assert!((1 << 20..=1 << 40).contains(&config.bucket_cache_bytes));
    assert!((1 << 20..=1 << 40).contains(&config.store_cache_bytes));
    for region in &config.regions {
        assert!(region.len() == 2 && region.bytes().all(|b| b.is_ascii_uppercase()));
    }
}

/// Every setting, with no default left out.
fn written(config: &Config) -> String {
    let path = |path: &Path| toml::Value::from(path.to_str().expect("came from TOML"));
    let number = |number: u64| toml::Value::Integer(number.try_into().expect("in range"));
    let mut table = toml::Table::new();
    let mut set = |name: &str, value: toml::Value| {
        table.insert(name.to_owned(), value);
    };
    set("data", path(&config.data));
    set("keys", path(&config.keys));
    set("listen", config.listen.to_string().into());
    if let Some(address) = config.probe_listen {
        set("probe_listen", address.to_string().into());
    }
    match &config.tls {
        Tls::Files(files) => {
            set("tls_cert", path(&files.cert));
            set("tls_key", path(&files.key));
            for (name, file) in [("client_ca", &files.client_ca), ("client_crl", &files.client_crl)]
            {
                if let Some(file) = file {
                    set(name, path(file));
                }
            }
        }
        Tls::InsecurePlaintext => set("insecure_plaintext", true.into()),
    }
    set("refresh_period_s", number(config.refresh_period_s.into()));
    set("bucket_cache_bytes", number(config.bucket_cache_bytes));
    set("store_cache_bytes", number(config.store_cache_bytes));
    set("regions", config.regions.clone().into());
    set("log", config.log.clone().into());
    let mut bounds = toml::Table::new();
    for (name, value) in [
        ("max_connections", config.limits.max_connections as u64),
        ("max_streams", config.limits.max_streams.into()),
        ("max_calls", config.limits.max_calls as u64),
        ("max_watches", config.limits.max_watches as u64),
        ("evaluation_threads", config.limits.evaluation_threads as u64),
        ("queued_per_thread", config.limits.queued_per_thread as u64),
        ("max_call_time_s", config.limits.max_call_time_s),
    ] {
        bounds.insert(name.into(), number(value));
    }
    set("limits", bounds.into());
    if let Some(options) = &config.pir {
        let mut pir = toml::Table::new();
        pir.insert("memory_bytes".into(), number(options.memory_bytes));
        pir.insert("threads".into(), number(options.threads as u64));
        pir.insert("max_waiting".into(), number(options.max_waiting as u64));
        set("pir", pir.into());
    }
    let limits = |limits: &Limits| {
        let mut table = toml::Table::new();
        for (name, value) in [
            ("elements_per_day", limits.elements.per_day()),
            ("elements_burst", limits.elements.burst()),
            ("bucket_bytes_per_day", limits.bytes.per_day()),
            ("bucket_bytes_burst", limits.bytes.burst()),
            ("pir_queries_per_day", limits.queries.per_day()),
            ("pir_queries_burst", limits.queries.burst()),
            ("users", limits.tokens.per_day() / Limits::TOKENS_PER_USER),
        ] {
            table.insert(name.into(), number(value));
        }
        table
    };
    let quotas = &config.quotas;
    let mut quota = limits(&quotas.partner);
    let anonymous = match quotas.anonymous {
        Anonymous::Open => "open",
        Anonymous::Tokens => "tokens",
    };
    quota.insert("anonymous".into(), anonymous.into());
    quota.insert("anonymous_bytes_per_day".into(), number(quotas.anonymous_bytes.per_day()));
    quota.insert("anonymous_bytes_burst".into(), number(quotas.anonymous_bytes.burst()));
    let partners = quotas.partners.iter().map(|(alias, own)| {
        let mut table = limits(own);
        table.insert("alias".into(), alias.clone().into());
        toml::Value::Table(table)
    });
    quota.insert("partner".into(), partners.collect::<Vec<_>>().into());
    set("quota", quota.into());
    let of = |admin: bool| {
        let partners = config.partners.iter().filter(|one| (one.role == Role::Admin) == admin);
        partners.map(partner).collect::<Vec<_>>()
    };
    set("admin", of(true).into());
    set("caller", of(false).into());
    table.to_string()
}

/// One `[[admin]]` or `[[caller]]`.
fn partner(partner: &Partner) -> toml::Value {
    let texts = |texts: &mut dyn Iterator<Item = &str>| {
        toml::Value::from(texts.map(str::to_owned).collect::<Vec<_>>())
    };
    let mut table = toml::Table::new();
    let mut set = |name: &str, value: toml::Value| {
        table.insert(name.to_owned(), value);
    };
    set("uri", partner.uri.as_str().into());
    set("alias", partner.alias.as_str().into());
    match &partner.role {
        Role::Ap(provider) => set("provider", provider.as_str().into()),
        Role::Authority(coverage) => {
            set("numbers", texts(&mut coverage.numbers()));
            set("domains", texts(&mut coverage.domains()));
        }
        Role::Peer | Role::Admin => {}
    }
    if partner.role != Role::Admin {
        set("role", partner.role.kind().name().into());
    }
    if let Some(most) = partner.evaluations_per_day {
        set("evaluations_per_day", toml::Value::Integer(most.try_into().expect("came from TOML")));
    }
    table.into()
}
