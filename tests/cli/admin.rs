//! `blindbook partners`, and files of TLS that change while `serve` runs.

use std::{
    fs,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::estate::{Estate, Serving, assert_code, blindbook, text};

const PARTNER: &str = "spiffe://localhost/partner";

/// Reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with an administrator, and nobody else yet.
struct Kept {
    estate: Estate,
    serving: Option<Serving>,
}

impl Kept {
    fn new() -> Self {
        let estate = Estate::new();
        assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
        // Files of its own, to be changed.
        for name in ["dev-cert.pem", "dev-cert.key", "dev-ca.pem"] {
            fs::copy(estate.keys().join(name), estate.path(name)).unwrap();
        }
        let config = format!(
            "data = {:?}\nkeys = {:?}\nlisten = \"127.0.0.1:0\"\ntls_cert = {:?}\ntls_key = {:?}\n\
             client_ca = {:?}\n[quota]\nanonymous = \"open\"\n[registry]\n\
             [[admin]]\nuri = \"spiffe://localhost/admin\"\nalias = \"operator\"\n",
            estate.data(),
            estate.keys(),
            estate.path("dev-cert.pem"),
            estate.path("dev-cert.key"),
            estate.path("dev-ca.pem"),
        );
        estate.write("blindbook.toml", &config);
        let mut kept = Self { estate, serving: None };
        kept.start();
        kept
    }

    fn start(&mut self) {
        let mut command = blindbook();
        command.args(["serve", "--log", "trace", "--config"]);
        command.arg(self.estate.path("blindbook.toml"));
        self.serving = Some(Serving::start(command));
    }

    fn stop(&mut self) -> String {
        let (code, log) = self.serving.take().unwrap().stop();
        assert_eq!(code, Some(0), "{log}");
        // Who partners are stands in no log.
        for canary in ["spiffe:", "localhost/partner", "wa.example", "PRIVATE"] {
            assert!(!log.contains(canary), "{canary}: {log}");
        }
        log
    }

    fn command(&self, call: &[&str], who: &str) -> Command {
        let mut command = blindbook();
        let url = format!("https://{}", self.serving.as_ref().unwrap().address);
        command.args(call).args(["--server", &url]);
        let key = |name: &str| self.estate.keys().join(name);
        command.arg("--ca").arg(key("dev-ca.pem"));
        command.arg("--cert").arg(key(&format!("dev-{who}.pem")));
        command.arg("--key").arg(key(&format!("dev-{who}.key")));
        command
    }

    fn partners(&self, call: &str, more: &[&str]) -> Output {
        self.command(&["partners", call], "admin").args(more).output().unwrap()
    }

    fn list(&self) -> Vec<Value> {
        let output = self.partners("list", &[]);
        assert_code(&output, 0);
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What the partner's own listing of mappings comes to.
    fn asks(&self) -> Output {
        self.command(&["registry"], "partner").arg("list").output().unwrap()
    }

    /// Waits until the log says something.
    fn says(&self, words: &str) {
        let began = Instant::now();
        while !self.serving.as_ref().unwrap().log().contains(words) {
            assert!(began.elapsed() < PATIENCE, "it never says: {words}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[track_caller]
fn refused(output: &Output, reason: &str) {
    assert_code(output, 1);
    let told = text(&output.stderr);
    assert!(told.contains(&format!("refused ({reason})")), "{told}");
}

#[test]
fn partners_are_added_set_listed_and_removed_while_the_server_runs() {
    let mut kept = Kept::new();
    refused(&kept.asks(), "CALLER_UNKNOWN");
    let ap = ["--uri", PARTNER, "--alias", "wa", "--role", "ap", "--provider", "wa.example"];
    refused(&kept.partners("set", &ap), "NO_SUCH_PARTNER");
    assert_code(&kept.partners("add", &ap), 0);
    assert_code(&kept.asks(), 0);
    refused(&kept.partners("add", &ap), "PARTNER_EXISTS");
    let quota = [&ap[..], &["--evaluations-per-day", "5000"]].concat();
    assert_code(&kept.partners("set", &quota), 0);
    let listed = kept.list();
    assert_eq!(listed.len(), 2);
    let admin = &listed[0];
    assert_eq!((&admin["role"], &admin["configured"]), (&"admin".into(), &true.into()));
    let wa = &listed[1];
    assert_eq!((&wa["uri"], &wa["provider"]), (&PARTNER.into(), &"wa.example".into()));
    assert_eq!((&wa["evaluations_per_day"], &wa["configured"]), (&5000.into(), &false.into()));
    assert_eq!(wa["provider_key"].as_str().map(str::len), Some(64));
    // Only an administrator may.
    let by_partner = kept.command(&["partners", "list"], "partner").output().unwrap();
    refused(&by_partner, "ROLE_NOT_ALLOWED");

    kept.stop();
    kept.start();
    assert_code(&kept.asks(), 0);
    assert_code(&kept.partners("remove", &["--uri", PARTNER]), 0);
    refused(&kept.asks(), "CALLER_UNKNOWN");
    refused(&kept.partners("remove", &["--uri", PARTNER]), "NO_SUCH_PARTNER");
    refused(&kept.partners("remove", &["--uri", "spiffe://localhost/admin"]), "PARTNER_CONFIGURED");
    for nonsense in [
        &["--uri", PARTNER, "--alias", "wa", "--role", "ap"][..],
        &["--uri", PARTNER, "--alias", "wa", "--role", "peer", "--provider", "wa.example"],
        &["--uri", PARTNER, "--alias", "wa", "--role", "peer", "--number", "+1415"],
        &["--uri", PARTNER, "--alias", "wa", "--role", "friend"],
    ] {
        assert_code(&kept.partners("add", nonsense), 2);
    }
    kept.stop();
}

#[test]
fn a_providers_key_gives_way_to_the_one_that_it_vouches_for() {
    let mut kept = Kept::new();
    let other = Estate::new();
    let (old, new) = (kept.estate.keys().join("ap.key"), other.keys().join("ap.pub"));
    let ap = ["--uri", PARTNER, "--alias", "wa", "--role", "ap", "--provider", "wa.example"];
    let with_key = [&ap[..], &["--provider-key", new.to_str().unwrap()]].concat();
    refused(&kept.partners("add", &with_key), "KEY_NOT_VOUCHED");
    assert_eq!(kept.list().len(), 1);
    let vouch = blindbook()
        .args(["partners", "vouch", "--provider", "wa.example", "--ap-key"])
        .arg(&old)
        .arg("--new-key")
        .arg(&new)
        .output()
        .unwrap();
    assert_code(&vouch, 0);
    let vouched = text(&vouch.stdout);
    assert_eq!(vouched.trim().len(), 128);
    let with_both = [&with_key[..], &["--vouched", vouched.trim()]].concat();
    assert_code(&kept.partners("add", &with_both), 0);
    let key = fs::read_to_string(&new).unwrap();
    let listed = kept.list();
    assert!(key.contains(listed[1]["provider_key"].as_str().unwrap()), "{key}");
    kept.stop();
}

#[test]
fn a_hangup_reloads_and_a_broken_file_leaves_the_old_in_force_and_says_so() {
    let mut kept = Kept::new();
    let cert = kept.estate.path("dev-cert.pem");
    let good = fs::read(&cert).unwrap();
    kept.serving.as_ref().unwrap().signal("-HUP");
    kept.says("the TLS files are what they were");
    fs::write(&cert, "broken").unwrap();
    kept.serving.as_ref().unwrap().signal("-HUP");
    kept.says("the old ones stay in force");
    assert!(kept.serving.as_ref().unwrap().log().contains("dev-cert.pem"));
    assert_eq!(kept.list().len(), 1);
    fs::write(&cert, good).unwrap();
    kept.serving.as_ref().unwrap().signal("-HUP");
    kept.says("new TLS files are in force");
    assert_eq!(kept.list().len(), 1);
    kept.stop();
}
