//! An answer that is lost on the way costs nothing: the client sends the same
//! bytes again, and they are answered again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use blindbook::{
    client::{Client, ClientOptions, MemoryState, tokens::TokenSupply},
    server::{Server, ServerOptions, Transcript},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    client::{Backend, roomy},
    common::Running,
    scene::sii,
};

const EVALUATE: &str = "/blindbook.v1.DiscoveryService/Evaluate";
const FETCH: &str = "/blindbook.v1.DiscoveryService/FetchBuckets";

/// Hands bytes on; once told, it loses what the server answers on the
/// connections that there are, until the evaluation was answered and the fetch
/// had come, and then breaks them.
async fn lossy(
    listener: TcpListener,
    server: std::net::SocketAddr,
    losing: Arc<AtomicBool>,
    transcript: Arc<Transcript>,
) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        let (losing, transcript) = (losing.clone(), transcript.clone());
        tokio::spawn(async move {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            });
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                if losing.load(Ordering::SeqCst) {
                    // A fetch that had not gone out yet would go over the next connection
                    // and be answered: half a lookup is not asked again.
                    let calls = transcript.calls();
                    let answered =
                        calls.iter().any(|call| call.path == EVALUATE && call.status == 0);
                    if answered && calls.iter().any(|call| call.path == FETCH) {
                        losing.store(false, Ordering::SeqCst);
                        break;
                    }
                } else if to_client.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
            up.abort();
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_had_again_for_the_same_tokens() {
    let scene = roomy().await;
    let issuing = scene.serve().await;
    let backend = Backend::of(&issuing).await;
    // The day's key is made: another server of the same directory has it too.
    backend.asker.lock().await.keys(&scene).await;
    let transcript = Arc::new(Transcript::new());
    let options = ServerOptions { quotas: scene.quotas.clone(), ..ServerOptions::default() };
    let directory = &scene.directory;
    let (generations, keyring) = (directory.generations.clone(), directory.keyring.clone());
    let server = Server::open(generations, keyring, options, scene.clock()).await.unwrap();
    let running = Running::start(server.record(transcript.clone())).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let losing = Arc::new(AtomicBool::new(false));
    let proxy = tokio::spawn(lossy(listener, running.address, losing.clone(), transcript.clone()));

    let identity = directory.keyring.identity().verifying_key();
    let mut options = ClientOptions::new(format!("http://{address}"), identity);
    options.clock = scene.clock();
    options.connections = 1;
    options.tokens = Some(TokenSupply::new(backend.clone()));
    let user = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
    user.stock_tokens(1).await.unwrap();
    losing.store(true, Ordering::SeqCst);
    user.lookup(&sii("tel:+14155550123")).await.unwrap();
    assert!(!losing.load(Ordering::SeqCst), "nothing was lost");
    assert_eq!(backend.issued(), 32);

    let calls = transcript.calls();
    let evaluations: Vec<_> = calls.iter().filter(|call| call.path == EVALUATE).collect();
    assert_eq!(evaluations.len(), 2);
    assert_eq!(evaluations[0].request, evaluations[1].request);
    assert_eq!(evaluations[0].request.len(), 5 + 68 + 357);
    assert!(evaluations.iter().all(|call| call.status == 0));
    drop(user);
    proxy.abort();
    running.stop().await;
    issuing.stop().await;
}
