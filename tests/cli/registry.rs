//! `serve` with a live registry, from its configuration to a claim token.

use std::fs;

use blindbook::wire::proto::{
    FinishVerificationRequest, StartVerificationRequest,
    registry_service_client::RegistryServiceClient,
};
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use super::estate::{Estate, Serving, assert_code, blindbook, text};

fn config(estate: &Estate, more: &str) -> std::path::PathBuf {
    let text = format!(
        "{}client_ca = {:?}\n[registry]\ndevelopment = true\ncode_spool = {:?}\n{more}",
        estate.config(),
        estate.keys().join("dev-ca.pem"),
        estate.path("codes")
    );
    estate.write("blindbook.toml", &text)
}

const CALLER: &str = "[[caller]]\nuri = \"spiffe://localhost/partner\"\nalias = \"wa\"\nrole = \"ap\"\nprovider = \"wa.example\"\n";

#[test]
fn a_code_from_the_spool_ends_in_a_claim_token() {
    let estate = Estate::new();
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    let mut command = blindbook();
    command.args(["serve", "--config"]).arg(config(&estate, CALLER));
    let serving = Serving::start(command);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let token = runtime.block_on(async {
        let key = |name: &str| fs::read(estate.keys().join(name)).unwrap();
        let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(key("dev-ca.pem")));
        let known = Identity::from_pem(key("dev-partner.pem"), key("dev-partner.key"));
        let endpoint = Endpoint::from_shared(format!("https://{}", serving.address)).unwrap();
        let connect = async |tls| {
            let channel = endpoint.clone().tls_config(tls).unwrap().connect().await.unwrap();
            RegistryServiceClient::new(channel)
        };
        let mut anonymous = connect(trust.clone()).await;
        let mut client = connect(trust.identity(known)).await;
        let start = StartVerificationRequest { sii: "tel:+14155550100".into() };
        let refused = anonymous.start_verification(start.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        client.start_verification(start).await.unwrap();
        let spooled = fs::read_dir(estate.path("codes")).unwrap().next().unwrap().unwrap();
        let message = fs::read_to_string(spooled.path()).unwrap();
        let (_, body) = message.split_once("\n\n").unwrap();
        let code = body.chars().take_while(char::is_ascii_digit).collect();
        let finish = FinishVerificationRequest { sii: "tel:+14155550100".into(), code };
        client.finish_verification(finish).await.unwrap().into_inner().token
    });
    assert_eq!(token.split('.').count(), 3);
    // What others verify it with was made beside the seed.
    let jwk = fs::read_to_string(estate.keys().join("token.jwk")).unwrap();
    blindbook::registry::proof::TokenKey::from_jwk(jwk.trim()).unwrap();
    let (code, log) = serving.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("can claim anybody"), "{log}");
}

#[test]
fn an_older_folder_of_keys_is_told_what_it_lacks_and_gets_it() {
    let estate = Estate::new();
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    for name in ["token.seed", "code.key", "token.jwk"] {
        fs::remove_file(estate.keys().join(name)).unwrap();
    }
    let path = config(&estate, CALLER);
    let output = blindbook().args(["serve", "--config"]).arg(&path).output().unwrap();
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("--add-registry-keys"), "{}", text(&output.stderr));
    let add = || {
        let mut command = blindbook();
        command.args(["keygen", "--add-registry-keys", "--out"]).arg(estate.keys());
        command.output().unwrap()
    };
    assert_code(&add(), 0);
    assert_code(&add(), 2);
    let mut command = blindbook();
    command.args(["serve", "--config"]).arg(&path);
    assert_eq!(Serving::start(command).stop().0, Some(0));
}

#[test]
fn files_that_the_registry_names_are_read_before_a_port_is_bound() {
    let estate = Estate::new();
    let bad = estate.write("bad.txt", "neither PEM nor JSON");
    let id = "0".repeat(32);
    for more in [
        format!("passport_roots = {bad:?}\n"),
        format!("[[registry.token_issuer]]\ndirectory = {id:?}\njwk = {bad:?}\n"),
        format!(
            "[[registry.identity_issuer]]\nurl = \"https://id.example\"\njwks = {bad:?}\n\
             domains = [\"mail.example\"]\nclients = {{}}\n"
        ),
    ] {
        let path = config(&estate, &more);
        let output = blindbook().args(["serve", "--config"]).arg(path).output().unwrap();
        assert_code(&output, 2);
        assert!(text(&output.stderr).contains("bad.txt"), "{}", text(&output.stderr));
    }
    let webhook = config(&estate, "").with_file_name("webhook.toml");
    let text_of = fs::read_to_string(estate.path("blindbook.toml")).unwrap();
    let (head, _) = text_of.split_once("code_spool").unwrap();
    let url = "code_webhook = \"https://sms.example/\"\ncode_webhook_token = \"absent.token\"\n";
    fs::write(&webhook, [head, url].concat()).unwrap();
    let output = blindbook().args(["serve", "--config"]).arg(webhook).output().unwrap();
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("absent.token"), "{}", text(&output.stderr));
}
