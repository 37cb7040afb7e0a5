//! The directory of partners: in memory for every call, sealed in the store for
//! the next start, changed at run time. What the configuration lists is fixed
//! while the server runs.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::sync::Mutex;

use super::{Alias, Partner, PartnerUri, record};
use crate::{
    keyring::{Keyring, KeyringError},
    store::{Generations, MAX_META_BYTES, StoreError},
};

/// Where they lie in the metadata.
const PREFIX: &str = "partner/";

/// Most partners, so that nobody fills the memory by mistake.
const MOST: usize = 100_000;

/// Why partners cannot be opened or changed. No text names who a partner is.
#[derive(Debug, thiserror::Error)]
pub enum PartnersError {
    // Who asks, or the operator.
    /// A partner of this URI is there.
    #[error("there is a partner with this URI: set it instead, or remove it first")]
    Exists,
    /// No partner of this URI is there.
    #[error("there is no partner with this URI")]
    Absent,
    /// Another partner has the alias.
    #[error("the alias {0} is another partner's: each has its own")]
    AliasTaken(Alias),
    /// It stands in the configuration.
    #[error("this partner stands in the server's configuration: change it there, and restart")]
    Configured,
    /// The configuration lists a URI twice.
    #[error("the configuration lists the URI of {0} twice: a certificate names one partner")]
    ListedTwice(Alias),
    /// Configuration and store disagree.
    #[error(
        "the partner {0} is configured otherwise than it was put while the server ran: take it out \
         of the configuration, or start once without it there and remove it with `blindbook partners`"
    )]
    Contradiction(Alias),
    /// Its record is too long to be kept.
    #[error("the partner covers too much: split its numbers and domains over several partners")]
    TooLong,
    /// There are too many.
    #[error("there are as many partners as a server takes")]
    TooMany,

    // The disk's.
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record could not be sealed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// All partners. Clones share them.
#[derive(Clone)]
pub struct Partners(Arc<Inner>);

struct Inner {
    generations: Arc<dyn Generations>,
    keyring: Arc<Keyring>,
    configured: HashSet<PartnerUri>,
    table: RwLock<Table>,
    /// One change at a time.
    changing: Mutex<()>,
}

#[derive(Default)]
struct Table {
    by_uri: HashMap<PartnerUri, Arc<Partner>>,
    aliases: HashMap<Alias, PartnerUri>,
}

impl Table {
    fn insert(&mut self, partner: Partner) {
        if let Some(old) = self.by_uri.get(&partner.uri) {
            self.aliases.remove(&old.alias);
        }
        self.aliases.insert(partner.alias.clone(), partner.uri.clone());
        self.by_uri.insert(partner.uri.clone(), Arc::new(partner));
    }

    fn remove(&mut self, uri: &PartnerUri) {
        if let Some(old) = self.by_uri.remove(uri) {
            self.aliases.remove(&old.alias);
        }
    }

    /// Refuses an alias that is another's.
    fn check_alias(&self, partner: &Partner) -> Result<(), PartnersError> {
        match self.aliases.get(&partner.alias) {
            Some(uri) if *uri != partner.uri => {
                Err(PartnersError::AliasTaken(partner.alias.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// A page of partners, ascending by URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Each, and whether the configuration lists it.
    pub partners: Vec<(Arc<Partner>, bool)>,
    /// The last one's URI, if there are more.
    pub next: Option<PartnerUri>,
}

impl fmt::Debug for Partners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partners({})", self.table().by_uri.len())
    }
}

impl Partners {
    /// Reads the partners that were put at run time, and adds those that are
    /// configured. One that is in both places must be the same in both.
    ///
    /// # Errors
    /// The store failed or is damaged, or what is configured contradicts itself
    /// or what was put.
    pub async fn open(
        generations: Arc<dyn Generations>,
        keyring: Arc<Keyring>,
        configured: Vec<Partner>,
    ) -> Result<Self, PartnersError> {
        let mut table = Table::default();
        for (name, sealed) in generations.meta_list(PREFIX).await? {
            let partner = unseal(&keyring, &name, &sealed)
                .ok_or(StoreError::Damaged("the record of a partner is malformed"))?;
            table.insert(partner);
        }
        let mut fixed = HashSet::new();
        for partner in configured {
            if fixed.contains(&partner.uri) {
                return Err(PartnersError::ListedTwice(partner.alias));
            }
            if table.by_uri.get(&partner.uri).is_some_and(|stored| **stored != partner) {
                return Err(PartnersError::Contradiction(partner.alias));
            }
            table.check_alias(&partner)?;
            fixed.insert(partner.uri.clone());
            table.insert(partner);
        }
        let (configured, table) = (fixed, RwLock::new(table));
        let changing = Mutex::new(());
        Ok(Self(Arc::new(Inner { generations, keyring, configured, table, changing })))
    }

    /// The partner whose certificate holds this URI, byte for byte, now.
    #[must_use]
    pub fn by_uri(&self, uri: &str) -> Option<Arc<Partner>> {
        self.table().by_uri.get(uri).cloned()
    }

    /// Adds a partner that is not there yet (`new`), or puts one in the place of
    /// the one that is. Durable, and in force for every call from now on, when
    /// it returns.
    ///
    /// # Errors
    /// [`PartnersError`]; nothing changed.
    pub async fn put(&self, partner: Partner, new: bool) -> Result<(), PartnersError> {
        let this = self.clone();
        // To its end, even if whoever asked goes away.
        finish(tokio::spawn(async move { this.put_now(partner, new).await })).await
    }

    async fn put_now(&self, partner: Partner, new: bool) -> Result<(), PartnersError> {
        let inner = &*self.0;
        let _turn = inner.changing.lock().await;
        self.check(&partner, new)?;
        let name = name_of(&inner.keyring, &partner.uri);
        let sealed = inner.keyring.seal_row(&name, &record::encode(&partner), &mut rand::rng())?;
        if sealed.len() > MAX_META_BYTES {
            return Err(PartnersError::TooLong);
        }
        inner.generations.meta_put(&meta_key(&name), sealed).await?;
        self.table_mut().insert(partner);
        Ok(())
    }

    /// Whether [`Self::put`] would take it as things stand.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn check(&self, partner: &Partner, new: bool) -> Result<(), PartnersError> {
        if self.0.configured.contains(&partner.uri) {
            return Err(PartnersError::Configured);
        }
        let table = self.table();
        match (table.by_uri.contains_key(&partner.uri), new) {
            (true, true) => return Err(PartnersError::Exists),
            (false, false) => return Err(PartnersError::Absent),
            (false, true) if table.by_uri.len() >= MOST => return Err(PartnersError::TooMany),
            _ => {}
        }
        table.check_alias(partner)
    }

    /// Removes a partner. Durable, and in force for every call from now on, when
    /// it returns.
    ///
    /// # Errors
    /// [`PartnersError`]; nothing changed.
    pub async fn remove(&self, uri: PartnerUri) -> Result<(), PartnersError> {
        let this = self.clone();
        finish(tokio::spawn(async move { this.remove_now(&uri).await })).await
    }

    async fn remove_now(&self, uri: &PartnerUri) -> Result<(), PartnersError> {
        let inner = &*self.0;
        let _turn = inner.changing.lock().await;
        if inner.configured.contains(uri) {
            return Err(PartnersError::Configured);
        }
        if !self.table().by_uri.contains_key(uri) {
            return Err(PartnersError::Absent);
        }
        let key = meta_key(&name_of(&inner.keyring, uri));
        inner.generations.meta_remove(vec![key]).await?;
        self.table_mut().remove(uri);
        Ok(())
    }

    /// At most `limit` partners whose URI comes after `after`, ascending.
    #[must_use]
    pub fn list(&self, after: Option<&str>, limit: usize) -> Listed {
        let table = self.table();
        let beyond =
            |partner: &&Arc<Partner>| after.is_none_or(|after| partner.uri.as_str() > after);
        let mut partners: Vec<_> = table.by_uri.values().filter(beyond).cloned().collect();
        drop(table);
        partners.sort_unstable_by(|one, next| one.uri.cmp(&next.uri));
        let more = partners.len() > limit;
        partners.truncate(limit);
        let next = partners.last().filter(|_| more).map(|last| last.uri.clone());
        let configured = |partner: &Partner| self.0.configured.contains(&partner.uri);
        let partners = partners.into_iter().map(|partner| (configured(&partner), partner));
        Listed { partners: partners.map(|(fixed, partner)| (partner, fixed)).collect(), next }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.0.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn finish(
    change: tokio::task::JoinHandle<Result<(), PartnersError>>,
) -> Result<(), PartnersError> {
    const ENDED: StoreError = StoreError::Misuse("a change of partners was cut short");
    change.await.unwrap_or(Err(PartnersError::Store(ENDED)))
}

/// The name of a record: a keyed hash, so that it tells nothing.
fn name_of(keyring: &Keyring, uri: &PartnerUri) -> [u8; 16] {
    keyring.pending_key(&blake3::derive_key("blindbook v1 partner", uri.as_str().as_bytes()))
}

fn meta_key(name: &[u8; 16]) -> String {
    format!("{PREFIX}{:032x}", u128::from_be_bytes(*name))
}

fn unseal(keyring: &Keyring, key: &str, sealed: &[u8]) -> Option<Partner> {
    let name = u128::from_str_radix(key.strip_prefix(PREFIX)?, 16).ok()?.to_be_bytes();
    let partner = record::decode(&keyring.open_row(&name, sealed).ok()?)?;
    (name_of(keyring, &partner.uri) == name).then_some(partner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{Coverage, Role},
        identifier::Provider,
        keyring,
        store::MemoryGenerations,
    };

    struct Scene {
        generations: Arc<MemoryGenerations>,
        keyring: Arc<Keyring>,
    }

    impl Scene {
        fn new() -> Self {
            let keys = tempfile::tempdir().unwrap();
            keyring::generate(keys.path(), &mut rand::rng()).unwrap();
            let keyring = Arc::new(Keyring::load(keys.path()).unwrap());
            Self { generations: Arc::default(), keyring }
        }

        async fn open(&self, configured: Vec<Partner>) -> Result<Partners, PartnersError> {
            Partners::open(self.generations.clone(), self.keyring.clone(), configured).await
        }
    }

    fn partner(name: &str) -> Partner {
        Partner {
            uri: PartnerUri::parse(&format!("spiffe://{name}.example/ap")).unwrap(),
            alias: Alias::parse(name).unwrap(),
            role: Role::Ap(Provider::parse(&format!("{name}.example")).unwrap()),
            evaluations_per_day: None,
        }
    }

    fn uri(name: &str) -> String {
        format!("spiffe://{name}.example/ap")
    }

    #[tokio::test]
    async fn partners_are_put_changed_removed_and_there_again_at_the_next_start() {
        let scene = Scene::new();
        let partners = scene.open(Vec::new()).await.unwrap();
        assert!(partners.by_uri(&uri("wa")).is_none());
        partners.put(partner("wa"), true).await.unwrap();
        partners.put(partner("sg"), true).await.unwrap();
        let again = partners.put(partner("wa"), true).await;
        assert!(matches!(again, Err(PartnersError::Exists)));
        let absent = partners.put(partner("th"), false).await;
        assert!(matches!(absent, Err(PartnersError::Absent)));
        let mut changed = partner("wa");
        changed.alias = Alias::parse("wa-2").unwrap();
        changed.evaluations_per_day = Some(7);
        partners.put(changed.clone(), false).await.unwrap();
        assert!(*partners.by_uri(&uri("wa")).unwrap() == changed);
        // The alias that it had is free again, the one that it has is not.
        let mut other = partner("th");
        other.alias = changed.alias.clone();
        let taken = partners.put(other.clone(), true).await;
        assert!(matches!(taken, Err(PartnersError::AliasTaken(_))));
        other.alias = Alias::parse("wa").unwrap();
        partners.put(other, true).await.unwrap();
        partners.remove(PartnerUri::parse(&uri("sg")).unwrap()).await.unwrap();
        let gone = partners.remove(PartnerUri::parse(&uri("sg")).unwrap()).await;
        assert!(matches!(gone, Err(PartnersError::Absent)));
        for partners in [partners, scene.open(Vec::new()).await.unwrap()] {
            assert!(*partners.by_uri(&uri("wa")).unwrap() == changed);
            assert!(partners.by_uri(&uri("sg")).is_none());
            assert!(partners.by_uri("SPIFFE://wa.example/ap").is_none());
            assert_eq!(format!("{partners:?}"), "Partners(2)");
        }
    }

    #[tokio::test]
    async fn what_is_configured_is_fixed_and_may_not_contradict_what_was_put() {
        let scene = Scene::new();
        let partners = scene.open(vec![partner("wa")]).await.unwrap();
        let put = partners.put(partner("wa"), false).await;
        assert!(matches!(put, Err(PartnersError::Configured)));
        let removed = partners.remove(PartnerUri::parse(&uri("wa")).unwrap()).await;
        assert!(matches!(removed, Err(PartnersError::Configured)));
        partners.put(partner("sg"), true).await.unwrap();

        let twice = scene.open(vec![partner("wa"), partner("wa")]).await;
        assert!(matches!(twice, Err(PartnersError::ListedTwice(_))));
        let mut other = partner("sg");
        other.role = Role::Admin;
        let contradicts = scene.open(vec![other]).await.unwrap_err();
        assert!(matches!(contradicts, PartnersError::Contradiction(_)));
        assert!(!contradicts.to_string().contains("spiffe"));
        let mut alias = partner("wa");
        alias.alias = Alias::parse("sg").unwrap();
        let taken = scene.open(vec![alias]).await;
        assert!(matches!(taken, Err(PartnersError::AliasTaken(_))));
        let same = scene.open(vec![partner("sg"), partner("wa")]).await.unwrap();
        assert_eq!(same.list(None, 9).partners.len(), 2);
    }

    #[tokio::test]
    async fn lists_are_paged_by_uri() {
        let scene = Scene::new();
        let partners = scene.open(vec![partner("m")]).await.unwrap();
        for name in ["z", "a", "q"] {
            partners.put(partner(name), true).await.unwrap();
        }
        let mut names = Vec::new();
        let mut after = None;
        loop {
            let page = partners.list(after.as_ref().map(PartnerUri::as_str), 3);
            names.extend(
                page.partners.iter().map(|(partner, fixed)| (partner.alias.to_string(), *fixed)),
            );
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected = [("a", false), ("m", true), ("q", false), ("z", false)];
        assert_eq!(names, expected.map(|(name, fixed)| (name.to_owned(), fixed)));
    }

    #[tokio::test]
    async fn records_tell_nothing_and_altered_or_moved_ones_are_damage() {
        let scene = Scene::new();
        let partners = scene.open(Vec::new()).await.unwrap();
        partners.put(partner("wa"), true).await.unwrap();
        partners.put(partner("sg"), true).await.unwrap();
        let stored = scene.generations.meta_list("").await.unwrap();
        assert_eq!(stored.len(), 2);
        for (key, value) in &stored {
            let text = String::from_utf8_lossy(value);
            assert!(!key.contains("example") && !text.contains("example"));
        }
        let (moved, record) = (&stored[0].0, stored[1].1.clone());
        scene.generations.meta_put(moved, record).await.unwrap();
        let damaged = scene.open(Vec::new()).await;
        assert!(matches!(damaged, Err(PartnersError::Store(StoreError::Damaged(_)))));
    }

    #[tokio::test]
    async fn a_record_that_the_store_does_not_hold_is_refused_whole() {
        let scene = Scene::new();
        let partners = scene.open(Vec::new()).await.unwrap();
        let domains: Vec<String> = (0..1000).map(|n| format!("d{n}.example")).collect();
        let mut wide = partner("wa");
        wide.role = Role::Authority(Coverage::new(&[], &domains).unwrap());
        let refused = partners.put(wide, true).await;
        assert!(matches!(refused, Err(PartnersError::TooLong)));
        assert!(partners.by_uri(&uri("wa")).is_none());
    }
}
