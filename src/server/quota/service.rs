//! `QuotaService`: limits, token keys, and tokens for the users of application
//! providers.

use tonic::{Request, Response, Status};

use super::{Anonymous, Payer, QuotaError, Quotas};
use crate::{
    access::quota::{Counted, Meter},
    server::evaluate::EvaluatorError,
    token::{ELEMENTS_PER_TOKEN, TokenError},
    wire::{
        IssueTokens, TokenKeys,
        proto::{
            GetLimitsRequest, GetLimitsResponse, GetTokenKeysRequest, GetTokenKeysResponse,
            IssueTokensRequest, IssueTokensResponse, Limit, quota_service_server::QuotaService,
        },
    },
};

impl Quotas {
    async fn limit(&self, payer: &Payer, counted: Counted) -> Result<Meter, QuotaError> {
        let (alias, limits) = self.account(payer);
        self.0.accounts.meter(alias, &limits, counted).await
    }

    async fn limits(&self, payer: &Payer) -> Result<GetLimitsResponse, QuotaError> {
        let now_s = self.0.clock.now_s();
        let own = |meter: Meter| Limit {
            per_day: meter.limit().per_day(),
            burst: meter.limit().burst(),
            available: Some(meter.available(now_s)),
            full_in_s: Some(meter.full_in_s(now_s)),
        };
        // What others fetch is nobody's to know.
        let shared = |meter: Meter| Limit { available: None, full_in_s: None, ..own(meter) };
        let mut limits = GetLimitsResponse {
            elements_per_token: u32::try_from(ELEMENTS_PER_TOKEN).unwrap_or(u32::MAX),
            ..GetLimitsResponse::default()
        };
        match payer {
            Payer::Partner { has_users, .. } => {
                limits.elements = Some(own(self.limit(payer, Counted::Elements).await?));
                limits.bucket_bytes = Some(own(self.limit(payer, Counted::Bytes).await?));
                limits.pir_queries = Some(own(self.limit(payer, Counted::Queries).await?));
                if *has_users {
                    limits.tokens = Some(own(self.limit(payer, Counted::Tokens).await?));
                }
            }
            Payer::Anonymous if self.0.options.anonymous == Anonymous::Tokens => {
                limits.tokens_required = true;
                let bytes = self.limit(payer, Counted::Bytes).await?;
                limits.bucket_bytes = Some(shared(bytes));
            }
            Payer::Anonymous => {}
        }
        Ok(limits)
    }

    async fn token_keys(&self) -> Result<GetTokenKeysResponse, QuotaError> {
        let now_s = self.0.clock.now_s();
        let known = self.0.keys.of_today(now_s).await?;
        let redeeming = known.public().filter(|(day, _)| day.redeems(now_s));
        let keys = redeeming.map(|(day, key)| (day, key.clone())).collect();
        let list = TokenKeys { directory: *self.0.keyring.directory(), keys };
        Ok(list.sign(self.0.keyring.identity()).into())
    }

    async fn issue(
        &self,
        payer: &Payer,
        request: IssueTokensRequest,
    ) -> Result<IssueTokensResponse, QuotaError> {
        let Payer::Partner { has_users: true, .. } = payer else {
            return Err(QuotaError::NotAProvider);
        };
        let request = IssueTokens::try_from(request)?;
        let now_s = self.0.clock.now_s();
        if !request.day.issues(now_s) {
            return Err(QuotaError::Day);
        }
        let keys = self.0.keys.of_today(now_s).await?;
        let key = keys.issuing(request.day, now_s).cloned().ok_or(QuotaError::Day)?;
        let charged = self.charge(payer, Counted::Tokens, request.blinded.len() as u64).await?;
        let sign = move || {
            let sign = |blinded| key.sign(blinded, &mut rand::rng());
            request.blinded.iter().map(sign).collect::<Result<Vec<_>, TokenError>>()
        };
        let signed = match self.0.signers.run(1, sign).await {
            Ok(signed) => signed.map_err(QuotaError::from),
            Err(EvaluatorError::Busy) => Err(QuotaError::Busy),
            Err(EvaluatorError::Stopped) => Err(QuotaError::Computation),
        };
        match signed {
            Ok(signatures) => {
                Ok(IssueTokensResponse { blind_signatures: signatures.into_flattened().into() })
            }
            Err(error) => {
                charged.refund(&self.0.clock);
                Err(error)
            }
        }
    }
}

fn payer<T>(request: &Request<T>) -> Payer {
    // A request without a payer did not come through the gate.
    request.extensions().get::<Payer>().cloned().unwrap_or(Payer::Anonymous)
}

#[tonic::async_trait]
impl QuotaService for Quotas {
    async fn get_limits(
        &self,
        request: Request<GetLimitsRequest>,
    ) -> Result<Response<GetLimitsResponse>, Status> {
        Ok(Response::new(self.limits(&payer(&request)).await?))
    }

    async fn get_token_keys(
        &self,
        _: Request<GetTokenKeysRequest>,
    ) -> Result<Response<GetTokenKeysResponse>, Status> {
        Ok(Response::new(self.token_keys().await?))
    }

    async fn issue_tokens(
        &self,
        request: Request<IssueTokensRequest>,
    ) -> Result<Response<IssueTokensResponse>, Status> {
        let payer = payer(&request);
        Ok(Response::new(self.issue(&payer, request.into_inner()).await?))
    }
}
