//! `blindbook.toml` as an operator writes it.
//!
//! Input: the text. What is accepted lies in its ranges and says the same when
//! it is written out again, and one unknown key more is always refused.

#![no_main]

use std::path::Path;

use blindbook::{
    access::quota::Limits,
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
            assert_eq!(again, config);
            assert!(Config::parse(&format!("{text}\nlissten = 1\n")).is_err(), "an unknown key");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Corpus::Keep
});

fn in_range(config: &Config) {
    assert!((60..=30 * 86_400).contains(&config.refresh_period_s));
    assert!((1..=1 << 20).contains(&config.max_connections));
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
    match &config.tls {
        Tls::Files { cert, key } => {
            set("tls_cert", path(cert));
            set("tls_key", path(key));
        }
        Tls::InsecurePlaintext => set("insecure_plaintext", true.into()),
    }
    set("refresh_period_s", number(config.refresh_period_s.into()));
    set("max_connections", number(config.max_connections as u64));
    set("bucket_cache_bytes", number(config.bucket_cache_bytes));
    set("store_cache_bytes", number(config.store_cache_bytes));
    set("regions", config.regions.clone().into());
    set("log", config.log.clone().into());
    let limits = |limits: &Limits| {
        let mut table = toml::Table::new();
        for (name, value) in [
            ("elements_per_day", limits.elements.per_day()),
            ("elements_burst", limits.elements.burst()),
            ("bucket_bytes_per_day", limits.bytes.per_day()),
            ("bucket_bytes_burst", limits.bytes.burst()),
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
    table.to_string()
}
