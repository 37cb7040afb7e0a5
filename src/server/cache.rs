//! Assembled buckets, ready to be sent, as many as fit in a number of bytes.
//! What was changed is never served from here again.

use std::future::Future;

use quick_cache::{Weighter, sync};

use crate::{
    bucket::{BUCKET_BYTES, BucketNumber},
    wire::proto::FetchBucketsResponse,
};

/// What a cached bucket weighs beside its entries: signature and bookkeeping.
const OVERHEAD_BYTES: u64 = 320;

#[derive(Clone)]
struct Bytes;

impl Weighter<BucketNumber, FetchBucketsResponse> for Bytes {
    fn weight(&self, _: &BucketNumber, message: &FetchBucketsResponse) -> u64 {
        let entries = message.bucket.as_ref().map_or(0, |bucket| bucket.entries.len());
        OVERHEAD_BYTES + entries as u64
    }
}

/// The cache. Its messages share their bytes: a clone copies none.
pub(super) struct Cache(sync::Cache<BucketNumber, FetchBucketsResponse, Bytes>);

impl Cache {
    pub(super) fn new(bytes: u64) -> Self {
        let buckets = bytes / (OVERHEAD_BYTES + BUCKET_BYTES as u64);
        let buckets = usize::try_from(buckets).unwrap_or(usize::MAX).max(1);
        Self(sync::Cache::with_weighter(buckets, bytes, Bytes))
    }

    /// A bucket that is here.
    pub(super) fn get(&self, number: BucketNumber) -> Option<FetchBucketsResponse> {
        self.0.get(&number)
    }

    /// A bucket that is here, or is loaded now: once, however many ask.
    pub(super) async fn load<E>(
        &self,
        number: BucketNumber,
        load: impl Future<Output = Result<FetchBucketsResponse, E>>,
    ) -> Result<FetchBucketsResponse, E> {
        self.0.get_or_insert_async(&number, load).await
    }

    /// Drops a bucket. One that is being loaded is handed to those who wait for
    /// it, and not kept: it may have been read before the change.
    pub(super) fn remove(&self, number: BucketNumber) {
        self.0.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::oneshot;

    use super::*;
    use crate::{bucket::PrefixBits, wire::proto};

    fn number(number: u32) -> BucketNumber {
        BucketNumber::new(number, PrefixBits::new(16).unwrap()).unwrap()
    }

    fn message(version: u64) -> FetchBucketsResponse {
        let bucket = proto::Bucket {
            version,
            entries: vec![0; BUCKET_BYTES].into(),
            ..proto::Bucket::default()
        };
        FetchBucketsResponse { bucket: Some(bucket) }
    }

    fn version(message: &FetchBucketsResponse) -> u64 {
        message.bucket.as_ref().unwrap().version
    }

    #[tokio::test]
    async fn a_bucket_changed_while_it_is_loaded_is_not_kept() {
        let cache = Cache::new(1 << 20);
        let (begun, has_begun) = oneshot::channel();
        let (go, goes) = oneshot::channel();
        let loading = cache.load(number(7), async {
            let old = message(1);
            begun.send(()).unwrap();
            goes.await.unwrap();
            Ok::<_, Infallible>(old)
        });
        let changing = async {
            has_begun.await.unwrap();
            cache.remove(number(7));
            go.send(()).unwrap();
        };
        let (Ok(loaded), ()) = tokio::join!(loading, changing);
        assert_eq!(version(&loaded), 1);
        assert!(cache.get(number(7)).is_none());
        let Ok(fresh) = cache.load(number(7), async { Ok::<_, Infallible>(message(2)) }).await;
        assert_eq!(version(&fresh), 2);
        assert_eq!(version(&cache.get(number(7)).unwrap()), 2);
    }

    #[tokio::test]
    async fn who_asks_after_a_change_does_not_wait_for_what_was_read_before() {
        let cache = Cache::new(1 << 20);
        let (begun, has_begun) = oneshot::channel();
        let (go, goes) = oneshot::channel::<()>();
        let loading = cache.load(number(7), async {
            begun.send(()).unwrap();
            goes.await.unwrap();
            Ok::<_, Infallible>(message(1))
        });
        let asking = async {
            has_begun.await.unwrap();
            cache.remove(number(7));
            let Ok(fresh) = cache.load(number(7), async { Ok::<_, Infallible>(message(2)) }).await;
            go.send(()).unwrap();
            fresh
        };
        let (Ok(old), fresh) = tokio::join!(loading, asking);
        assert_eq!((version(&old), version(&fresh)), (1, 2));
        // The late one does not take the place of what is kept.
        assert_eq!(version(&cache.get(number(7)).unwrap()), 2);
    }

    #[tokio::test]
    async fn the_cache_keeps_to_its_bytes() {
        let cache = Cache::new(10 * BUCKET_BYTES as u64);
        for n in 0..100 {
            let Ok(_) = cache.load(number(n), async { Ok::<_, Infallible>(message(1)) }).await;
        }
        assert!(cache.0.weight() <= 10 * BUCKET_BYTES as u64);
        assert!(cache.0.len() > 5);
    }
}
