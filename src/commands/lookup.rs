//! `blindbook lookup`: who is behind an identifier, and at which service.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use blindbook::{
    bucket::Circle,
    client::{
        Answer, Client, ClientCertificate, ClientError, ClientOptions, FolderState, MemoryState,
        Mode, State, Unverified,
        registry::{Registry, RegistryOptions},
        tokens::TokenSupply,
    },
    identifier::{Provider, Region, Sii},
    keyring,
};
use clap::ValueEnum;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{Failure, Outcome, input, logs, registry::circle, runtime};

#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    /// Hash-prefix buckets: the provider learns a prefix
    Bucket,
    /// Private information retrieval: it does not even learn that
    Pir,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Bucket => Self::Bucket,
            ModeName::Pir => Self::Pir,
        }
    }
}

/// Look up identifiers
#[derive(clap::Args)]
pub(crate) struct Lookup {
    /// The discovery provider, as `https://dp.example:4433`
    #[arg(long, value_name = "URL")]
    server: String,
    /// Its public identity key, identity.pub
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// CA certificates, PEM, instead of the public ones
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A partner's certificate chain, PEM: its account pays, and it says who asks
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// An application provider's certificate chain, PEM, that has anonymous tokens
    /// signed: they pay, and what is asked does not say who asks
    #[arg(long, value_name = "FILE", requires = "tokens_key", conflicts_with = "cert")]
    tokens_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tokens_cert")]
    tokens_key: Option<PathBuf>,
    /// Region of numbers without `+`, as US
    #[arg(long, value_name = "CODE")]
    region: Option<Region>,
    /// Where pinned keys, versions, decoys and answers are kept
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// A provider's key, as `wa.example=ap.pub`, instead of the first one seen
    #[arg(long = "provider-key", value_name = "P=FILE")]
    provider_keys: Vec<String>,
    /// A file with the secret of the circle whose mappings are found too, 64
    /// hexadecimal digits
    #[arg(long, value_name = "FILE")]
    circle: Option<PathBuf>,
    /// Ask the provider even if the state holds an answer
    #[arg(long)]
    refresh: bool,
    /// How the question is hidden; one alone by pir where the provider offers it,
    /// several in buckets, unless told otherwise
    #[arg(long, value_enum)]
    mode: Option<ModeName>,
    /// One line of JSON per identifier
    #[arg(long)]
    json: bool,
    /// Phone numbers, mail addresses, `acct:` identifiers
    #[arg(required = true, value_name = "SII")]
    siis: Vec<String>,
}

impl Lookup {
    pub(crate) fn run(self, log: Option<&str>) -> Outcome {
        logs(log, "warn")?;
        let siis = self
            .siis
            .iter()
            .enumerate()
            .map(|(n, text)| {
                Sii::parse(text, self.region)
                    .with_context(|| format!("identifier {} is refused", n + 1))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(input)?;
        let mut options = self.options().map_err(input)?;
        let issuing = self.issuing().map_err(input)?;
        let state: Arc<dyn State> = if let Some(folder) = &self.state {
            Arc::new(FolderState::open(folder)?)
        } else {
            writeln!(
                io::stderr(),
                "warning: without --state keys are not pinned and an old directory is not noticed"
            )?;
            Arc::new(MemoryState::new())
        };
        let answers: Result<_, Failure> = runtime()?.block_on(async {
            // Within the runtime, whose tasks the connection lives on.
            if let Some(issuing) = issuing {
                options.tokens = Some(TokenSupply::new(Registry::open(&issuing).map_err(input)?));
            }
            let client = Client::connect(options, state).await?;
            match siis.as_slice() {
                // One that is refused is told as that one's error.
                [sii] => {
                    let one = if self.refresh {
                        client.refresh(sii).await
                    } else {
                        client.lookup(sii).await
                    };
                    match one {
                        Err(error) if !error.concerns_one() => Err(error.into()),
                        one => Ok(vec![one]),
                    }
                }
                siis if self.refresh => Ok(client.refresh_many(siis).await?),
                siis => Ok(client.lookup_many(siis).await?),
            }
        });
        self.print(&siis, answers?)
    }

    fn options(&self) -> anyhow::Result<ClientOptions> {
        let identity = keyring::identity_public_key(&self.identity)?;
        let mut options = ClientOptions::new(&self.server, identity);
        options.mode = self.mode.map(Mode::from);
        options.ca_pem = self.ca.as_ref().map(read).transpose()?;
        if let Some(path) = &self.circle {
            options.circle = Some(Circle::new(circle(path)?));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let (chain_pem, key_pem) = (read(cert)?, Zeroizing::new(read(key)?));
            options.certificate = Some(ClientCertificate { chain_pem, key_pem });
        }
        for pair in &self.provider_keys {
            let (name, path) = pair
                .split_once('=')
                .ok_or_else(|| anyhow!("--provider-key takes NAME=FILE, as wa.example=ap.pub"))?;
            let name = Provider::parse(name)?;
            let key = keyring::provider_public_key(path.as_ref())?;
            options.provider_keys.push((name, key));
        }
        Ok(options)
    }

    /// As whom to have tokens signed, over connections of its own.
    fn issuing(&self) -> anyhow::Result<Option<RegistryOptions>> {
        let (Some(cert), Some(key)) = (&self.tokens_cert, &self.tokens_key) else {
            return Ok(None);
        };
        let mut options = RegistryOptions::new(&self.server);
        options.ca_pem = self.ca.as_ref().map(read).transpose()?;
        options.certificate = Some((read(cert)?, Zeroizing::new(read(key)?)));
        Ok(Some(options))
    }

    fn print(&self, siis: &[Sii], answers: Vec<Result<Arc<Answer>, ClientError>>) -> Outcome {
        let mut out = io::stdout().lock();
        let mut refused = None;
        for (n, (sii, answer)) in siis.iter().zip(answers).enumerate() {
            match answer {
                Ok(answer) if self.json => writeln!(out, "{}", to_json(&answer)?)?,
                Ok(answer) => write_text(&mut out, &answer)?,
                Err(error) => {
                    // The terminal is the asker's own: it may see what it asked.
                    writeln!(io::stderr(), "error: {}: {error}", sii.as_str())?;
                    refused.get_or_insert(n + 1);
                }
            }
        }
        out.flush()?;
        match refused {
            None => Ok(()),
            Some(n) => Err(Failure::Failed(anyhow!(
                "the answer to identifier {n} was refused; do not trust this directory before its \
                 operator explains it"
            ))),
        }
    }
}

fn read(path: &PathBuf) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// One line of `--json`, keys in this order.
#[derive(Serialize)]
struct Line<'a> {
    sii: &'a str,
    mappings: Vec<MappingLine<'a>>,
    /// Providers of mappings that are not to be believed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unverified: Vec<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    damaged: usize,
    /// The answer was kept, and may be out of date.
    #[serde(skip_serializing_if = "is_false")]
    stale: bool,
}

#[derive(Serialize)]
struct MappingLine<'a> {
    provider: &'a str,
    user: &'a str,
    audience: &'static str,
    default: bool,
    ttl_s: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(damaged: &usize) -> bool {
    *damaged == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(stale: &bool) -> bool {
    !*stale
}

fn to_json(answer: &Answer) -> Result<String, serde_json::Error> {
    let mappings = answer
        .mappings
        .iter()
        .map(|found| MappingLine {
            provider: found.ssi.provider().as_str(),
            user: found.ssi.user().as_str(),
            audience: found.audience.as_str(),
            default: found.default,
            ttl_s: found.ttl_s,
        })
        .collect();
    let Answer { damaged, stale, .. } = *answer;
    let unverified = answer.unverified.iter().map(|it| it.provider.as_str()).collect();
    let line = Line { sii: answer.sii.as_str(), mappings, unverified, damaged, stale };
    serde_json::to_string(&line)
}

fn write_text(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    writeln!(out, "{}", answer.sii.as_str())?;
    for found in &answer.mappings {
        let (user, provider) = (found.ssi.user().as_str(), found.ssi.provider().as_str());
        let audience = found.audience.as_str();
        let default = if found.default { ", default" } else { "" };
        writeln!(out, "  {user}@{provider} ({audience}{default})")?;
    }
    if answer.mappings.is_empty() {
        writeln!(out, "  not in this directory")?;
    }
    if answer.stale {
        writeln!(out, "  may have changed since it was asked: --refresh asks again")?;
    }
    for Unverified { provider, distrust } in &answer.unverified {
        writeln!(out, "  a mapping of {provider} is not to be believed: {distrust}")?;
    }
    if answer.damaged > 0 {
        writeln!(out, "  {} damaged entries skipped", answer.damaged)?;
    }
    Ok(())
}
