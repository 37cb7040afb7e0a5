//! Batches of blinded elements, and their evaluations.

use bytes::Bytes;
use prost::Message as _;

use super::{WireError, array, proto};
use crate::{
    epoch::Epoch,
    token::{ELEMENTS_PER_TOKEN, TOKEN_BYTES},
};

/// Bytes of one serialised element, RFC 9497 section 4.1.
pub const ELEMENT_BYTES: usize = 32;

/// Bytes of a DLEQ proof: two scalars.
pub const PROOF_BYTES: usize = 64;

/// How many elements a batch has: fixed sizes, so that its size tells little.
pub const ELEMENT_BATCHES: [usize; 5] = [2, 8, 32, 128, 512];

/// A request with a batch of one of the fixed sizes. The elements themselves
/// are checked where they are evaluated.
#[derive(Clone, PartialEq, Eq)]
pub struct Evaluate {
    /// The newest epoch that the client knows.
    pub epoch: Epoch,
    /// One of [`ELEMENT_BATCHES`] elements of [`ELEMENT_BYTES`].
    pub blinded_elements: Bytes,
    /// None, or one token of [`TOKEN_BYTES`] for each two elements.
    pub tokens: Bytes,
}

impl Evaluate {
    /// Decodes and checks an encoded request.
    ///
    /// # Errors
    /// Not an encoded request, or one that is refused.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let request = proto::EvaluateRequest::decode(message);
        request.map_err(|_| WireError::Encoding("request"))?.try_into()
    }
}

impl TryFrom<proto::EvaluateRequest> for Evaluate {
    type Error = WireError;

    fn try_from(request: proto::EvaluateRequest) -> Result<Self, WireError> {
        let epoch = check_epoch("epoch", request.epoch)?;
        let bytes = request.blinded_elements.len();
        let got = bytes / ELEMENT_BYTES;
        if !bytes.is_multiple_of(ELEMENT_BYTES) {
            return Err(WireError::Rule {
                field: "blinded_elements",
                rule: "must be whole elements of 32 bytes, without bytes after the last",
            });
        }
        if !ELEMENT_BATCHES.contains(&got) {
            return Err(WireError::Batch {
                field: "blinded_elements",
                allowed: &ELEMENT_BATCHES,
                got,
            });
        }
        let (tokens, paid) = (request.tokens.len(), got / ELEMENTS_PER_TOKEN * TOKEN_BYTES);
        if tokens != 0 && tokens != paid {
            let rule = "must be none, or one of 354 bytes for each two elements";
            return Err(WireError::Rule { field: "tokens", rule });
        }
        Ok(Self { epoch, blinded_elements: request.blinded_elements, tokens: request.tokens })
    }
}

impl From<Evaluate> for proto::EvaluateRequest {
    fn from(evaluate: Evaluate) -> Self {
        Self {
            epoch: evaluate.epoch.get(),
            blinded_elements: evaluate.blinded_elements,
            tokens: evaluate.tokens,
        }
    }
}

/// One epoch's answer to a batch, its proof not yet verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Whose key was used.
    pub epoch: Epoch,
    /// As many elements as were asked.
    pub evaluated_elements: Bytes,
    /// Over the whole batch.
    pub proof: [u8; PROOF_BYTES],
}

impl Evaluation {
    /// Checks an answer to `elements` blinded elements: one or two epochs,
    /// ascending, each with as many elements as were asked.
    ///
    /// # Errors
    /// Anything else.
    pub fn check(
        response: proto::EvaluateResponse,
        elements: usize,
    ) -> Result<Vec<Self>, WireError> {
        let evaluations = response.evaluations;
        if evaluations.is_empty() || evaluations.len() > 2 {
            return Err(WireError::Rule { field: "evaluations", rule: "must be one or two" });
        }
        if !evaluations.is_sorted_by(|one, next| one.epoch < next.epoch) {
            return Err(WireError::Rule { field: "evaluations", rule: "must ascend by epoch" });
        }
        let expected = elements * ELEMENT_BYTES;
        evaluations
            .into_iter()
            .map(|evaluation| {
                let got = evaluation.evaluated_elements.len();
                if got != expected {
                    let field = "evaluations.evaluated_elements";
                    return Err(WireError::Length { field, expected, got });
                }
                Ok(Self {
                    epoch: check_epoch("evaluations.epoch", evaluation.epoch)?,
                    evaluated_elements: evaluation.evaluated_elements,
                    proof: array("evaluations.proof", &evaluation.proof)?,
                })
            })
            .collect()
    }

    /// The message of an answer under every active epoch.
    #[must_use]
    pub fn response(evaluations: Vec<Self>) -> proto::EvaluateResponse {
        proto::EvaluateResponse {
            evaluations: evaluations
                .into_iter()
                .map(|evaluation| proto::Evaluation {
                    epoch: evaluation.epoch.get(),
                    evaluated_elements: evaluation.evaluated_elements,
                    proof: evaluation.proof.to_vec().into(),
                })
                .collect(),
        }
    }
}

pub(super) fn check_epoch(field: &'static str, epoch: u32) -> Result<Epoch, WireError> {
    Epoch::new(epoch).ok_or(WireError::Rule { field, rule: "must be at least 1" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_batches_of_the_fixed_sizes_are_taken() {
        for bytes in 0..=513 * 32 {
            let request = proto::EvaluateRequest {
                epoch: 1,
                blinded_elements: vec![0; bytes].into(),
                ..Default::default()
            };
            let fixed = [64, 256, 1024, 4096, 16384].contains(&bytes);
            assert_eq!(Evaluate::try_from(request).is_ok(), fixed, "{bytes}");
        }
        let request = proto::EvaluateRequest {
            epoch: 0,
            blinded_elements: vec![0; 64].into(),
            ..Default::default()
        };
        assert_eq!(Evaluate::try_from(request).err().map(|error| error.field()), Some("epoch"));
    }

    #[test]
    fn tokens_come_for_all_elements_or_for_none() {
        let check = |elements: usize, tokens: usize| {
            let request = proto::EvaluateRequest {
                epoch: 1,
                blinded_elements: vec![0; elements * 32].into(),
                tokens: vec![0; tokens].into(),
            };
            Evaluate::try_from(request).map(|_| ()).map_err(|error| error.field())
        };
        for (elements, tokens) in [(2, 1), (8, 4), (32, 16), (128, 64), (512, 256)] {
            assert_eq!(check(elements, 0), Ok(()));
            assert_eq!(check(elements, tokens * 354), Ok(()));
            for wrong in [1, tokens * 354 - 1, tokens * 354 + 1, (tokens + 1) * 354] {
                assert_eq!(check(elements, wrong), Err("tokens"));
            }
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        let evaluation = |epoch, elements: usize, proof| proto::Evaluation {
            epoch,
            evaluated_elements: vec![0; elements].into(),
            proof: vec![0; proof].into(),
        };
        let check = |evaluations| {
            Evaluation::check(proto::EvaluateResponse { evaluations }, 2).map(|all| all.len())
        };
        let good = evaluation(1, 64, 64);
        assert_eq!(check(vec![good.clone()]), Ok(1));
        assert_eq!(check(vec![good.clone(), evaluation(2, 64, 64)]), Ok(2));
        for (bad, field) in [
            (vec![], "evaluations"),
            (vec![good.clone(), good.clone()], "evaluations"),
            (vec![evaluation(1, 63, 64)], "evaluations.evaluated_elements"),
            (vec![evaluation(1, 96, 64)], "evaluations.evaluated_elements"),
            (vec![evaluation(1, 64, 63)], "evaluations.proof"),
            (vec![evaluation(1, 64, 65)], "evaluations.proof"),
            (vec![evaluation(0, 64, 64)], "evaluations.epoch"),
            (vec![good, evaluation(2, 64, 64), evaluation(3, 64, 64)], "evaluations"),
        ] {
            assert_eq!(check(bad).unwrap_err().field(), field);
        }
    }
}
