//! What a directory holds before a load: the people of its buckets, checked
//! against the buckets they lie in.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    error::LoadError,
    people::Person,
    row::{self, Providers},
};
use crate::{
    bucket::{Bucket, BucketNumber, Placement, PrefixBits},
    keyring::Keyring,
    store::{Store, StoredRows},
};

/// The generation that a load reads, for workers that may block.
#[derive(Clone)]
pub(super) struct Source {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    runtime: Handle,
}

impl Source {
    /// To be called within a runtime.
    pub(super) fn new(store: Arc<dyn Store>, keyring: Arc<Keyring>) -> Self {
        Self { store, keyring, runtime: Handle::current() }
    }

    pub(super) fn bits(&self) -> PrefixBits {
        self.store.prefix_bits()
    }

    /// The people of a bucket.
    pub(super) fn people(
        &self,
        number: BucketNumber,
        providers: &mut Providers,
    ) -> Result<Vec<Person>, LoadError> {
        let rows = self.runtime.block_on(self.store.rows(number))?;
        self.open(number, rows, providers)
    }

    /// A bucket and its people; `None` if it was never written.
    pub(super) fn bucket(
        &self,
        number: BucketNumber,
        providers: &mut Providers,
    ) -> Result<Option<(Bucket, Vec<Person>)>, LoadError> {
        let read = async { (self.store.bucket(number).await, self.store.rows(number).await) };
        let (bucket, rows) = self.runtime.block_on(read);
        let (bucket, rows) = (bucket?, rows?);
        if bucket.as_ref().map_or(0, |bucket| bucket.version) != rows.version {
            return Err(LoadError::Damaged(
                "a bucket and its rows are of different versions, or something else writes",
            ));
        }
        let Some(bucket) = bucket else { return Ok(None) };
        Ok(Some((bucket, self.open(number, rows, providers)?)))
    }

    fn open(
        &self,
        number: BucketNumber,
        rows: StoredRows,
        providers: &mut Providers,
    ) -> Result<Vec<Person>, LoadError> {
        let mut people = Vec::with_capacity(rows.rows.len());
        for stored in rows.rows {
            let text = self.keyring.open_row(&stored.key.0, &stored.sealed)?;
            let listing = row::decode(&text, providers)?;
            // The seal binds a row to its name, not to its bucket.
            if self.keyring.row_key(&listing.sii) != stored.key.0
                || Placement::of(&listing.sii).bucket(self.bits()) != number
            {
                return Err(LoadError::Damaged("a row lies in a bucket that is not its own"));
            }
            people.push(Person::of(stored.key, listing, stored.sealed));
        }
        Ok(people)
    }
}
