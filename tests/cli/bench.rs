//! `blindbook bench`, on directories too small to tell anything but whether it
//! works.

use crate::estate::{assert_code, blindbook, text};

fn bench(arguments: &[&str]) -> std::process::Output {
    blindbook().arg("bench").args(arguments).output().unwrap()
}

fn json(output: &std::process::Output) -> serde_json::Value {
    assert_code(output, 0);
    let lines = text(&output.stdout);
    assert_eq!(lines.lines().count(), 1, "one object on one line");
    serde_json::from_str(&lines).unwrap()
}

#[test]
fn a_load_is_measured_beside_its_arithmetic_and_its_folder_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let within = folder.path().to_str().unwrap();
    let report = json(&bench(&["--records", "300", "--only", "load", "--json", "--dir", within]));
    assert!(report["load_vs_arithmetic"].as_f64().unwrap() > 0.0);
    assert_eq!(report["records"], 300);
    assert_eq!(report["load"]["prefix_bits"], 2);
    assert!(report["load"]["disk_bytes_per_record"].as_f64().unwrap() > 192.0);
    assert!(report.get("fetch_vs_echo").is_none(), "what was not measured is absent");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn an_enumeration_is_simulated_under_the_default_limits() {
    let table = bench(&["--attack", "enumerate"]);
    assert_code(&table, 0);
    assert!(text(&table.stdout).contains("default limits"));
    let report = json(&bench(&["--attack", "enumerate", "--json"]));
    assert_eq!(report["identity_counts"], serde_json::json!([1, 10, 100, 1000]));
    let lines = report["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 6);
    for line in lines {
        let numbers = line["numbers"].as_f64().unwrap();
        let per_day = if line["identities"] == "users" { 512.0 } else { 1_000_000.0 };
        for (days, identities) in line["days"].as_array().unwrap().iter().zip([1, 10, 100, 1000]) {
            let fewest = numbers / per_day / f64::from(identities);
            let days = days.as_f64().unwrap();
            assert!(days <= fewest && days + 1.1 >= fewest, "{line}");
        }
    }
    assert_code(&bench(&["--attack", "enumerate", "--only", "load"]), 2);
}

#[test]
fn lookups_are_measured_at_every_level_and_counted_on_the_wire() {
    let report = json(&bench(&["--records", "300", "--only", "lookups", "--json"]));
    let levels = report["lookups"]["levels"].as_array().unwrap();
    for (level, concurrency) in levels.iter().zip([1, 16, 64]) {
        assert_eq!(level["concurrency"], concurrency);
        assert!(level["lookups_per_s"].as_f64().unwrap() > 0.0);
        assert!(level["p50_us"].as_u64().unwrap() <= level["p99_us"].as_u64().unwrap());
    }
    assert_eq!(levels.len(), 3);
    let received = report["lookups"]["bytes_per_lookup"]["received"].as_f64().unwrap();
    #[cfg(target_os = "linux")]
    assert!(report["lookups"]["server_memory"]["resident_bytes"].as_u64().unwrap() > 1 << 20);
    // One bucket of 256 entries of 192 bytes, and a little beside it.
    assert!((49_152.0..52_000.0).contains(&received), "{received}");
}

#[test]
fn resolves_are_measured_beside_an_echo_of_their_sizes() {
    let report = json(&bench(&["--records", "300", "--only", "sidecar", "--json"]));
    assert!(report["sidecar_vs_echo"].as_f64().unwrap() > 0.0);
    assert_eq!(report["targets"]["sidecar_vs_echo"], 0.7);
    assert!(report["sidecar"]["resolves_per_s"].as_f64().unwrap() > 0.0);
    assert!(report["sidecar"]["from_cache"].is_boolean());
}

#[test]
fn claims_are_measured_beside_the_engine_and_found() {
    let report = json(&bench(&["--records", "300", "--only", "claims", "--json"]));
    assert!(report["claims_vs_engine"].as_f64().unwrap() > 0.0);
    let claims = &report["claims"];
    let levels = claims["levels"].as_array().unwrap();
    for (level, writers) in levels.iter().zip([1, 64]) {
        assert_eq!(level["writers"], writers);
        assert!(level["claims_per_s"].as_f64().unwrap() > 0.0);
        assert!(level["engine_commits_per_s"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(levels.len(), 2);
    assert!(claims["visible"]["claims"].as_u64().unwrap() > 0);
    assert!(claims["lookup_p99_ratio"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_security_costs_is_measured_beside_plain_text() {
    let report = json(&bench(&["--records", "300", "--only", "access", "--quick", "--json"]));
    assert!(report["secured_vs_plain"].as_f64().unwrap() > 0.0);
    assert!(report["access"]["secured"]["requests_per_s"].as_f64().unwrap() > 0.0);
    assert!(report["access"]["token_verify_us"].as_f64().unwrap() > 0.0);
}

#[test]
fn an_overload_is_measured_for_every_size_and_what_clients_leave_of_it() {
    let report = json(&bench(&["--records", "300", "--only", "overload", "--quick", "--json"]));
    assert!(report["goodput_overload_vs_saturation"].is_f64());
    assert!(report["goodput_throttled_vs_saturation"].is_f64());
    let batches = report["overload"]["batches"].as_array().unwrap();
    let sizes: Vec<_> = batches.iter().map(|of| of["elements_per_request"].as_u64()).collect();
    assert_eq!(sizes, [2, 8, 32, 128, 512].map(Some));
    // In a moment not every size sees all there is.
    let told = |callers: &str, what: &str| -> f64 {
        batches.iter().map(|of| of[callers][what].as_f64().unwrap()).sum()
    };
    for callers in ["heedless", "throttled"] {
        for what in ["offered_per_s", "goodput_per_s", "refused_per_s"] {
            assert!(told(callers, what) > 0.0, "{callers} {what}: {report}");
        }
    }
    assert!(told("heedless", "kept_back_per_s") == 0.0);
    assert!(told("throttled", "kept_back_per_s") > 0.0, "{report}");
}

#[test]
fn a_folder_that_is_not_there_fails_and_too_few_records_are_bad_input() {
    let output = bench(&["--records", "300", "--only", "load", "--dir", "/nowhere/at/all"]);
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("/nowhere/at/all"));
    let output = bench(&["--records", "5"]);
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("--records"));
}
