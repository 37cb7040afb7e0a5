//! One estate, in which everybody has a name that stands nowhere else, goes
//! through all that Blindbook does, killed once on the way; then every log line,
//! metric, probe, error and stored byte is searched for all of them.

mod hostile;
mod search;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Output},
};

use blindbook::{
    oprf::BlindedBatch,
    token::{Challenge, Day, Pass},
    wire::{
        SignedBody, TokenKeys,
        proto::{
            EvaluateRequest, GetTokenKeysRequest, IssueTokensRequest,
            discovery_service_client::DiscoveryServiceClient,
            quota_service_client::QuotaServiceClient,
        },
    },
};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use self::search::{Canaries, found};
use crate::{
    certificates::Authority,
    estate::{Estate, Serving, assert_code, blindbook, files, text},
};

const AP: &str = "spiffe://canary-partner-uri.example/ap";
const AUTHORITY: &str = "spiffe://canary-authority-uri.example/authority";
const PROVIDER: &str = "wa.example";
const LATER: &str = "spiffe://canary-later-uri.example/peer";
const ADMIN: &str = "spiffe://canary-admin-uri.example/admin";
const LOADED: [(&str, &str); 3] = [
    ("+14155557312", "canary-user-aaaaaaaaaaaa"),
    ("canary.person@mail-canary.example", "canary-user-bbbbbbbbbbbb"),
    ("acct:canary.account@host-canary.example", "canary-user-cccccccccccc"),
];
const CLAIMED: (&str, &str) = ("+14155558413", "canary-claimed-dddddddddddd");
const ABSENT: &str = "canary.absent@mail-canary.example";
const CIRCLE: [u8; 32] = *b"canary circle secret 0123456789!";

struct Scene {
    estate: Estate,
    serving: Option<Serving>,
    probes: String,
    /// What was logged, and what was said to whoever asked, by what it was.
    seen: Vec<(String, Vec<u8>)>,
}

impl Scene {
    fn new() -> Self {
        let estate = Estate::new();
        let mut lines = String::from("sii,user\n");
        for (sii, user) in LOADED {
            lines.push_str(&format!("{sii},{user}\n"));
        }
        // Refused lines, too, are not to be quoted.
        lines.push_str("canary.broken@,canary-user-eeeeeeeeeeee\n+14155557312,\n");
        let file = estate.write("people.csv", &lines);
        let mut load = estate.load_command();
        let output = load.args(["--log", "trace"]).arg(&file).output().unwrap();
        assert_code(&output, 0);
        let authority = Authority::new();
        estate.write("client-ca.pem", &authority.pem);
        for (name, uri) in
            [("ap", AP), ("admin", ADMIN), ("later", LATER), ("authority", AUTHORITY)]
        {
            estate.certify(&authority, name, uri);
        }
        estate.certify(&Authority::new(), "stranger", AP);
        estate
            .write("circle", &CIRCLE.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "{}client_ca = {:?}\nprobe_listen = \"{port}\"\n[quota]\nanonymous = \"tokens\"\n\
             [[quota.partner]]\nalias = \"wa\"\nelements_per_day = 1000\nelements_burst = 512\n\
             [registry]\ndevelopment = true\ncode_spool = {:?}\n\
             [[caller]]\nuri = {AP:?}\nalias = \"wa\"\nrole = \"ap\"\nprovider = {PROVIDER:?}\n\
             [[caller]]\nuri = {AUTHORITY:?}\nalias = \"names\"\nrole = \"authority\"\n\
             numbers = [\"+1415\"]\ndomains = [\"mail-canary.example\"]\n\
             [[admin]]\nuri = {ADMIN:?}\nalias = \"root\"\n",
            estate.config(),
            estate.path("client-ca.pem"),
            estate.path("spool"),
        );
        estate.write("blindbook.toml", &config);
        let seen = vec![("a load's log".into(), [output.stderr, output.stdout].concat())];
        let mut scene = Self { estate, serving: None, probes: port.to_string(), seen };
        scene.start();
        scene
    }

    fn start(&mut self) {
        let mut command = blindbook();
        command.args(["serve", "--log", "trace", "--log-format", "json", "--config"]);
        command.arg(self.estate.path("blindbook.toml"));
        self.serving = Some(Serving::start(command));
    }

    fn serving(&self) -> &Serving {
        self.serving.as_ref().unwrap()
    }

    /// The server ends at once, as in a crash, and another takes its place.
    fn crash(&mut self) {
        self.serving().signal("-KILL");
        let serving = self.serving.take().unwrap();
        self.see("the log of a server that was killed", serving.log().as_bytes());
        drop(serving);
        self.stored();
        self.start();
    }

    fn see(&mut self, what: &str, bytes: &[u8]) {
        self.seen.push((what.to_owned(), bytes.to_vec()));
    }

    /// Every file of the data folder, as it is now.
    fn stored(&mut self) {
        let stored = files(&self.estate.data());
        assert!(stored.len() > 4, "the server must really store");
        for path in stored {
            let bytes = fs::read(&path).unwrap();
            self.see(&format!("stored: {}", path.display()), &bytes);
        }
    }

    fn probe(&mut self) {
        for path in ["/metrics", "/readyz", "/livez", "/canary-path"] {
            let mut stream = TcpStream::connect(&self.probes).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            if path == "/metrics" {
                assert!(text(&answer).contains("blindbook_calls_total"), "{}", text(&answer));
            }
            self.see(path, &answer);
        }
    }

    fn run(&mut self, what: &str, mut command: Command, code: i32) -> Output {
        let output = command.args(["--log", "trace"]).output().unwrap();
        assert_code(&output, code);
        // What it prints is for whoever asked; what it logs may be read by others.
        self.see(&format!("the log of {what}"), &output.stderr);
        output
    }

    fn partner(&self, group: &str, name: &str, args: &[&str]) -> Command {
        let mut command = blindbook();
        let url = format!("https://{}", self.serving().address);
        // `partners` names the server behind its verb, `registry` before it.
        let (verb, args) = if group == "partners" { args.split_at(1) } else { (&[][..], args) };
        command.arg(group).args(verb).args(["--server", &url]);
        self.estate.speak_as(&mut command, name);
        command.args(args);
        command
    }

    async fn channel(&self, name: Option<&str>) -> Channel {
        self.try_channel(name).await.unwrap()
    }

    async fn try_channel(&self, name: Option<&str>) -> Result<Channel, tonic::transport::Error> {
        let read = |path: std::path::PathBuf| fs::read(path).unwrap();
        let ca = Certificate::from_pem(read(self.estate.keys().join("dev-ca.pem")));
        let mut tls = ClientTlsConfig::new().ca_certificate(ca);
        if let Some(name) = name {
            let pem = |kind| read(self.estate.path(&format!("{name}.{kind}")));
            tls = tls.identity(Identity::from_pem(pem("pem"), pem("key")));
        }
        let url = format!("https://{}", self.serving().address);
        Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect().await
    }

    fn refused(&mut self, what: &str, code: Code, status: &Status) {
        assert_eq!(status.code(), code, "{what}: {}", status.message());
        self.see(&format!("the refusal of {what}"), status.message().as_bytes());
        self.see(&format!("the details of {what}"), status.details());
    }
}

/// A user is verified, claimed, found, and released.
fn registry(scene: &mut Scene, canaries: &mut Canaries) {
    let (number, user) = CLAIMED;
    let start = scene.partner("registry", "ap", &["start-verification", number]);
    scene.run("a verification", start, 0);
    let spooled = fs::read_dir(scene.estate.path("spool")).unwrap().next().unwrap().unwrap();
    let message = fs::read_to_string(spooled.path()).unwrap();
    let code: String =
        message.split_once("\n\n").unwrap().1.chars().take_while(char::is_ascii_digit).collect();
    canaries.bytes(code.as_bytes());
    let file = scene.estate.write("code", &code);
    let file = file.to_str().unwrap();
    let finish = ["finish-verification", number, "--code", file];
    let finish = scene.partner("registry", "ap", &finish);
    let output = scene.run("a code", finish, 0);
    let token: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let token = token["token"].as_str().or_else(|| token.as_str()).unwrap().to_owned();
    canaries.bytes(token.rsplit_once('.').unwrap().1.as_bytes());
    let path = scene.estate.write("claim-token", &token);
    let (keys, circle) = (scene.estate.keys().join("ap.key"), scene.estate.path("circle"));
    let claim = [
        "claim",
        number,
        "--provider",
        PROVIDER,
        "--ap-key",
        keys.to_str().unwrap(),
        "--user",
        user,
        "--claim-token",
        path.to_str().unwrap(),
        "--circle",
        circle.to_str().unwrap(),
    ];
    let command = scene.partner("registry", "ap", &claim);
    scene.run("a claim", command, 0);
    // It serves once, and not those whom nobody knows.
    for name in ["ap", "stranger", "later"] {
        let mut command = scene.partner("registry", name, &claim);
        let output = command.args(["--log", "trace"]).output().unwrap();
        assert!(!output.status.success());
        scene.see(&format!("the log of a claim that {name} was refused"), &output.stderr);
    }
    let list = scene.partner("registry", "ap", &["list"]);
    let output = scene.run("a list", list, 0);
    assert!(text(&output.stdout).contains(user), "{}", text(&output.stdout));
}

fn lookups(scene: &mut Scene) {
    let asked: Vec<&str> = LOADED.iter().map(|(sii, _)| *sii).chain([CLAIMED.0, ABSENT]).collect();
    let mut command = scene.estate.lookup_command(scene.serving());
    for (flag, file) in [("--cert", "ap.pem"), ("--key", "ap.key"), ("--circle", "circle")] {
        command.arg(flag).arg(scene.estate.path(file));
    }
    command.args(asked);
    let output = scene.run("lookups", command, 0);
    for user in LOADED.iter().map(|(_, user)| *user).chain([CLAIMED.1]) {
        assert!(text(&output.stdout).contains(user), "{}", text(&output.stdout));
    }
    // Without tokens nobody else is answered.
    let mut command = scene.estate.lookup_command(scene.serving());
    let output = command.args(["--log", "trace", ABSENT]).output().unwrap();
    assert!(!output.status.success());
    scene.see("the log of a lookup that was refused", &output.stderr);
}

fn partners(scene: &mut Scene) {
    for (what, args) in [
        ("add", &["add", "--uri", LATER, "--alias", "later", "--role", "peer"][..]),
        ("list", &["list"]),
        ("set", &["set", "--uri", LATER, "--alias", "after", "--role", "peer"]),
        ("remove", &["remove", "--uri", LATER]),
    ] {
        let command = scene.partner("partners", "admin", args);
        scene.run(&format!("partners {what}"), command, 0);
    }
    let add = scene.partner("partners", "ap", &["list"]);
    scene.run("an administration that is refused", add, 1);
}

/// What may be found is given up, one way after the other.
fn changes(scene: &mut Scene) {
    let ((number, _), (mail, _), (account, user)) = (LOADED[0], LOADED[1], LOADED[2]);
    for (what, name, args, code) in [
        ("a port", "ap", &["port", number, "--from", PROVIDER][..], 0),
        ("a port of another's", "ap", &["port", mail, "--from", "canary.example"], 1),
        ("a release", "ap", &["release", account, "--user", user], 0),
        ("a release of all by no authority", "ap", &["release", mail, "--all"], 1),
        ("a release of all", "authority", &["release", mail, "--all"], 0),
        ("a release beyond an authority", "authority", &["release", account, "--all"], 1),
    ] {
        let command = scene.partner("registry", name, args);
        scene.run(what, command, code);
    }
    let list = scene.partner("registry", "ap", &["list"]);
    let output = scene.run("another list", list, 0);
    let left = text(&output.stdout);
    assert!(left.contains(CLAIMED.1) && !left.contains("canary-user"), "{left}");
}

/// Tokens are issued, spent, replayed and forged.
async fn tokens(scene: &mut Scene, canaries: &mut Canaries) {
    let mut quota = QuotaServiceClient::new(scene.channel(Some("ap")).await);
    let mut discovery = DiscoveryServiceClient::new(scene.channel(None).await);
    let keyring = blindbook::keyring::Keyring::load(&scene.estate.keys()).unwrap();
    let answer = quota.get_token_keys(GetTokenKeysRequest {}).await.unwrap().into_inner();
    let signed = SignedBody::try_from(answer).unwrap();
    let keys = TokenKeys::verify(&signed, &keyring.identity().verifying_key()).unwrap();
    let (day, key): &(Day, _) = keys.keys.first().unwrap();
    let challenge = Challenge::of(keyring.directory().as_bytes(), *day);
    let blinded = key.blind(&challenge, &mut rand::rng()).unwrap();
    canaries.bytes(&blinded.message()[..12]);
    let request = IssueTokensRequest {
        day: day.number(),
        blinded_messages: blinded.message().to_vec().into(),
    };
    let signature = quota.issue_tokens(request).await.unwrap().into_inner().blind_signatures;
    canaries.bytes(&signature[..12]);
    let pass: Pass = blinded.finalize(signature[..].try_into().unwrap(), key).unwrap();
    // Its nonce, its signature: what is between is the same for all.
    canaries.bytes(&pass.expose()[2..14]);
    canaries.bytes(&pass.expose()[342..]);
    let evaluate = |name: &str, canaries: &mut Canaries| {
        let batch = BlindedBatch::blind(&[name, ABSENT], &mut rand::rng()).unwrap();
        let elements = batch.blinded_elements().to_vec();
        canaries.bytes(&elements[..12]);
        canaries.bytes(&elements[32..44]);
        let tokens = pass.expose().to_vec().into();
        EvaluateRequest { epoch: 1, blinded_elements: elements.into(), tokens }
    };
    let first = evaluate(CLAIMED.0, canaries);
    let paid = discovery.evaluate(first.clone()).await.unwrap().into_inner();
    canaries.bytes(&paid.evaluations[0].evaluated_elements[..12]);
    discovery.evaluate(first.clone()).await.unwrap();
    let second = evaluate(ABSENT, canaries);
    let spent = discovery.evaluate(second.clone()).await.unwrap_err();
    scene.refused("a token that was spent", Code::Unauthenticated, &spent);
    let mut forged = first.tokens.to_vec();
    forged[350] ^= 1;
    let forged = EvaluateRequest { tokens: forged.into(), ..first.clone() };
    let forged = discovery.evaluate(forged).await.unwrap_err();
    scene.refused("a forged token", Code::Unauthenticated, &forged);
    let none = EvaluateRequest { tokens: Vec::new().into(), ..second };
    let none = discovery.evaluate(none).await.unwrap_err();
    scene.refused("no token", Code::Unauthenticated, &none);
}

fn canaries() -> Canaries {
    let mut canaries = Canaries::default();
    for sii in LOADED.iter().map(|(sii, _)| *sii).chain([CLAIMED.0, ABSENT]) {
        canaries.sii(sii);
    }
    for text in [AP, LATER, ADMIN, AUTHORITY, PROVIDER, "4155557312", "4155558413", "canary"] {
        canaries.bytes(text.as_bytes());
    }
    for user in LOADED.iter().map(|(_, user)| *user).chain([CLAIMED.1]) {
        canaries.bytes(user.as_bytes());
    }
    canaries.bytes(&CIRCLE[..12]);
    canaries
}

#[test]
fn no_log_metric_error_or_stored_byte_holds_anybody() {
    let mut canaries = canaries();
    let mut scene = Scene::new();
    registry(&mut scene, &mut canaries);
    scene.probe();
    scene.crash();
    lookups(&mut scene);
    partners(&mut scene);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(tokens(&mut scene, &mut canaries));
    scene.probe();
    runtime.block_on(hostile::sidecar(&mut scene));
    runtime.block_on(hostile::malformed(&mut scene));
    runtime.block_on(hostile::strangers(&mut scene));
    runtime.block_on(hostile::too_much(&mut scene, &mut canaries));
    changes(&mut scene);
    scene.probe();
    let (code, log) = scene.serving.take().unwrap().stop();
    assert_eq!(code, Some(0));
    assert!(log.contains("\"level\":\"INFO\""), "the server must really log, as JSON: {log}");
    scene.see("the log of a server", log.as_bytes());
    scene.stored();
    let mut verify = blindbook();
    verify.arg("verify").arg("--data").arg(scene.estate.data());
    verify.arg("--keys").arg(scene.estate.keys());
    let output = scene.run("verify", verify, 0);
    scene.see("what verify prints", &output.stdout);

    // Each kind of place was really searched, and none is empty.
    for place in ["the log of a server", "/metrics", "the details of", "stored: "] {
        let of_kind =
            |(what, bytes): &&(String, Vec<u8>)| what.starts_with(place) && !bytes.is_empty();
        assert!(scene.seen.iter().any(|seen| of_kind(&seen)), "nothing of {place}");
    }
    let index = canaries.index();
    // Which providers there are is public, in the signed list of them; not who of
    // them asks for what.
    let public = |what: &str, canary: &str| what.contains("/data/meta/") && canary == PROVIDER;
    let told: Vec<String> = scene
        .seen
        .iter()
        .flat_map(|(what, bytes)| found(&index, bytes).into_iter().map(move |found| (what, found)))
        .filter(|(what, canary)| !public(what, canary))
        .map(|(what, canary)| format!("{what}: {canary}"))
        .collect();
    assert!(told.is_empty(), "{told:#?}");

    // A file in the data folder is read like any other.
    let planted = scene.estate.data().join("planted");
    fs::write(&planted, [&[0; 9], AP.as_bytes()].concat()).unwrap();
    let before = scene.seen.len();
    scene.stored();
    let planted = scene.seen[before..].iter().any(|(_, bytes)| !found(&index, bytes).is_empty());
    assert!(planted, "what was planted on the disk is not found");

    // The same search finds each of them in each kind of place.
    for place in ["the log of a server", "/metrics", "the details of", "stored: "] {
        let (_, bytes) = scene
            .seen
            .iter()
            .find(|(what, bytes)| what.starts_with(place) && !bytes.is_empty())
            .unwrap();
        for canary in index.values().flatten() {
            let (before, after) = bytes.split_at(bytes.len().min(2000) / 2);
            let planted = [before, canary, &after[..after.len().min(1000)]].concat();
            assert!(found(&index, &planted).contains(&text(canary)), "{place}: {}", text(canary));
        }
    }
}
