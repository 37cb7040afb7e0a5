//! Queries for a row of a partition's matrix, and the matrix's shape.

use bytes::Bytes;
use prost::Message as _;

use super::{WireError, evaluate::check_epoch, proto};
use crate::{
    bucket::{BUCKET_BYTES, BucketNumber, DirectoryId, PARTITION_BUCKET_BITS, PrefixBits},
    epoch::Epoch,
    pir::Shape,
    token::TOKEN_BYTES,
};

/// The scheme of `docs/pir.md`.
const SCHEME: u32 = 1;

/// The matrix of each partition of a directory with so many prefix bits: a row
/// for each bucket, of its entries.
#[must_use]
pub fn pir_shape(bits: PrefixBits) -> Shape {
    let rows = 1_usize << bits.get().min(PARTITION_BUCKET_BITS);
    Shape::of_buckets(rows, BUCKET_BYTES)
}

/// The seed of what client and server expand alike:
/// `derive_key("blindbook v1 pir", directory id)`.
#[must_use]
pub fn pir_seed(directory: &DirectoryId) -> [u8; 32] {
    blake3::derive_key("blindbook v1 pir", directory.as_bytes())
}

/// Where a bucket lies: its partition, and its row there.
#[must_use]
pub const fn pir_row(number: BucketNumber, bits: PrefixBits) -> (u32, usize) {
    if bits.get() <= PARTITION_BUCKET_BITS {
        return (0, number.get() as usize);
    }
    let row = number.get() & ((1 << PARTITION_BUCKET_BITS) - 1);
    (number.get() >> PARTITION_BUCKET_BITS, row as usize)
}

pub(super) fn pir_to_proto(shape: Shape) -> proto::PirParameters {
    // Both are bounded far below.
    let word = |count| u32::try_from(count).unwrap_or(u32::MAX);
    proto::PirParameters {
        scheme: SCHEME,
        rows: word(shape.rows()),
        row_bytes: word(shape.row_bytes()),
    }
}

/// The shape that parameters offer: that of their prefix bits. What is offered
/// under another scheme is not known here.
pub(super) fn pir_from_proto(
    offered: Option<proto::PirParameters>,
    bits: PrefixBits,
) -> Result<Option<Shape>, WireError> {
    let shape = pir_shape(bits);
    match offered {
        Some(offered) if offered.scheme == SCHEME => {
            if offered == pir_to_proto(shape) {
                Ok(Some(shape))
            } else {
                let rule = "must have a row of 49152 bytes for each bucket of a partition";
                Err(WireError::Rule { field: "pir", rule })
            }
        }
        _ => Ok(None),
    }
}

/// A query for a row of a partition. Its numbers are checked where it is
/// answered.
#[derive(Clone, PartialEq, Eq)]
pub struct QueryPir {
    /// The newest epoch that the client knows.
    pub epoch: Epoch,
    /// The directory's prefix bits as the client knows them.
    pub directory_prefix_bits: PrefixBits,
    /// Which of [`PrefixBits::partitions`].
    pub partition: u32,
    /// As long as the shape's queries.
    pub query: Bytes,
    /// None, or one token of [`TOKEN_BYTES`].
    pub tokens: Bytes,
}

impl QueryPir {
    /// Decodes and checks an encoded request.
    ///
    /// # Errors
    /// Not an encoded request, or one that is refused.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let request = proto::QueryPirRequest::decode(message);
        request.map_err(|_| WireError::Encoding("request"))?.try_into()
    }
}

impl TryFrom<proto::QueryPirRequest> for QueryPir {
    type Error = WireError;

    fn try_from(request: proto::QueryPirRequest) -> Result<Self, WireError> {
        let epoch = check_epoch("epoch", request.epoch)?;
        let directory_prefix_bits =
            PrefixBits::new(request.directory_prefix_bits).map_err(|_| WireError::Rule {
                field: "directory_prefix_bits",
                rule: "must be at most 32",
            })?;
        let partition = request.partition.ok_or(WireError::Missing("partition"))?;
        if partition >= directory_prefix_bits.partitions() {
            return Err(WireError::Rule {
                field: "partition",
                rule: "must be one that directory_prefix_bits number",
            });
        }
        let (expected, got) = (pir_shape(directory_prefix_bits).query_bytes(), request.query.len());
        if got != expected {
            return Err(WireError::Length { field: "query", expected, got });
        }
        if !request.tokens.is_empty() && request.tokens.len() != TOKEN_BYTES {
            let rule = "must be none, or one of 354 bytes";
            return Err(WireError::Rule { field: "tokens", rule });
        }
        let (query, tokens) = (request.query, request.tokens);
        Ok(Self { epoch, directory_prefix_bits, partition, query, tokens })
    }
}

impl From<QueryPir> for proto::QueryPirRequest {
    fn from(query: QueryPir) -> Self {
        Self {
            epoch: query.epoch.get(),
            directory_prefix_bits: query.directory_prefix_bits.get().into(),
            partition: Some(query.partition),
            query: query.query,
            tokens: query.tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(bits: u32) -> PrefixBits {
        PrefixBits::new(bits).unwrap()
    }

    fn request(prefix_bits: u32) -> proto::QueryPirRequest {
        let query = vec![0; pir_shape(bits(prefix_bits)).query_bytes()].into();
        proto::QueryPirRequest {
            epoch: 1,
            directory_prefix_bits: prefix_bits,
            partition: Some(0),
            query,
            tokens: Bytes::new(),
        }
    }

    #[test]
    fn requests_that_break_a_rule_are_refused_by_field() {
        let field = |alter: fn(&mut proto::QueryPirRequest)| {
            let mut request = request(17);
            alter(&mut request);
            QueryPir::try_from(request).err().map(|error: WireError| error.field())
        };
        assert_eq!(field(|_| {}), None);
        assert_eq!(field(|r| r.partition = Some(1)), None);
        assert_eq!(field(|r| r.partition = Some(2)), Some("partition"));
        assert_eq!(field(|r| r.partition = None), Some("partition"));
        assert_eq!(field(|r| r.epoch = 0), Some("epoch"));
        assert_eq!(field(|r| r.directory_prefix_bits = 33), Some("directory_prefix_bits"));
        assert_eq!(field(|r| r.directory_prefix_bits = 15), Some("query"));
        assert_eq!(field(|r| r.query = r.query.slice(1..)), Some("query"));
        assert_eq!(field(|r| r.tokens = vec![0; TOKEN_BYTES].into()), None);
        assert_eq!(field(|r| r.tokens = vec![0; 2 * TOKEN_BYTES].into()), Some("tokens"));
        let query = QueryPir::decode(&request(3).encode_to_vec()).unwrap();
        assert_eq!(proto::QueryPirRequest::from(query), request(3));
    }

    #[test]
    fn every_bucket_has_a_row_in_its_partition() {
        for (prefix_bits, rows) in [(0, 4), (1, 4), (2, 4), (9, 512), (16, 65_536), (32, 65_536)] {
            assert_eq!(pir_shape(bits(prefix_bits)).rows(), rows);
        }
        let row = |number, prefix_bits| {
            pir_row(BucketNumber::new(number, bits(prefix_bits)).unwrap(), bits(prefix_bits))
        };
        assert_eq!(row(65_535, 16), (0, 65_535));
        assert_eq!(row(0x1_0002, 17), (1, 2));
        assert_eq!(row(u32::MAX, 32), (65_535, 65_535));
        assert_eq!(row(0, 0), (0, 0));
    }
}
