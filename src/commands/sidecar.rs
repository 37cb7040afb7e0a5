//! `blindbook sidecar`: the SDK behind a gRPC service, for a backend on this
//! machine.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use blindbook::{
    client::{ClientCertificate, ClientOptions, Fault, FolderState},
    config::{DirectoryConfig, Identity, SidecarConfig},
    keyring,
    sidecar::{DirectoryOptions, Listener, Sidecar, SidecarError, SidecarOptions},
};
use zeroize::Zeroizing;

use super::{Failure, Outcome, input, logs, runtime, serve::shutdown};

/// Resolve identifiers for a backend on this machine
#[derive(clap::Args)]
pub(crate) struct SidecarCommand {
    /// The file with all settings
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl SidecarCommand {
    pub(crate) fn run(&self, log: Option<&str>) -> Outcome {
        let config = SidecarConfig::read(&self.config)
            .with_context(|| format!("{} is refused", self.config.display()))
            .map_err(input)?;
        logs(log, &config.log)?;
        runtime()?.block_on(serve(config))
    }
}

async fn serve(config: SidecarConfig) -> Outcome {
    let directories = config.directories.iter().map(directory).collect::<Result<_, Failure>>()?;
    let options = SidecarOptions {
        region: config.region,
        max_connections: config.max_connections,
        max_calls: config.max_calls,
        max_batches: config.max_batches,
        call_timeout: Duration::from_secs(config.call_timeout_s),
        drain_timeout: Duration::from_secs(config.drain_timeout_s),
        ..SidecarOptions::new(directories)
    };
    let sidecar = Sidecar::open(options).map_err(input)?;
    // After the state folders, which one process holds: two sidecars of one
    // configuration do not get as far as its socket.
    let listener = Listener::bind(&config.listen).await?;
    let stop = shutdown()?;
    tracing::info!(address = %listener.place()?, "serving");
    sidecar.run(listener, stop).await.map_err(|error| match error {
        SidecarError::Directory { error: ref fault, .. } if fault.fault() == Fault::Caller => {
            input(error)
        }
        error => error.into(),
    })?;
    tracing::info!("stopped");
    Ok(())
}

fn directory(config: &DirectoryConfig) -> Result<DirectoryOptions, Failure> {
    let name = &config.name;
    let client = client(config).with_context(|| format!("directory {name}")).map_err(input)?;
    let state = FolderState::open(&config.state).with_context(|| format!("directory {name}"))?;
    Ok(DirectoryOptions {
        name: name.clone(),
        client,
        state: Arc::new(state),
        serves: config.serves.clone(),
    })
}

fn client(config: &DirectoryConfig) -> anyhow::Result<ClientOptions> {
    let identity = match &config.identity {
        Identity::File(path) => keyring::identity_public_key(path)?,
        Identity::Key(key) => *key,
    };
    let mut options = ClientOptions::new(&config.address, identity);
    if let Some(path) = &config.ca {
        options.ca_pem = Some(fs::read(path).with_context(|| path.display().to_string())?);
    }
    if let Some((cert, key)) = &config.certificate {
        let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
        let (chain_pem, key_pem) = (read(cert)?, Zeroizing::new(read(key)?));
        options.certificate = Some(ClientCertificate { chain_pem, key_pem });
    }
    for (provider, path) in &config.provider_keys {
        options.provider_keys.push((provider.clone(), keyring::provider_public_key(path)?));
    }
    if let Some(bits) = config.max_prefix_bits {
        options.max_prefix_bits = bits;
    }
    options.mode = config.mode;
    options.deadline = Duration::from_secs(config.deadline_s);
    options.connections = config.connections;
    Ok(options)
}
