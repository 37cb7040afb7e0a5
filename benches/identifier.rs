//! What it costs to canonicalise one identifier.

use std::hint::black_box;

use blindbook::identifier::{Region, Sii};
use criterion::{Criterion, criterion_group, criterion_main};

fn parse(c: &mut Criterion) {
    let us: Option<Region> = "US".parse().ok();
    let mut group = c.benchmark_group("identifier/parse");
    for (name, input, region) in [
        ("e164", "+14155552671", None),
        ("international", "+44 20 7946 0018", None),
        ("national", "(415) 555-2671", us),
        ("tel_uri", "tel:+1-415-555-2671", None),
        ("mail_ascii", "Alice.Example+tag@Mail.Example", None),
        ("mail_international", "Jos\u{e9}@b\u{fc}cher.example", None),
        ("acct", "acct:alice@social.example", None),
    ] {
        group.bench_function(name, |b| b.iter(|| Sii::parse(black_box(input), region)));
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
