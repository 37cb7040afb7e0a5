//! What is known of the directory: its signed parameters and provider list,
//! verified, never older than before, and fetched anew on schedule. An answer
//! to a lookup never causes a fetch, but for the one retry of a changed epoch.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use ed25519_dalek::VerifyingKey;

use super::{
    ClientError, ClientOptions, Clock,
    blocking::blocking,
    connect::Pool,
    pins::{Pins, Trust},
    state::{Part, Parts},
};
use crate::{
    bucket::{Bucket, BucketError, DirectoryId},
    identifier::Provider,
    wire::{Parameters, ProviderList, SignedBody, WireError, proto},
};

/// How far this clock and the server's may be apart.
const CLOCK_SKEW_S: u64 = 120;

/// Fetches are at least so far apart, whatever the parameters say.
const MIN_REFRESH_S: u64 = 60;

/// Parameters are replaced so long before they expire.
const RENEW_AHEAD_S: u64 = 3600;

/// The directory as the client knows it at one moment.
pub(super) struct View {
    pub(super) parameters: Parameters,
    pub(super) trust: BTreeMap<Provider, Trust>,
    signed_parameters: SignedBody,
    providers: ProviderList,
    signed_providers: SignedBody,
    pins: Pins,
    /// When parameters and list were last fetched on schedule.
    fetched_at_s: u64,
}

impl View {
    /// Whether the schedule asks for a fetch.
    fn is_due(&self, now_s: u64) -> bool {
        let Parameters { not_before_s, not_after_s, refresh_period_s, .. } = self.parameters;
        let soonest = self.fetched_at_s.saturating_add(MIN_REFRESH_S);
        let period = self.fetched_at_s.saturating_add(refresh_period_s.into());
        let ahead_of_end = not_after_s.saturating_sub(RENEW_AHEAD_S);
        // A clock set back must not keep parameters for good.
        let latest_start = self.fetched_at_s.max(not_before_s);
        now_s >= period.min(ahead_of_end).max(soonest).min(not_after_s)
            || now_s.saturating_add(CLOCK_SKEW_S) < latest_start
    }

    /// Time of the fetch, parameters, provider list, pins.
    fn encode(&self) -> Vec<u8> {
        let mut payload = self.fetched_at_s.to_be_bytes().to_vec();
        for signed in [&self.signed_parameters, &self.signed_providers] {
            let bytes = signed.to_bytes();
            payload.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            payload.extend_from_slice(&bytes);
        }
        payload.extend_from_slice(&self.pins.encode());
        payload
    }

    /// Everything is verified again but the times: an expired view still says
    /// which serials were seen.
    fn decode(
        payload: &[u8],
        identity: &VerifyingKey,
        given: &[(Provider, VerifyingKey)],
    ) -> Option<Self> {
        let signed = |payload| {
            let (length, rest): (&[u8; 8], &[u8]) = <[u8]>::split_first_chunk(payload)?;
            let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
            let (bytes, rest) = rest.split_at_checked(length)?;
            Some((SignedBody::from_bytes(bytes).ok()?, rest))
        };
        let (fetched_at_s, rest) = payload.split_first_chunk()?;
        let (signed_parameters, rest) = signed(rest)?;
        let (signed_providers, rest) = signed(rest)?;
        let mut pins = Pins::decode(rest)?;
        let parameters = Parameters::verify(&signed_parameters, identity).ok()?;
        let providers = ProviderList::verify(&signed_providers, identity).ok()?;
        pins.give(given);
        let trust = pins.judge(&providers);
        Some(Self {
            parameters,
            trust,
            signed_parameters,
            providers,
            signed_providers,
            pins,
            fetched_at_s: u64::from_be_bytes(*fetched_at_s),
        })
    }
}

/// What a fetch covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    /// The retry for a changed epoch.
    Parameters,
    /// The schedule.
    All,
}

/// The last fetch, for those who waited for it.
struct Last {
    extent: Extent,
    outcome: Result<(), ClientError>,
}

/// Keeps the view.
pub(super) struct Directory {
    identity: VerifyingKey,
    id: DirectoryId,
    given: Vec<(Provider, VerifyingKey)>,
    clock: Clock,
    pool: Arc<Pool>,
    parts: Parts,
    view: RwLock<Option<Arc<View>>>,
    /// Counts the fetches; changed only by who holds `last`.
    fetches: AtomicU64,
    last: Arc<tokio::sync::Mutex<Option<Last>>>,
}

impl Directory {
    /// Reads what is stored; fetches when that is nothing, or due.
    pub(super) async fn open(
        options: &ClientOptions,
        pool: &Arc<Pool>,
        parts: &Parts,
    ) -> Result<Arc<Self>, ClientError> {
        let view = match parts.load(Part::Directory).await? {
            Some(payload) => {
                let view = View::decode(&payload, &options.identity, &options.provider_keys)
                    .ok_or(ClientError::StateDamaged(Part::Directory))?;
                Some(Arc::new(view))
            }
            None => None,
        };
        let this = Arc::new(Self {
            identity: options.identity,
            id: DirectoryId::of(&options.identity),
            given: options.provider_keys.clone(),
            clock: options.clock.clone(),
            pool: Arc::clone(pool),
            parts: parts.clone(),
            view: RwLock::new(view),
            fetches: AtomicU64::new(0),
            last: Arc::default(),
        });
        this.view().await?;
        Ok(this)
    }

    /// Verifies a bucket's signature.
    pub(super) fn verify(&self, bucket: &Bucket) -> Result<(), BucketError> {
        bucket.verify(&self.id, &self.identity)
    }

    fn known(&self) -> Option<Arc<View>> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long answers are kept. Asks nothing.
    pub(super) fn refresh_period_s(&self) -> u64 {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.as_ref().map_or(0, |view| view.parameters.refresh_period_s.into())
    }

    /// The directory as it is known, after the fetch that the schedule asks
    /// for, if any.
    pub(super) async fn view(self: &Arc<Self>) -> Result<Arc<View>, ClientError> {
        loop {
            let fetches = self.fetches.load(Ordering::Acquire);
            match self.known() {
                Some(view) if !view.is_due(self.clock.now_s()) => return Ok(view),
                _ => {}
            }
            self.fetch_after(fetches, Extent::All).await?;
            // Fetched just now: good for this call even if it is due again.
            if let Some(view) = self.known() {
                return Ok(view);
            }
        }
    }

    /// Fetches the parameters because an answer did not fit `old`. `None` when
    /// there are no newer ones: then nothing may be asked again.
    pub(super) async fn newer_than(
        self: &Arc<Self>,
        old: &View,
    ) -> Result<Option<Arc<View>>, ClientError> {
        let newer = |view: &Arc<View>| view.parameters.serial > old.parameters.serial;
        let fetches = self.fetches.load(Ordering::Acquire);
        // Another lookup may have been told already.
        if let Some(view) = self.known().filter(newer) {
            return Ok(Some(view));
        }
        self.fetch_after(fetches, Extent::Parameters).await?;
        Ok(self.known().filter(newer))
    }

    /// One fetch for all who ask for it at the same time. It runs beside its
    /// callers and ends even if they give up.
    async fn fetch_after(
        self: &Arc<Self>,
        fetches: u64,
        extent: Extent,
    ) -> Result<(), ClientError> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if self.fetches.load(Ordering::Acquire) != fetches
            && let Some(Last { extent: done, outcome }) = last.as_ref()
            && *done >= extent
        {
            return outcome.clone();
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = this.fetch(extent).await;
            *last = Some(Last { extent, outcome: outcome.clone() });
            this.fetches.fetch_add(1, Ordering::Release);
            outcome
        })
        .await
        .map_err(|_| ClientError::Computation)?
    }

    async fn fetch(&self, extent: Extent) -> Result<(), ClientError> {
        let old = self.known();
        let view = match (&old, extent) {
            (Some(old), Extent::Parameters) => {
                let (parameters, signed_parameters) = self.parameters(Some(old)).await?;
                View {
                    parameters,
                    signed_parameters,
                    trust: old.trust.clone(),
                    providers: old.providers.clone(),
                    signed_providers: old.signed_providers.clone(),
                    pins: old.pins.clone(),
                    // The schedule stays as it was.
                    fetched_at_s: old.fetched_at_s,
                }
            }
            (old, _) => {
                let old = old.as_deref();
                let ((parameters, signed_parameters), (providers, signed_providers)) =
                    tokio::try_join!(self.parameters(old), self.providers(old))?;
                let mut pins = old.map(|old| old.pins.clone()).unwrap_or_default();
                pins.give(&self.given);
                let trust = pins.judge(&providers);
                View {
                    parameters,
                    trust,
                    signed_parameters,
                    providers,
                    signed_providers,
                    pins,
                    fetched_at_s: self.clock.now_s(),
                }
            }
        };
        tracing::debug!(
            serial = view.parameters.serial,
            providers = view.providers.providers.len(),
            "fetched the directory's parameters"
        );
        let (parts, payload) = (self.parts.clone(), view.encode());
        blocking(move || parts.store(Part::Directory, &payload)).await?;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(view));
        Ok(())
    }

    async fn parameters(
        &self,
        old: Option<&View>,
    ) -> Result<(Parameters, SignedBody), ClientError> {
        let response = self
            .pool
            .call(|| {
                let (mut stub, pool) = (self.pool.stub()?, Arc::clone(&self.pool));
                Ok(async move {
                    stub.get_parameters(pool.request(proto::GetParametersRequest {})).await
                })
            })
            .await?;
        let wrong = |error| match error {
            WireError::Signature(_) => ClientError::ParametersForged,
            error => ClientError::ParametersMalformed(error),
        };
        let signed = SignedBody::try_from(response).map_err(wrong)?;
        let parameters = Parameters::verify(&signed, &self.identity).map_err(wrong)?;
        check_times(&parameters, self.clock.now_s())?;
        let offered = parameters.serial;
        match old.map(|old| &old.parameters) {
            Some(old) if offered < old.serial => {
                Err(ClientError::ParametersRolledBack { seen: old.serial, offered })
            }
            Some(old) if offered == old.serial && parameters != *old => {
                Err(ClientError::ParametersEquivocated { serial: offered })
            }
            _ => Ok((parameters, signed)),
        }
    }

    async fn providers(
        &self,
        old: Option<&View>,
    ) -> Result<(ProviderList, SignedBody), ClientError> {
        let response = self
            .pool
            .call(|| {
                let (mut stub, pool) = (self.pool.stub_for_providers()?, Arc::clone(&self.pool));
                Ok(async move {
                    stub.list_providers(pool.request(proto::ListProvidersRequest {})).await
                })
            })
            .await?;
        let wrong = |error| match error {
            WireError::Signature(_) => ClientError::ProvidersForged,
            error => ClientError::ProvidersMalformed(error),
        };
        let signed = SignedBody::try_from(response).map_err(wrong)?;
        let providers = ProviderList::verify(&signed, &self.identity).map_err(wrong)?;
        let offered = providers.serial;
        match old.map(|old| &old.providers) {
            Some(old) if offered < old.serial => {
                Err(ClientError::ProvidersRolledBack { seen: old.serial, offered })
            }
            Some(old) if offered == old.serial && providers != *old => {
                Err(ClientError::ProvidersEquivocated { serial: offered })
            }
            _ => Ok((providers, signed)),
        }
    }
}

fn check_times(parameters: &Parameters, now_s: u64) -> Result<(), ClientError> {
    let Parameters { not_before_s, not_after_s, .. } = *parameters;
    if now_s.saturating_add(CLOCK_SKEW_S) < not_before_s {
        return Err(ClientError::ParametersNotYetValid { in_s: not_before_s - now_s });
    }
    if now_s >= not_after_s.saturating_add(CLOCK_SKEW_S) {
        return Err(ClientError::ParametersExpired { by_s: now_s - not_after_s });
    }
    Ok(())
}
