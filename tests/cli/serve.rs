use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::Stdio,
};

use super::estate::{Estate, Serving, assert_code, blindbook, text};

fn config(estate: &Estate, more: &str) -> std::path::PathBuf {
    let text = format!(
        "data = {:?}\nkeys = {:?}\nlisten = \"127.0.0.1:0\"\n{more}",
        estate.data(),
        estate.keys()
    );
    estate.write("blindbook.toml", &text)
}

#[test]
fn a_configuration_file_serves_as_the_flags_do() {
    let estate = Estate::new();
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    let path = config(
        &estate,
        &format!(
            "tls_cert = {:?}\ntls_key = {:?}\n",
            estate.keys().join("dev-cert.pem"),
            estate.keys().join("dev-cert.key")
        ),
    );
    let mut command = blindbook();
    command.args(["serve", "--config"]).arg(path);
    let serving = Serving::start(command);
    let output = estate.lookup(&serving, &["+14155550100"]);
    assert_code(&output, 0);
    assert!(text(&output.stdout).contains("alice"));
    let (code, log) = serving.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("the keys lie on the device of the data"), "{log}");
}

/// One request and the whole answer.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_and_probes_tell_how_much_and_not_whom() {
    let estate = Estate::new();
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    let text_of = format!("{}probe_listen = \"127.0.0.1:0\"\n", estate.config());
    let mut command = blindbook();
    command.args(["serve", "--config"]).arg(estate.write("probed.toml", &text_of));
    let serving = Serving::start(command);
    let beginning = serving.beginning();
    let line = beginning.lines().find(|line| line.contains("metrics and probes")).unwrap();
    let address = line.split_once("address=").unwrap().1.trim();
    while !get(address, "/readyz").starts_with("HTTP/1.1 200 ") {}
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
    assert_code(&estate.lookup(&serving, &["+14155550100"]), 0);
    assert_code(&estate.lookup(&serving, &["+14155550101"]), 0);
    let metrics = get(address, "/metrics");
    for line in [
        "blindbook_calls_total{method=\"Evaluate\",code=\"OK\"} 2",
        "blindbook_calls_total{method=\"FetchBuckets\",code=\"OK\"} 2",
    ] {
        assert!(metrics.lines().any(|told| told == line), "{metrics}");
    }
    for canary in ["4155550100", "4155550101", "alice", "wa.example"] {
        assert!(!metrics.contains(canary), "{metrics}");
    }
    assert_eq!(serving.stop().0, Some(0));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn logs_are_json_where_that_is_asked_for() {
    let estate = Estate::new();
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    let mut command = blindbook();
    command.args(["serve", "--log-format", "json", "--config"]);
    command.arg(estate.write("logged.toml", &estate.config()));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = lines.next().unwrap().unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if event["message"] == "serving" {
            assert_eq!(event["level"], "INFO");
            assert!(event["address"].as_str().unwrap().starts_with("127.0.0.1:"));
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn settings_are_refused_before_a_port_is_bound() {
    let estate = Estate::new();
    for (more, says) in [
        ("insecure_plaintext = true\nlistten = 1\n", "listten"),
        ("", "insecure_plaintext"),
        ("insecure_plaintext = true\nmax_connections = 0\n", "max_connections"),
        ("insecure_plaintext = true\n[limits]\nmax_calls = 0\n", "[limits] max_calls"),
        ("tls_cert = \"absent.pem\"\ntls_key = \"absent.key\"\n", "absent.pem"),
    ] {
        let path = config(&estate, more);
        let output = blindbook().args(["serve", "--config"]).arg(path).output().unwrap();
        assert_code(&output, 2);
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    let output = blindbook().args(["serve", "--data", "d"]).output().unwrap();
    assert_code(&output, 2);
}

#[test]
fn an_empty_data_folder_and_foreign_keys_are_refused_with_advice() {
    let estate = Estate::new();
    let serve = |keys: &Estate| {
        blindbook()
            .args(["serve", "--insecure-plaintext", "--listen", "127.0.0.1:0", "--data"])
            .arg(estate.data())
            .arg("--keys")
            .arg(keys.keys())
            .output()
            .unwrap()
    };
    let output = serve(&estate);
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("load"), "{}", text(&output.stderr));
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    let output = serve(&Estate::new());
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("keys"), "{}", text(&output.stderr));
}

#[test]
fn a_load_beside_a_running_server_is_refused_and_harms_neither() {
    let estate = Estate::new();
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    let serving = estate.serve();
    let output = estate.load("sii,user\n+14155550101,bob\n");
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("data folder"), "{}", text(&output.stderr));
    let output = estate.lookup(&serving, &["+14155550100"]);
    assert!(text(&output.stdout).contains("alice"));
}
