//! `blindbook sidecar`, run as an operator runs it.

use std::path::{Path, PathBuf};

use blindbook::wire::proto::{
    ResolveManyRequest, ResolveRequest, sidecar_service_client::SidecarServiceClient,
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::estate::{Estate, Serving, assert_code, blindbook, text};

/// A configuration in front of a server.
fn config(estate: &Estate, address: &str, top: &str) -> PathBuf {
    let text = format!(
        "region = \"US\"\n{top}\n[[directory]]\nname = \"wa\"\naddress = \"https://{address}\"\n\
         identity = {:?}\nca = {:?}\nstate = {:?}\n",
        estate.keys().join("identity.pub"),
        estate.keys().join("dev-ca.pem"),
        estate.path("sidecar-state"),
    );
    estate.write("sidecar.toml", &text)
}

fn start(config: &Path) -> Serving {
    let mut command = blindbook();
    command.args(["sidecar", "--log", "trace", "--config"]).arg(config);
    Serving::start(command)
}

/// Waits until it knows its directories.
pub(crate) async fn ready(channel: &Channel) {
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
}

/// Asks something of a sidecar that is ready.
fn ask<F: Future>(place: &str, ask: impl FnOnce(Channel) -> F) -> F::Output {
    let uri = if place.starts_with("unix:") { place.into() } else { format!("http://{place}") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = Endpoint::from_shared(uri).unwrap().connect().await.unwrap();
        ready(&channel).await;
        ask(channel).await
    })
}

/// The users behind an identifier.
async fn users(channel: Channel, sii: &str) -> Vec<String> {
    let request = ResolveRequest { sii: sii.into(), ..ResolveRequest::default() };
    let answer = SidecarServiceClient::new(channel).resolve(request).await.unwrap();
    answer.into_inner().mappings.into_iter().map(|found| found.user).collect()
}

#[test]
fn a_sidecar_resolves_until_it_is_asked_to_terminate() {
    let estate = Estate::new();
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    let server = estate.serve();
    let socket = estate.path("sidecar.sock");
    let listen = format!("listen = \"unix:{}\"\nsocket_mode = \"0600\"", socket.display());
    for listen in [&*listen, "listen = \"127.0.0.1:0\""] {
        let sidecar = start(&config(&estate, &server.address, listen));
        let found = ask(&sidecar.address, |channel| users(channel, "(415) 555-0100"));
        assert_eq!(found, ["alice"]);
        let (code, log) = sidecar.stop();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("the directory is known") && log.contains("stopped"), "{log}");
        assert!(!socket.exists());
    }
}

#[test]
fn settings_are_refused_before_anything_is_opened() {
    let estate = Estate::new();
    let run = |top: &str, more: &str| {
        let path = config(&estate, "127.0.0.1:1", top);
        let text = std::fs::read_to_string(&path).unwrap() + more;
        std::fs::write(&path, text).unwrap();
        blindbook().args(["sidecar", "--config"]).arg(path).output().unwrap()
    };
    for (top, more, says) in [
        ("listen = \"0.0.0.0:4480\"", "", "no loopback address"),
        ("listen = \"127.0.0.1:0\"\nlissten = 1", "", "lissten"),
        ("listen = \"127.0.0.1:0\"", "serves = [\"sip:\"]\n", "serves"),
        ("listen = \"127.0.0.1:0\"", "provider_keys = { \"a.example\" = \"absent\" }\n", "absent"),
        ("", "", "listen"),
    ] {
        let output = run(top, more);
        assert_code(&output, 2);
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
        assert!(!estate.path("sidecar-state").exists());
    }
    let output = blindbook().args(["sidecar", "--config", "/absent.toml"]).output().unwrap();
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("/absent.toml"));
}

#[test]
fn a_second_sidecar_on_one_state_is_refused_and_harms_neither() {
    let estate = Estate::new();
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    let server = estate.serve();
    let config = config(&estate, &server.address, "listen = \"127.0.0.1:0\"");
    let first = start(&config);
    let output = blindbook().args(["sidecar", "--config"]).arg(&config).output().unwrap();
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("in use by another client"));
    assert_eq!(ask(&first.address, |channel| users(channel, "+14155550100")), ["alice"]);
}

/// Forms in which who was asked for, or found, could come into a log.
const CANARIES: [&str; 6] =
    ["canary", "4155557312", "555-7312", "tel:", "mailto:", "identifier is"];

#[test]
fn no_level_logs_whom_somebody_looks_up_nor_what_was_wrong_with_it() {
    let estate = Estate::new();
    let people = "sii,user\n+14155557312,canary-number\ncanary@example.com,canary-mail\n";
    assert_code(&estate.load(people), 0);
    let server = estate.serve();
    let sidecar = start(&config(&estate, &server.address, "listen = \"127.0.0.1:0\""));
    ask(&sidecar.address, |channel| async move {
        assert_eq!(users(channel.clone(), "(415) 555-7312").await, ["canary-number"]);
        assert_eq!(users(channel.clone(), "canary@example.com").await, ["canary-mail"]);
        assert!(users(channel.clone(), "canary.who.is.absent@example.com").await.is_empty());
        let mut client = SidecarServiceClient::new(channel);
        for (sii, directory) in [("canary@", ""), ("+1415555731299", ""), ("a@b.example", "canary")]
        {
            let request = ResolveRequest {
                sii: sii.into(),
                directory: directory.into(),
                ..ResolveRequest::default()
            };
            client.resolve(request).await.unwrap_err();
        }
        let siis = ["canary@example.com", "canary@", "acct:canary@host.example"];
        let siis = siis.map(String::from).into();
        let request = ResolveManyRequest { siis, ..ResolveManyRequest::default() };
        assert_eq!(client.resolve_many(request).await.unwrap().into_inner().results.len(), 3);
    });
    // What fails is logged no better.
    let (code, server_log) = server.stop();
    assert_eq!(code, Some(0));
    ask(&sidecar.address, |channel| async move {
        let mut client = SidecarServiceClient::new(channel);
        let sii = "canary.second@example.com".to_owned();
        let request = ResolveRequest { sii, refresh: true, ..ResolveRequest::default() };
        client.resolve(request).await.unwrap_err();
    });
    let (code, log) = sidecar.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("serving"), "the sidecar must really log");
    for canary in CANARIES {
        for log in [&log, &server_log] {
            assert!(!log.contains(canary), "a log holds {canary}: {log}");
        }
    }
}
