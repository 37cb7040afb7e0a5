//! The service: brings an identifier into its canonical form, chooses the one
//! directory that is asked, and gives on what it answered.
//!
//! The choice depends on the request and the configuration alone. No answer, a
//! miss or a failure included, makes another directory be asked; for whom a
//! mapping is meant is looked at here and never told to a directory.

use std::sync::Arc;

use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

use super::{
    directory::{Directories, Directory},
    status::refusal,
};
use crate::{
    client::{Answer, ClientError, Found},
    identifier::{IdentifierError, Region, Sii},
    wire::{
        audience_to_proto,
        proto::{
            Audience, ResolveManyRequest, ResolveManyResponse, ResolveManyResult, ResolveRequest,
            ResolveResponse, ResolvedMapping, resolve_many_result::Outcome,
            sidecar_service_server::SidecarService,
        },
    },
};

/// Most identifiers of one call.
pub const MAX_SIIS: usize = 4096;

/// Why an identifier is not resolved. None quotes what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ResolveError {
    // The caller.
    #[error("{0}")]
    Identifier(#[from] IdentifierError),
    #[error("there is no audience of this number: leave it out, or ask for personal or business")]
    Audience,
    #[error("no directory of this name is configured")]
    NoSuchDirectory,
    #[error("no configured directory serves such identifiers: name one, or configure a route")]
    NoRoute,
    #[error("at most {MAX_SIIS} identifiers can be asked at once: split them")]
    TooMany,

    // The directory, the way to it, or the sidecar itself.
    #[error("the directory {directory} has not been reached yet: try again")]
    Awaited { directory: Box<str> },
    #[error("{error}")]
    Asked { directory: Box<str>, error: ClientError },
    #[error("the sidecar is stopping, or has a defect: try again")]
    Cut,
}

/// Resolves by the directories that there are.
#[derive(Clone)]
pub(super) struct Resolver {
    pub(super) directories: Arc<Directories>,
    pub(super) region: Option<Region>,
}

#[tonic::async_trait]
impl SidecarService for Resolver {
    async fn resolve(
        &self,
        request: Request<ResolveRequest>,
    ) -> Result<Response<ResolveResponse>, Status> {
        Ok(Response::new(self.one(request.into_inner()).await?))
    }

    async fn resolve_many(
        &self,
        request: Request<ResolveManyRequest>,
    ) -> Result<Response<ResolveManyResponse>, Status> {
        Ok(Response::new(self.many(request.into_inner()).await?))
    }
}

impl Resolver {
    async fn one(&self, request: ResolveRequest) -> Result<ResolveResponse, ResolveError> {
        let wanted = wanted(request.audience)?;
        let named = self.named(&request.directory)?;
        let sii = Sii::parse(&request.sii, self.region)?;
        let directory = self.choose(named, &sii)?;
        let source = directory.source().map_err(|error| not_met(directory, error))?;
        let answer = source
            .one(&sii, request.refresh)
            .await
            .map_err(|error| ResolveError::Asked { directory: directory.name.clone(), error })?;
        Ok(response(&answer, wanted, &directory.name))
    }

    async fn many(&self, request: ResolveManyRequest) -> Result<ResolveManyResponse, ResolveError> {
        let ResolveManyRequest { siis, audience, directory, refresh } = request;
        if siis.len() > MAX_SIIS {
            return Err(ResolveError::TooMany);
        }
        let wanted = wanted(audience)?;
        let named = self.named(&directory)?.cloned();
        let this = self.clone();
        // So many numbers take longer than a runtime may wait.
        let chosen = tokio::task::spawn_blocking(move || {
            let choose = |text: String| {
                let sii = Sii::parse(&text, this.region)?;
                let directory = this.choose(named.as_ref(), &sii)?;
                Ok((sii, Arc::clone(directory)))
            };
            siis.into_iter().map(choose).collect::<Vec<Result<_, ResolveError>>>()
        });
        let chosen = chosen.await.map_err(|_| ResolveError::Cut)?;

        let mut results = vec![None; chosen.len()];
        let mut asked: Vec<Asked> = self.directories.iter().map(Asked::of).collect();
        for (place, chosen) in chosen.into_iter().enumerate() {
            match chosen {
                Ok((sii, directory)) => {
                    let to = asked.iter_mut().find(|to| Arc::ptr_eq(&to.directory, &directory));
                    if let Some(to) = to {
                        to.places.push(place);
                        to.siis.push(sii);
                    }
                }
                Err(error) => set(&mut results, place, Outcome::Refusal(refusal(error))),
            }
        }
        let mut asking = JoinSet::new();
        for asked in asked.into_iter().filter(|asked| !asked.siis.is_empty()) {
            asking.spawn(asked.resolve(wanted, refresh));
        }
        while let Some(outcomes) = asking.join_next().await {
            for (place, outcome) in outcomes.map_err(|_| ResolveError::Cut)? {
                set(&mut results, place, outcome);
            }
        }
        let missing = || Outcome::Refusal(refusal(ResolveError::Cut));
        let results = results
            .into_iter()
            .map(|outcome| ResolveManyResult { outcome: Some(outcome.unwrap_or_else(missing)) });
        Ok(ResolveManyResponse { results: results.collect() })
    }

    /// The directory of a name, if one is given.
    fn named(&self, name: &str) -> Result<Option<&Arc<Directory>>, ResolveError> {
        if name.is_empty() {
            return Ok(None);
        }
        self.directories.named(name).map(Some).ok_or(ResolveError::NoSuchDirectory)
    }

    fn choose<'a>(
        &'a self,
        named: Option<&'a Arc<Directory>>,
        sii: &Sii,
    ) -> Result<&'a Arc<Directory>, ResolveError> {
        named.or_else(|| self.directories.of(sii)).ok_or(ResolveError::NoRoute)
    }
}

/// The identifiers of a call that one directory is asked for.
struct Asked {
    directory: Arc<Directory>,
    /// Where in the call each stands.
    places: Vec<usize>,
    siis: Vec<Sii>,
}

impl Asked {
    fn of(directory: &Arc<Directory>) -> Self {
        Self { directory: Arc::clone(directory), places: Vec::new(), siis: Vec::new() }
    }

    async fn resolve(self, wanted: Audience, refresh: bool) -> Vec<(usize, Outcome)> {
        let Self { directory, places, siis } = self;
        let refused = |error| {
            let directory = directory.name.clone();
            Outcome::Refusal(refusal(ResolveError::Asked { directory, error }))
        };
        let source = match directory.source() {
            Ok(source) => source,
            Err(error) => {
                let refusal = refusal(not_met(&directory, error));
                return places
                    .into_iter()
                    .map(|at| (at, Outcome::Refusal(refusal.clone())))
                    .collect();
            }
        };
        match source.many(&siis, refresh).await {
            Ok(answers) => {
                let outcomes = answers.into_iter().map(|answer| match answer {
                    Ok(answer) => Outcome::Found(response(&answer, wanted, &directory.name)),
                    Err(error) => refused(error),
                });
                places.into_iter().zip(outcomes).collect()
            }
            Err(error) => places.into_iter().map(|at| (at, refused(error.clone()))).collect(),
        }
    }
}

fn set(results: &mut [Option<Outcome>], place: usize, outcome: Outcome) {
    if let Some(result) = results.get_mut(place) {
        *result = Some(outcome);
    }
}

fn wanted(audience: i32) -> Result<Audience, ResolveError> {
    Audience::try_from(audience).map_err(|_| ResolveError::Audience)
}

fn not_met(directory: &Directory, error: Option<ClientError>) -> ResolveError {
    let directory = directory.name.clone();
    match error {
        Some(error) => ResolveError::Asked { directory, error },
        None => ResolveError::Awaited { directory },
    }
}

/// What is meant for the wanted audience, the preferred first.
fn response(answer: &Answer, wanted: Audience, directory: &str) -> ResolveResponse {
    let meant = |found: &&Found| {
        wanted == Audience::Unspecified || audience_to_proto(found.audience) == wanted
    };
    let mut found: Vec<&Found> = answer.mappings.iter().filter(meant).collect();
    // Stable: the others stay in the directory's order.
    found.sort_by_key(|found| !found.default);
    let mappings = found.into_iter().map(|found| ResolvedMapping {
        provider: found.ssi.provider().as_str().into(),
        user: found.ssi.user().as_str().into(),
        audience: audience_to_proto(found.audience).into(),
        default: found.default,
        ttl_s: found.ttl_s,
        verified_until_s: found.verified_until_s,
    });
    ResolveResponse {
        mappings: mappings.collect(),
        directory: directory.into(),
        answered_at_s: answer.answered_at_s,
        stale: answer.stale,
        damaged: u32::try_from(answer.damaged).unwrap_or(u32::MAX),
        unverified: u32::try_from(answer.unverified.len()).unwrap_or(u32::MAX),
    }
}
