//! Files of TLS that change while a server runs.

use std::{fs, path::Path, sync::Arc, time::Duration};

use blindbook::{
    server::{Lists, Reload, ServerOptions, TlsFiles, TlsPem},
    wire::proto::{self, discovery_service_client::DiscoveryServiceClient},
};
use tokio::{net::TcpStream, sync::Notify, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
        version::TLS13,
    },
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::scene::Scene;

/// Long enough for a slow machine; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn files(folder: &Path) -> TlsFiles {
    let path = |name: &str| folder.join(name);
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let (client_ca, client_crl) = (Some(path("ca.pem")), Some(path("crl.pem")));
    TlsFiles { cert, key, client_ca, client_crl }
}

fn write(files: &TlsFiles, pem: &TlsPem) {
    fs::write(&files.cert, &pem.cert).unwrap();
    fs::write(&files.key, pem.key.as_slice()).unwrap();
    fs::write(files.client_ca.as_ref().unwrap(), pem.client_ca.as_ref().unwrap()).unwrap();
    fs::write(files.client_crl.as_ref().unwrap(), pem.client_crl.as_ref().unwrap()).unwrap();
}

fn der(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

/// The certificate that a new handshake is shown.
async fn shown(scene: &Scene, port: u16) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(der(scene.authority.pem.as_bytes())).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_serve_new_handshakes_and_open_connections_go_on() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let list = |serial| Some(scene.authority.revokes(&[serial], 2030));
    let first = scene.pem(list(1));
    let files = files(folder.path());
    write(&files, &first);
    let (tls, keeper) = files.clone().open(scene.clock()).unwrap();
    let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
    let running = scene.directory.serve(options).await;
    let port = running.address.port();
    assert_eq!(shown(&scene, port).await, der(&first.cert));
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&scene.authority.pem));
    let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).unwrap();
    let channel = endpoint.tls_config(trust).unwrap().connect().await.unwrap();
    let mut open = DiscoveryServiceClient::new(channel);
    open.get_parameters(proto::GetParametersRequest {}).await.unwrap();

    // Of itself, within its period.
    let keeping =
        tokio::spawn(async move { keeper.keep(Duration::from_millis(20), &Notify::new()).await });
    let second = scene.pem(list(1));
    write(&files, &second);
    let changed = async {
        while shown(&scene, port).await != der(&second.cert) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, changed).await.expect("the new certificate is shown");
    keeping.abort();
    open.get_parameters(proto::GetParametersRequest {}).await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_need_not_wait_for_the_period() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let list = || Some(scene.authority.revokes(&[], 2030));
    let files = files(folder.path());
    write(&files, &scene.pem(list()));
    let (tls, keeper) = files.clone().open(scene.clock()).unwrap();
    let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
    let running = scene.directory.serve(options).await;
    let port = running.address.port();
    let asked = Arc::new(Notify::new());
    let notified = asked.clone();
    let day = Duration::from_secs(86_400);
    let keeping = tokio::spawn(async move { keeper.keep(day, &notified).await });
    let new = scene.pem(list());
    write(&files, &new);
    asked.notify_one();
    let changed = async {
        while shown(&scene, port).await != der(&new.cert) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, changed).await.expect("the new certificate is shown");
    keeping.abort();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_says_what_it_found_once_and_a_broken_file_changes_nothing() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let list = || Some(scene.authority.revokes(&[], 2030));
    let files = files(folder.path());
    let first = scene.pem(list());
    write(&files, &first);
    let (tls, mut keeper) = files.clone().open(scene.clock()).unwrap();
    let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
    let running = scene.directory.serve(options).await;
    let port = running.address.port();
    assert_eq!(keeper.look(), Reload::Unchanged);

    let broken: [&dyn Fn(); 4] = [
        &|| fs::write(&files.key, "-----BEGIN PRIVATE KEY-----\n").unwrap(),
        &|| fs::write(&files.cert, scene.authority.server().0).unwrap(),
        &|| fs::remove_file(files.client_crl.as_ref().unwrap()).unwrap(),
        &|| fs::write(files.client_ca.as_ref().unwrap(), "").unwrap(),
    ];
    for break_it in broken {
        break_it();
        assert_eq!(keeper.look(), Reload::Refused);
        assert_eq!(keeper.look(), Reload::Unchanged);
        assert_eq!(shown(&scene, port).await, der(&first.cert));
        write(&files, &first);
        assert_eq!(keeper.look(), Reload::Done);
        assert_eq!(keeper.look(), Reload::Unchanged);
    }
    let (new, newer) = (scene.pem(list()), scene.pem(list()));
    for pem in [new, newer] {
        write(&files, &pem);
        assert_eq!(keeper.look(), Reload::Done);
        assert_eq!(shown(&scene, port).await, der(&pem.cert));
    }
    running.stop().await;
}

#[tokio::test]
async fn lists_that_end_are_told_before_and_after() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    write(&files, &scene.pem(Some(scene.authority.revokes(&[], 2028))));
    let (tls, mut keeper) = files.clone().open(scene.clock()).unwrap();
    // 2028 begins 1,830,297,600 s after 1970.
    for (now_s, lists) in [
        (1_830_297_600 - 86_400, Lists::InDate),
        (1_830_297_600 - 86_399, Lists::EndSoon),
        (1_830_297_599, Lists::EndSoon),
        (1_830_297_600, Lists::Ended),
    ] {
        scene.set_time(now_s);
        assert_eq!(tls.lists(), lists);
        assert_eq!(keeper.look(), Reload::Unchanged);
    }
    write(&files, &scene.pem(Some(scene.authority.revokes(&[], 2029))));
    assert_eq!(keeper.look(), Reload::Done);
    assert_eq!(tls.lists(), Lists::InDate);
    fs::write(files.client_crl.as_ref().unwrap(), "").unwrap();
    assert_eq!(keeper.look(), Reload::Refused);
    assert_eq!(tls.lists(), Lists::InDate);
}

#[tokio::test]
async fn files_that_do_not_serve_are_named_at_the_start() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let told = || files.clone().open(scene.clock()).unwrap_err().to_string();
    assert!(told().contains("cert.pem"), "{}", told());
    write(&files, &scene.pem(Some(String::new())));
    assert!(told().contains("crl.pem"), "{}", told());
    write(&files, &scene.pem(Some(scene.authority.revokes(&[], 2030))));
    fs::write(&files.key, "no key").unwrap();
    assert!(told().contains("key.pem") && !told().contains("no key"), "{}", told());
}
