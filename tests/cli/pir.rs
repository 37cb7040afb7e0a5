//! Private information retrieval as an operator switches it on and a user asks.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::estate::{Estate, Serving, assert_code, blindbook, text};

const PEOPLE: &str = "sii,user\n+14155550100,alice\ncarol@example.com,carol\n";
const PATIENCE: Duration = Duration::from_secs(240);

fn served(estate: &Estate, more: &str) -> Serving {
    let config = format!("{}{more}", estate.config());
    let config = estate.write("blindbook.toml", &config);
    let mut command = blindbook();
    command.args(["--log", "info", "serve", "--config"]).arg(config);
    Serving::start(command)
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn one_contact_is_asked_for_in_private_once_the_server_is_ready() {
    let estate = Estate::new();
    assert_code(&estate.load(PEOPLE), 0);
    let serving = served(&estate, "probe_listen = \"127.0.0.1:0\"\n[pir]\n");
    let log = serving.beginning();
    let probes = log.split("telling metrics and probes address=").nth(1).unwrap();
    let probes = probes.lines().next().unwrap().trim().to_owned();
    let begun = Instant::now();
    while !get(&probes, "/readyz").starts_with("HTTP/1.1 200 ") {
        assert!(begun.elapsed() < PATIENCE, "{}", serving.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let lookup = |more: &[&str]| {
        let output = estate.lookup_command(&serving).args(more).output().unwrap();
        assert_code(&output, 0);
        text(&output.stdout)
    };
    let answered = || {
        let metrics = get(&probes, "/metrics");
        let line = metrics.lines().find(|line| line.starts_with("blindbook_pir_answered_total "));
        line.unwrap().split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    assert!(lookup(&["carol@example.com"]).contains("\"user\":\"carol\""));
    assert!(lookup(&["dave@example.com"]).contains("\"mappings\":[]"));
    assert_eq!(answered(), 2);
    // Several are asked for in buckets, unless told otherwise.
    let both = ["+14155550100", "carol@example.com"];
    assert!(lookup(&both).contains("\"user\":\"alice\""));
    assert!(lookup(&["--mode", "bucket", "carol@example.com"]).contains("\"user\":\"carol\""));
    assert_eq!(answered(), 2);
    assert!(lookup(&["--mode", "pir", both[0], both[1]]).contains("\"user\":\"alice\""));
    assert_eq!(answered(), 4);
    let (code, log) = serving.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("private retrieval is ready"), "{log}");
}

#[test]
fn too_little_memory_and_too_old_a_directory_are_told() {
    let estate = Estate::new();
    assert_code(&estate.load(PEOPLE), 0);
    let config = format!("{}[pir]\nmemory_bytes = 1073741824\n", estate.config());
    let config = estate.write("small.toml", &config);
    let output = blindbook().args(["serve", "--config"]).arg(config).output().unwrap();
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(error.contains("1 partitions of 4 rows") && error.contains("1.0 GiB"), "{error}");

    let serving = served(&estate, "");
    let output = estate
        .lookup_command(&serving)
        .args(["--mode", "pir", "carol@example.com"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(error.contains("offers no private information retrieval"), "{error}");
}
