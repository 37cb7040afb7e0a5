//! `blindbook demo`: a directory, a server, hits and misses, and side by side
//! what the client learned and what the server saw.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, anyhow, ensure};
use blindbook::{
    bucket::Placement,
    client::{Answer, Client, ClientOptions, MemoryState},
    identifier::{Provider, Sii},
    keyring::{self, Keyring},
    registry::{self, Input, LoadOptions, Progress},
    server::{self, Call, Clock, Server, ServerOptions, Transcript},
    store::{SledGenerations, SledOptions},
    wire::{ELEMENT_BYTES, Evaluate, Fetch},
};
use tokio::{net::TcpListener, sync::oneshot};

use super::{Outcome, dev_tls::DevTls, input, load::watch, logs, now_s, progress, runtime, sample};

const PROVIDER: &str = "chat.example";

/// Width of the client's column.
const COLUMN: usize = 46;

/// Show the whole of it: a directory, a server, lookups, and what each side
/// learns
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// How many people the directory holds
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    records: usize,
}

impl Demo {
    pub(crate) fn run(&self, log: Option<&str>) -> Outcome {
        logs(log, "warn")?;
        if self.records < 10 {
            return Err(input(anyhow!("--records must be at least 10")));
        }
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        runtime()?.block_on(demo(folder.path(), self.records))?;
        Ok(())
    }
}

async fn demo(folder: &Path, records: usize) -> anyhow::Result<()> {
    let keys = folder.join("keys");
    keyring::generate(&keys, &mut rand::rng())?;
    let keyring = Arc::new(Keyring::load(&keys)?);
    say(&format!("Directory {}, made in a temporary folder", keyring.directory()))?;

    let file = folder.join("people.csv");
    let bar = progress::bar("making up people", records as u64);
    sample::write_csv(&file, records, |done| bar.set_position(done))?;
    bar.finish();

    let generations =
        Arc::new(SledGenerations::open(&folder.join("data"), SledOptions::default()).await?);
    let options = LoadOptions::new(
        Provider::parse(PROVIDER)?,
        keyring::provider_key(&keys.join(keyring::files::PROVIDER))?,
        folder.join("spill"),
        now_s(),
    );
    let counters = Arc::new(Progress::default());
    let load = registry::load(
        generations.clone(),
        keyring.clone(),
        options,
        vec![Input::file(&file)],
        counters.clone(),
    );
    let report = watch(load, &counters).await?;
    ensure!(report.bad.total == 0, "{} made-up people were refused", report.bad.total);

    let tls = DevTls::generate().context("cannot make certificates")?;
    let transcript = Arc::new(Transcript::new());
    let options = ServerOptions {
        tls: Some(server::tls_config(tls.cert.as_bytes(), tls.key.as_bytes())?),
        ..ServerOptions::default()
    };
    let identity = keyring.identity().verifying_key();
    let server = Server::open(generations, keyring, options, Clock::system())
        .await?
        .record(transcript.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(listener, async {
        // Both a word and a dropped sender stop the server.
        let _ = stopped.await;
    }));

    let mut options = ClientOptions::new(&url, identity);
    options.ca_pem = Some(tls.ca.into_bytes());
    // Each question is shown on the wire, whatever was asked before.
    options.cached_answers = 0;
    let client = Client::connect(options, Arc::new(MemoryState::new())).await?;
    let outcome = show(&client, &transcript, records).await;
    drop(client);
    drop(stop);
    serving.await.context("the server ended early")??;
    outcome
}

/// One person to look up, and what must come back.
struct Question {
    sii: Sii,
    expected: Option<String>,
}

/// People spread over the directory, each followed by one who is not in it.
fn questions(records: usize) -> anyhow::Result<Vec<Question>> {
    let present = [0, 1, 2, records / 2, records - 1];
    let absent = records..records + 3;
    let mut hits = Vec::new();
    let mut misses = Vec::new();
    for (n, person) in sample::people().take(absent.end).enumerate() {
        let sii = || Sii::parse(&person.sii, None);
        if present.contains(&n) {
            let expected = Some(format!("{}@{PROVIDER}", person.user));
            hits.push(Question { sii: sii()?, expected });
        } else if absent.contains(&n) {
            misses.push(Question { sii: sii()?, expected: None });
        }
    }
    let mut misses = misses.into_iter();
    Ok(hits.into_iter().flat_map(|hit| [Some(hit), misses.next()]).flatten().collect())
}

async fn show(client: &Client, transcript: &Transcript, records: usize) -> anyhow::Result<()> {
    say("")?;
    row("WHAT THE CLIENT LEARNED", "WHAT THE SERVER SAW (decoded from the bytes that arrived)")?;
    let mut seen = 0;
    let begin = since(transcript, &mut seen);
    print_side_by_side(&["connects".into()], &begin)?;
    let mut shapes = Vec::new();
    let questions = questions(records)?;
    let mut wrong = 0;
    for question in &questions {
        let answer = client.lookup(&question.sii).await?;
        let calls = since(transcript, &mut seen);
        let learned = learned(&answer);
        let expected = question.expected.as_deref();
        let found: Vec<_> = answer.mappings.iter().map(ssi).collect();
        if found.iter().map(String::as_str).ne(expected) || answer.damaged > 0 {
            wrong += 1;
        }
        wrong += leaks(&question.sii, &found, &calls);
        print_side_by_side(&learned, &calls)?;
        shapes.push(shape(&calls));
    }
    let alike = shapes.windows(2).all(|pair| matches!(pair, [one, next] if one == next));
    let contacts: Vec<_> = questions.iter().map(|question| question.sii.clone()).collect();
    let answers = client.lookup_many(&contacts).await?;
    let calls = since(transcript, &mut seen);
    let mut learned = vec![format!("{} contacts at once", contacts.len())];
    for (question, answer) in questions.iter().zip(answers) {
        let found: Vec<_> = answer?.mappings.iter().map(ssi).collect();
        wrong += usize::from(found.iter().map(String::as_str).ne(question.expected.as_deref()));
        wrong += leaks(&question.sii, &found, &calls);
        learned.push(format!("  {}", found.first().map_or("not in this directory", |ssi| ssi)));
    }
    print_side_by_side(&learned, &calls)?;

    ensure!(wrong == 0, "{wrong} answers were wrong or leaked");
    ensure!(alike, "hits and misses differed in calls, order or sizes");
    say(&format!(
        "{} lookups answered right; hits and misses alike in calls and sizes; no identifier, user \
         or placement in anything that arrived.",
        questions.len()
    ))
}

/// The calls since the last look, in an order that does not depend on which of
/// two concurrent ones arrived first.
fn since(transcript: &Transcript, seen: &mut usize) -> Vec<Call> {
    let mut calls = transcript.calls().split_off(*seen);
    *seen += calls.len();
    calls.sort_by(|one, other| one.path.cmp(&other.path));
    calls
}

fn learned(answer: &Answer) -> Vec<String> {
    let mut lines = vec![answer.sii.as_str().to_owned()];
    lines.extend(answer.mappings.iter().map(|found| format!("  is {}", ssi(found))));
    if answer.mappings.is_empty() {
        lines.push("  is not in this directory".into());
    }
    lines
}

fn ssi(found: &blindbook::client::Found) -> String {
    format!("{}@{}", found.ssi.user().as_str(), found.ssi.provider().as_str())
}

/// What hits and misses must share: the calls, and the sizes of what was sent
/// and received.
fn shape(calls: &[Call]) -> Vec<(String, usize, Vec<usize>)> {
    let shape =
        |call: &Call| (call.path.clone(), call.request.len(), call.response_messages.clone());
    calls.iter().map(shape).collect()
}

/// How many of the things that must not arrive did.
fn leaks(sii: &Sii, found: &[String], calls: &[Call]) -> usize {
    let placement = Placement::of(sii);
    let (_, name) = sii.as_str().split_once(':').unwrap_or_default();
    let users = found.iter().filter_map(|ssi| ssi.split('@').next());
    let secrets: Vec<&[u8]> =
        [name.as_bytes(), placement.expose(), placement.expose().get(4..12).unwrap_or_default()]
            .into_iter()
            .chain(users.map(str::as_bytes))
            .collect();
    let holds = |bytes: &[u8]| {
        secrets.iter().any(|secret| bytes.windows(secret.len()).any(|part| part == *secret))
    };
    calls
        .iter()
        .filter(|call| {
            holds(&call.request)
                || holds(call.path.as_bytes())
                || call
                    .request_headers
                    .iter()
                    .any(|(name, value)| holds(name.as_bytes()) || holds(value.as_bytes()))
        })
        .count()
}

fn print_side_by_side(learned: &[String], calls: &[Call]) -> anyhow::Result<()> {
    let saw = calls.iter().map(describe).collect::<anyhow::Result<Vec<_>>>()?.concat();
    for n in 0..learned.len().max(saw.len()) {
        let at = |lines: &[String]| lines.get(n).cloned().unwrap_or_default();
        row(&at(learned), &at(&saw))?;
    }
    row("", "")
}

/// Everything that one call told the server.
fn describe(call: &Call) -> anyhow::Result<Vec<String>> {
    // A gRPC frame: a flag, a length of four bytes, the message.
    let message = call.request.get(5..).unwrap_or_default();
    let sizes: usize = call.response_messages.iter().sum();
    let answered = format!(
        "    {} bytes in; {} message(s), {sizes} bytes out",
        call.request.len(),
        call.response_messages.len()
    );
    let method = call.path.rsplit('/').next().unwrap_or_default();
    let mut lines = match method {
        "Evaluate" => {
            let request = Evaluate::decode(message)?;
            let (elements, _) = request.blinded_elements.as_chunks::<ELEMENT_BYTES>();
            let mut lines =
                vec![format!("Evaluate: epoch {}, {} elements", request.epoch, elements.len())];
            lines.extend(elements.iter().take(2).map(|element| format!("    {}", hex(element))));
            if elements.len() > 2 {
                lines.push(format!("    and {} more", elements.len() - 2));
            }
            lines
        }
        "FetchBuckets" => {
            let request = Fetch::decode(message)?;
            let shown = request.prefixes.iter().take(8);
            let prefixes: Vec<_> = shown.map(|prefix| format!("{:#x}", prefix.get())).collect();
            let more = if request.prefixes.len() > 8 { ", ..." } else { "" };
            vec![format!(
                "FetchBuckets: epoch {}, {} of {} bits: {}{more}",
                request.epoch,
                request.prefixes.len(),
                request.prefix_bits.get(),
                prefixes.join(", ")
            )]
        }
        other => vec![format!("{other}: an empty request")],
    };
    lines.push(answered);
    Ok(lines)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(nibble.into(), 16));
        }
        text
    })
}

fn row(client: &str, server: &str) -> anyhow::Result<()> {
    say(&format!("{client:COLUMN$} | {server}"))
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{}", line.trim_end())?)
}
