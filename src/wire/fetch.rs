//! Which buckets are fetched, and the buckets themselves.

use prost::Message as _;

use super::{WireError, array, evaluate::check_epoch, proto};
use crate::{
    bucket::{Bucket, BucketNumber, PrefixBits},
    epoch::Epoch,
};

/// How many prefixes a request has: fixed sizes, so that its size tells little.
pub const BUCKET_BATCHES: [usize; 5] = [1, 4, 16, 64, 256];

/// Most buckets that one request may ask for, those beneath short prefixes
/// counted.
pub const MAX_BUCKETS_PER_FETCH: u64 = 16_384;

/// A request for the buckets beneath one of [`BUCKET_BATCHES`] prefixes.
#[derive(Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The newest epoch that the client knows.
    pub epoch: Epoch,
    /// The directory's prefix bits as the client knows them.
    pub directory_prefix_bits: PrefixBits,
    /// At most as many.
    pub prefix_bits: PrefixBits,
    /// Each within `prefix_bits`.
    pub prefixes: Vec<BucketNumber>,
}

impl Fetch {
    /// Decodes and checks an encoded request.
    ///
    /// # Errors
    /// Not an encoded request, or one that is refused.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let request = proto::FetchBucketsRequest::decode(message);
        request.map_err(|_| WireError::Encoding("request"))?.try_into()
    }

    /// How many buckets come for each prefix.
    #[must_use]
    pub fn buckets_per_prefix(&self) -> u64 {
        1 << (self.directory_prefix_bits.get() - self.prefix_bits.get())
    }

    /// The numbers of all buckets asked for, in the order of the answer.
    pub fn numbers(&self) -> impl Iterator<Item = BucketNumber> {
        let (bits, deep) = (self.prefix_bits, self.directory_prefix_bits);
        self.prefixes.iter().flat_map(move |prefix| {
            let (first, count) = prefix.beneath(bits, deep).unwrap_or((*prefix, 0));
            (u64::from(first.get())..)
                .take(usize::try_from(count).unwrap_or(0))
                .filter_map(move |number| BucketNumber::new(u32::try_from(number).ok()?, deep).ok())
        })
    }
}

impl TryFrom<proto::FetchBucketsRequest> for Fetch {
    type Error = WireError;

    fn try_from(request: proto::FetchBucketsRequest) -> Result<Self, WireError> {
        let rule = |field, rule| WireError::Rule { field, rule };
        let epoch = check_epoch("epoch", request.epoch)?;
        let directory_prefix_bits = PrefixBits::new(request.directory_prefix_bits)
            .map_err(|_| rule("directory_prefix_bits", "must be at most 32"))?;
        let prefix_bits = PrefixBits::new(request.prefix_bits)
            .ok()
            .filter(|bits| *bits <= directory_prefix_bits)
            .ok_or_else(|| rule("prefix_bits", "must be at most directory_prefix_bits"))?;
        let got = request.prefixes.len();
        if !BUCKET_BATCHES.contains(&got) {
            return Err(WireError::Batch { field: "prefixes", allowed: &BUCKET_BATCHES, got });
        }
        let prefixes = request
            .prefixes
            .iter()
            .map(|number| BucketNumber::new(*number, prefix_bits))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| rule("prefixes", "must each fit in prefix_bits bits"))?;
        let fetch = Self { epoch, directory_prefix_bits, prefix_bits, prefixes };
        if fetch.buckets_per_prefix() * got as u64 > MAX_BUCKETS_PER_FETCH {
            return Err(rule(
                "prefix_bits",
                "asks for more than 16384 buckets: send fewer prefixes or more bits",
            ));
        }
        Ok(fetch)
    }
}

impl From<Fetch> for proto::FetchBucketsRequest {
    fn from(fetch: Fetch) -> Self {
        Self {
            epoch: fetch.epoch.get(),
            directory_prefix_bits: fetch.directory_prefix_bits.get().into(),
            prefix_bits: fetch.prefix_bits.get().into(),
            prefixes: fetch.prefixes.iter().map(|number| number.get()).collect(),
        }
    }
}

/// A bucket as it travels.
#[must_use]
pub fn bucket_to_proto(bucket: &Bucket) -> proto::FetchBucketsResponse {
    proto::FetchBucketsResponse {
        bucket: Some(proto::Bucket {
            epoch: bucket.epoch.get(),
            number: Some(bucket.number.get()),
            version: bucket.version,
            entries: bucket.entries().clone(),
            signature: bucket.signature().to_vec().into(),
        }),
    }
}

/// Checks a bucket of a directory with so many prefix bits. Its signature is
/// the caller's to verify.
///
/// # Errors
/// A field is missing or of the wrong length or range.
pub fn bucket_from_proto(
    response: proto::FetchBucketsResponse,
    prefix_bits: PrefixBits,
) -> Result<Bucket, WireError> {
    let bucket = response.bucket.ok_or(WireError::Missing("bucket"))?;
    let number = bucket.number.ok_or(WireError::Missing("bucket.number"))?;
    let number = BucketNumber::new(number, prefix_bits).map_err(|_| WireError::Rule {
        field: "bucket.number",
        rule: "must fit in the directory's prefix bits",
    })?;
    if bucket.version == 0 {
        // It would be left out, and the answer shorter than others.
        return Err(WireError::Rule { field: "bucket.version", rule: "must be at least 1" });
    }
    let got = bucket.entries.len();
    Bucket::from_parts(
        check_epoch("bucket.epoch", bucket.epoch)?,
        prefix_bits,
        number,
        bucket.version,
        bucket.entries,
        array("bucket.signature", &bucket.signature)?,
    )
    .map_err(|_| WireError::Length {
        field: "bucket.entries",
        expected: crate::bucket::BUCKET_BYTES,
        got,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(directory: u32, bits: u32, prefixes: Vec<u32>) -> proto::FetchBucketsRequest {
        proto::FetchBucketsRequest {
            epoch: 1,
            directory_prefix_bits: directory,
            prefix_bits: bits,
            prefixes,
        }
    }

    #[test]
    fn prefixes_out_of_range_and_other_batch_sizes_are_refused() {
        let field = |request| Fetch::try_from(request).err().map(|error: WireError| error.field());
        assert_eq!(field(request(4, 4, vec![15])), None);
        assert_eq!(field(request(4, 4, vec![16])), Some("prefixes"));
        assert_eq!(field(request(4, 5, vec![1])), Some("prefix_bits"));
        assert_eq!(field(request(33, 4, vec![1])), Some("directory_prefix_bits"));
        assert_eq!(field(request(32, 17, vec![1])), Some("prefix_bits"));
        assert_eq!(field(request(32, 32, vec![u32::MAX])), None);
        assert_eq!(field(request(32, 0, vec![0])), Some("prefix_bits"));
        assert_eq!(
            field(proto::FetchBucketsRequest { epoch: 0, ..request(4, 4, vec![1]) }),
            Some("epoch")
        );
        for batch in 0..=257 {
            let fixed = [1, 4, 16, 64, 256].contains(&batch);
            assert_eq!(field(request(4, 4, vec![0; batch])).is_none(), fixed, "{batch}");
        }
    }

    #[test]
    fn a_short_prefix_asks_for_every_bucket_beneath() {
        let fetch = Fetch::try_from(request(4, 2, vec![1, 0, 3, 1])).unwrap();
        let numbers: Vec<_> = fetch.numbers().map(BucketNumber::get).collect();
        assert_eq!(numbers, [4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7]);
        assert_eq!(fetch.buckets_per_prefix(), 4);
        assert_eq!(proto::FetchBucketsRequest::from(fetch), request(4, 2, vec![1, 0, 3, 1]));
    }
}
