//! `blindbook registry` against `blindbook serve`: from a code in the spool to
//! being found, and back.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::{
    certificates::Authority,
    estate::{Estate, Serving, assert_code, blindbook, files, text},
};

const WA: &str = "spiffe://wa.example/ap";
const SG: &str = "spiffe://sg.example/ap";
const AUTHORITY: &str = "spiffe://numbers.example/us";
const NUMBER: &str = "+14155550123";

/// Two providers and an authority. A provider gets so few tokens that none comes
/// back while a test runs.
struct Partners {
    estate: Estate,
    other: Estate,
    serving: Option<Serving>,
}

impl Partners {
    fn new() -> Self {
        let (estate, other) = (Estate::new(), Estate::new());
        assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
        let mut load = blindbook();
        load.arg("load").arg("--data").arg(estate.data()).arg("--keys").arg(estate.keys());
        load.args(["--provider", "sg.example", "--ap-key"]).arg(other.keys().join("ap.key"));
        let output = load.arg(other.write("sg.csv", "sii,user\nsg@mail.example,sg\n")).output();
        assert_code(&output.unwrap(), 0);
        let authority = Authority::new();
        estate.write("client-ca.pem", &authority.pem);
        let nobody = "spiffe://evil.example/ap";
        for (name, uri) in [("wa", WA), ("sg", SG), ("authority", AUTHORITY), ("nobody", nobody)] {
            estate.certify(&authority, name, uri);
        }
        let config = format!(
            "{}client_ca = {:?}\n[quota]\nanonymous = \"open\"\nusers = 1\n[registry]\ndevelopment = true\ncode_spool = {:?}\n\
             [[caller]]\nuri = {WA:?}\nalias = \"wa\"\nrole = \"ap\"\nprovider = \"wa.example\"\n\
             [[caller]]\nuri = {SG:?}\nalias = \"sg\"\nrole = \"ap\"\nprovider = \"sg.example\"\n\
             [[caller]]\nuri = {AUTHORITY:?}\nalias = \"us\"\nrole = \"authority\"\n\
             numbers = [\"+1415\"]\n",
            estate.config(),
            estate.path("client-ca.pem"),
            estate.path("spool"),
        );
        estate.write("blindbook.toml", &config);
        let mut partners = Self { estate, other, serving: None };
        partners.restart();
        partners
    }

    fn restart(&mut self) {
        if let Some(serving) = self.serving.take() {
            let (code, log) = serving.stop();
            assert_eq!(code, Some(0), "{log}");
            for canary in ["4155550123", "alice", WA, SG, AUTHORITY] {
                assert!(!log.contains(canary), "{canary}: {log}");
            }
        }
        let mut command = blindbook();
        command.args(["serve", "--log", "trace", "--config"]);
        command.arg(self.estate.path("blindbook.toml"));
        self.serving = Some(Serving::start(command));
    }

    fn url(&self) -> String {
        format!("https://{}", self.serving.as_ref().unwrap().address)
    }

    fn command(&self, who: &str) -> Command {
        let mut command = blindbook();
        command.args(["registry", "--server", &self.url()]);
        self.estate.speak_as(&mut command, who);
        command
    }

    fn ask(&self, who: &str, arguments: &[&str]) -> Output {
        self.command(who).args(arguments).output().unwrap()
    }

    /// What one call printed, line by line.
    #[track_caller]
    fn done(&self, who: &str, arguments: &[&str]) -> Vec<Value> {
        let output = self.ask(who, arguments);
        assert_code(&output, 0);
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    fn refused(&self, who: &str, arguments: &[&str], reason: &str) {
        let output = self.ask(who, arguments);
        assert_code(&output, 1);
        let told = text(&output.stderr);
        assert!(told.contains(&format!("refused ({reason})")), "{told}");
    }

    /// A fresh claim token, in a file.
    fn token(&mut self, who: &str, restarts: bool) -> String {
        let spool = self.estate.path("spool");
        let before = files(&spool);
        assert!(self.done(who, &["start-verification", NUMBER])[0]["expires_s"].is_u64());
        let new: Vec<PathBuf> =
            files(&spool).into_iter().filter(|file| !before.contains(file)).collect();
        let message = fs::read_to_string(&new[0]).unwrap();
        let (_, body) = message.split_once("\n\n").unwrap();
        let code: String = body.chars().take_while(char::is_ascii_digit).collect();
        if restarts {
            self.restart();
        }
        let code = self.estate.write("code", &format!("{code}\n"));
        let finish = ["finish-verification", NUMBER, "--code", code.to_str().unwrap()];
        let token = self.done(who, &finish)[0]["token"].as_str().unwrap().to_owned();
        // A code is good once.
        self.refused(who, &finish, "CODE_UNKNOWN");
        self.estate.write("claim-token", &token).to_str().unwrap().to_owned()
    }

    fn key(&self, who: &str) -> String {
        let folder = if who == "wa" { self.estate.keys() } else { self.other.keys() };
        folder.join("ap.key").to_str().unwrap().to_owned()
    }

    /// Nothing of what was said lies on the disk as it was said.
    fn holds_nothing_in_clear(&self) {
        for file in files(&self.estate.data()) {
            let bytes = fs::read(&file).unwrap();
            for canary in ["4155550123", "bobby", "mail.example", &"Z".repeat(32)] {
                let found = bytes.windows(canary.len()).any(|part| part == canary.as_bytes());
                assert!(!found, "{canary} in {}", file.display());
            }
        }
    }

    #[track_caller]
    fn found(&self) -> Vec<Value> {
        self.found_with(&[])
    }

    fn looked_up(&self, more: &[&str]) -> Output {
        let mut command = blindbook();
        command.args(["lookup", "--server", &self.url(), "--json", "--identity"]);
        command.arg(self.estate.keys().join("identity.pub"));
        command.arg("--ca").arg(self.estate.keys().join("dev-ca.pem")).arg(NUMBER).args(more);
        command.output().unwrap()
    }

    fn found_with(&self, more: &[&str]) -> Vec<Value> {
        let output = self.looked_up(more);
        assert_code(&output, 0);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["mappings"].as_array().unwrap().clone()
    }
}

/// In a circle beside the open one: nobody else finds it.
fn claim_in_a_circle(partners: &mut Partners, key: &str) {
    let token = partners.token("wa", false);
    let circle = partners.estate.write("circle", &"5a".repeat(32));
    let hidden = [
        "claim",
        NUMBER,
        "--provider",
        "wa.example",
        "--ap-key",
        key,
        "--user",
        "bob",
        "--claim-token",
        &token,
        "--circle",
        circle.to_str().unwrap(),
    ];
    partners.done("wa", &hidden);
    assert_eq!(partners.found().len(), 1);
    let users = partners.found_with(&["--circle", circle.to_str().unwrap()]);
    assert_eq!(users.iter().map(|found| &found["user"]).collect::<Vec<_>>(), ["bob", "bob"]);
    let other = partners.estate.write("other-circle", &"5b".repeat(32));
    assert_eq!(partners.found_with(&["--circle", other.to_str().unwrap()]).len(), 1);
}

#[test]
fn a_partner_is_told_its_quotas() {
    let partners = Partners::new();
    let limits = partners.done("wa", &["limits"]);
    assert_eq!(limits[0]["elements"]["per_day"], 1_000_000);
    assert_eq!(limits[0]["tokens"]["available"], 256);
    assert_eq!(limits[0]["tokens_required"], false);
    assert!(partners.done("authority", &["limits"])[0].get("tokens").is_none());
}

#[test]
fn a_lookup_pays_with_tokens_that_a_provider_had_signed() {
    let partners = Partners::new();
    let left = || partners.done("wa", &["limits"])[0]["tokens"]["available"].as_u64().unwrap();
    let file = |name| partners.estate.path(name).to_str().unwrap().to_owned();
    let (cert, key, state) = (file("wa.pem"), file("wa.key"), file("state"));
    let paid = ["--tokens-cert", &cert, "--tokens-key", &key, "--state", &state, "--refresh"];
    let before = left();
    assert!(partners.found_with(&paid).is_empty());
    assert_eq!(before - left(), 32);
    // What was signed and not spent is kept for the next.
    assert!(partners.found_with(&paid).is_empty());
    assert_eq!(before - left(), 32);
    // An authority has no users.
    let (cert, key) = (file("authority.pem"), file("authority.key"));
    let output = partners.looked_up(&["--tokens-cert", &cert, "--tokens-key", &key]);
    assert_code(&output, 1);
    let told = text(&output.stderr);
    assert!(told.contains("gave no tokens (refused (ROLE_NOT_ALLOWED)"), "{told}");
}

#[test]
fn a_number_is_verified_claimed_preferred_ported_and_released() {
    let mut partners = Partners::new();
    assert!(partners.found().is_empty());

    // What is open outlives the server.
    let token = partners.token("wa", true);
    let key = partners.key("wa");
    let claim = [
        "claim",
        NUMBER,
        "--provider",
        "wa.example",
        "--ap-key",
        &key,
        "--user",
        "bob",
        "--claim-token",
        &token,
    ];
    assert_eq!(partners.done("wa", &claim)[0]["renewed"], false);
    let found = partners.found();
    assert_eq!((&found[0]["user"], &found[0]["audience"]), (&"bob".into(), &"personal".into()));
    // The proof is used up, also for a server that starts anew.
    partners.restart();
    partners.refused("wa", &claim, "PROOF_USED");

    let listed = partners.done("wa", &["list"]);
    assert_eq!(listed.len(), 2);
    let mine = listed.iter().find(|line| line["user"] == "bob").unwrap();
    let until = mine["verified_until_s"].to_string();
    let preferred = [
        "set-audience",
        NUMBER,
        "--provider",
        "wa.example",
        "--ap-key",
        &key,
        "--user",
        "bob",
        "--audience",
        "business",
        "--ttl-s",
        "86400",
        "--verified-until-s",
        &until,
    ];
    partners.done("wa", &preferred);
    assert_eq!(partners.found()[0]["audience"], "business");

    claim_in_a_circle(&mut partners, &key);

    // Ported to the other, with all that was the old operator's.
    let token = partners.token("sg", false);
    let key = partners.key("sg");
    let listed = partners.done("sg", &["list", NUMBER, "--claim-token", &token]);
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().any(|line| line["circle_id"].as_str().is_some_and(|id| id.len() == 32)));
    assert!(!listed.iter().any(|line| line.to_string().contains(&"5a".repeat(32))));
    let port = [
        "port",
        NUMBER,
        "--from",
        "wa.example",
        "--provider",
        "sg.example",
        "--ap-key",
        &key,
        "--user",
        "bobby",
        "--claim-token",
        &token,
    ];
    let ported = partners.done("sg", &port);
    assert_eq!((&ported[0]["released"], &ported[0]["renewed"]), (&2.into(), &false.into()));
    assert_eq!(partners.found()[0]["provider"], "sg.example");

    // Whoever controls the number may make any mapping the default, or release it.
    let token = partners.token("wa", false);
    partners.done(
        "wa",
        &["set-default", NUMBER, "--mapping", "bobby@sg.example", "--claim-token", &token],
    );
    partners.refused("wa", &["release", NUMBER, "--user", "bobby"], "NO_SUCH_MAPPING");
    partners.refused("wa", &["release", NUMBER, "--all"], "NOT_AN_AUTHORITY");
    partners.refused("authority", &["release", "+12125550100", "--all"], "NOT_COVERED");
    assert_eq!(partners.done("authority", &["release", NUMBER, "--all"])[0]["released"], 1);
    assert!(partners.found().is_empty());
    partners.restart();
    assert!(partners.found().is_empty());
    assert_eq!(partners.done("wa", &["list"]).len(), 1);
    partners.holds_nothing_in_clear();
}

#[test]
fn many_claims_are_answered_line_by_line_and_a_broken_file_sends_none() {
    let mut partners = Partners::new();
    let token = fs::read_to_string(partners.token("wa", false)).unwrap();
    let line = |sii: &str, token: &str| {
        serde_json::json!({"sii": sii, "user": "bob", "claim_token": token}).to_string()
    };
    let key = partners.key("wa");
    let many = |name: &str| {
        let file = partners.estate.path(name);
        let arguments =
            ["claim-many", file.to_str().unwrap(), "--provider", "wa.example", "--ap-key", &key];
        partners.ask("wa", &arguments)
    };
    let good = format!("{}\n{}\n", line(NUMBER, &token), line("+14155550124", &token));
    partners.estate.write("broken", &format!("{good}{{\"sii\":1}}\n"));
    let output = many("broken");
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("line 3"), "{}", text(&output.stderr));
    assert!(partners.found().is_empty());

    partners.estate.write("good", &good);
    let output = many("good");
    assert_code(&output, 1);
    let outcomes = text(&output.stdout);
    let outcomes: Vec<Value> =
        outcomes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |line: u64| outcomes.iter().find(|outcome| outcome["line"] == line).unwrap();
    assert_eq!(of(1)["renewed"], false);
    assert_eq!(of(2)["reason"], "PROOF_SUBJECT");
    assert!(text(&output.stderr).contains("1 of 2 claims were refused"));
    assert_eq!(partners.found().len(), 1);
}

#[test]
fn a_watcher_is_told_of_a_change_and_goes_on_from_its_checkpoint() {
    let mut partners = Partners::new();
    let checkpoint = partners.estate.path("checkpoint");
    let watch = |partners: &Partners| {
        let mut command = partners.command("wa");
        command.args(["watch-invalidations", "--checkpoint"]).arg(&checkpoint);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    };
    let (mut child, mut lines) = watch(&partners);
    // It is there once the watcher stands somewhere.
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the watch ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let token = partners.token("wa", false);
    let key = partners.key("wa");
    let claim = [
        "claim",
        NUMBER,
        "--provider",
        "wa.example",
        "--ap-key",
        &key,
        "--user",
        "bob",
        "--claim-token",
        &token,
    ];
    partners.done("wa", &claim);
    let told = lines.next().unwrap().unwrap();
    let changed: Value = serde_json::from_str(&told).unwrap();
    assert!(changed["prefix"].is_u64() && changed["version"].is_u64(), "{told}");
    child.kill().unwrap();
    child.wait().unwrap();

    partners.done("wa", &["release", NUMBER, "--user", "bob"]);
    partners.restart();
    let (mut child, mut lines) = watch(&partners);
    let versions: Vec<u64> = (0..2)
        .map(|_| {
            let told: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(told["prefix"], changed["prefix"]);
            told["version"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(versions[0], changed["version"].as_u64().unwrap());
    assert!(versions[1] > versions[0]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn who_is_nobody_or_says_nonsense_is_told_so() {
    let partners = Partners::new();
    partners.refused("nobody", &["list"], "CALLER_UNKNOWN");
    let mut anonymous = blindbook();
    anonymous.args(["registry", "--server", &partners.url(), "--ca"]);
    anonymous.arg(partners.estate.keys().join("dev-ca.pem")).arg("list");
    let output = anonymous.output().unwrap();
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("CALLER_UNIDENTIFIED"), "{}", text(&output.stderr));
    for arguments in [
        &["release", NUMBER][..],
        &["release", NUMBER, "--all", "--user", "bob"],
        &["release", NUMBER, "--mapping", "bob"],
        &["start-verification", "nonsense"],
        &["list", NUMBER],
    ] {
        let output = partners.ask("wa", arguments);
        assert_code(&output, 2);
        assert!(!text(&output.stderr).is_empty());
    }
}
