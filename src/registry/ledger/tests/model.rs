//! Any sequence of operations, against a map that says what must be there:
//! after each step every client finds it, rows and buckets agree, and a
//! refusal changed no byte.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::scene::{
    NOW_S, PROVIDERS, Scene, Seen, changed_slots, circle, claim, control, outcome, proof, provider,
    seconds, signature, signed, sii, user,
};
use crate::{
    bucket::{Audience, Mapping, Placement},
    identifier::Ssi,
    registry::{
        Circle, Claim, LedgerError, Port, ProofRecord, VerifiedClaim, VerifiedControl, Which,
        row::MAX_PROOFS,
    },
};

const IDENTIFIERS: usize = 3;
const USERS: usize = 4;
/// Circles, the open sequence included as the first.
const CIRCLES: usize = 3;

/// Which mapping: provider, user, circle.
type Name = (usize, usize, usize);

#[derive(Debug, Clone)]
enum Operation {
    Claim { sii: usize, name: Name, business: bool, days: u64 },
    Replay,
    ReleaseOwn { sii: usize, provider: usize, user: usize },
    ReleaseAll { sii: usize },
    Release { sii: usize, name: Name },
    SetDefault { sii: usize, name: Name },
    SetAudience { sii: usize, name: Name, business: bool },
    Port { sii: usize, from: Option<usize>, to: Option<Name> },
    Sweep,
    Wait { seconds: u64 },
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    let sii = || 0..IDENTIFIERS;
    let name = || (0..PROVIDERS.len(), 0..USERS, 0..CIRCLES);
    prop_oneof![
        8 => (sii(), name(), any::<bool>(), 1..=31_u64).prop_map(|(sii, name, business, days)| {
            Operation::Claim { sii, name, business, days }
        }),
        1 => Just(Operation::Replay),
        2 => (sii(), 0..PROVIDERS.len(), 0..USERS).prop_map(|(sii, provider, user)| {
            Operation::ReleaseOwn { sii, provider, user }
        }),
        1 => sii().prop_map(|sii| Operation::ReleaseAll { sii }),
        3 => (sii(), name()).prop_map(|(sii, name)| Operation::Release { sii, name }),
        3 => (sii(), name()).prop_map(|(sii, name)| Operation::SetDefault { sii, name }),
        3 => (sii(), name(), any::<bool>()).prop_map(|(sii, name, business)| {
            Operation::SetAudience { sii, name, business }
        }),
        2 => (
            sii(),
            proptest::option::of(0..PROVIDERS.len()),
            proptest::option::of(name()),
        )
            .prop_map(|(sii, from, to)| Operation::Port { sii, from, to }),
        1 => Just(Operation::Sweep),
        1 => (1..20 * 86_400_u64).prop_map(|seconds| Operation::Wait { seconds }),
        1 => Just(Operation::Reopen),
    ]
}

/// What is known of one mapping.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    provider: usize,
    user: usize,
    audience: Audience,
    since: u32,
    until: u32,
}

/// By identifier and circle, in the order of n.
#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<(usize, usize), Vec<Known>>);

impl Model {
    fn of(&self, sii: usize) -> impl Iterator<Item = &Known> {
        self.0.iter().filter(move |((of, _), _)| *of == sii).flat_map(|(_, known)| known)
    }

    fn find(&mut self, sii: usize, (provider, user, circle): Name) -> Option<&mut Known> {
        let known = self.0.get_mut(&(sii, circle))?;
        known.iter_mut().find(|known| (known.provider, known.user) == (provider, user))
    }

    /// Removes from an identifier what is not to be kept; how many, and the
    /// greatest default among them.
    fn remove(&mut self, sii: usize, keep: impl Fn(usize, &Known) -> bool) -> (usize, u32) {
        let (mut removed, mut since) = (0, 0);
        for ((of, circle), known) in &mut self.0 {
            known.retain(|known| {
                let kept = *of != sii || keep(*circle, known);
                if !kept {
                    removed += 1;
                    since = since.max(known.since);
                }
                kept
            });
        }
        (removed, since)
    }

    fn claim(
        &mut self,
        sii: usize,
        name: Name,
        audience: Audience,
        until: u32,
        since: u32,
    ) -> Result<(), &'static str> {
        if let Some(known) = self.find(sii, name) {
            (known.audience, known.until) = (audience, until);
            return Ok(());
        }
        if self.of(sii).count() >= 8 {
            return Err("too many mappings");
        }
        let (provider, user, circle) = name;
        let known = Known { provider, user, audience, since, until };
        self.0.entry((sii, circle)).or_default().push(known);
        Ok(())
    }

    fn set_default(&mut self, sii: usize, name: Name, now: u32) -> Result<(), &'static str> {
        let mine = self.find(sii, name).ok_or("not found")?.since;
        let greatest = self.of(sii).map(|known| known.since).max().unwrap();
        let holders = self.of(sii).filter(|known| known.since == greatest).count();
        if mine != greatest || holders > 1 {
            self.find(sii, name).unwrap().since = now.max(greatest + 1);
        }
        Ok(())
    }

    fn seen(&self, sii: usize, circle: usize) -> Vec<Seen> {
        let known = self.0.get(&(sii, circle)).into_iter().flatten();
        let seen = known.map(|known| {
            let (provider, user) = (PROVIDERS[known.provider].to_owned(), name(known.user));
            (provider, user, known.audience, known.since, known.until)
        });
        seen.collect()
    }
}

fn name(user: usize) -> String {
    format!("user-{user}")
}

const fn audience(business: bool) -> Audience {
    if business { Audience::Business } else { Audience::Personal }
}

fn in_circle(circle_: usize) -> Option<Circle> {
    (circle_ > 0).then(|| circle(u8::try_from(circle_).unwrap()))
}

fn which((provider_, user_, circle_): Name) -> Which {
    let ssi = Ssi::new(provider(PROVIDERS[provider_]), user(&name(user_))).unwrap();
    Which { ssi, circle: in_circle(circle_).map(|circle| circle.id()) }
}

/// A claim at a later time than those of the scene.
fn claim_at(now_s: u64, of: usize, name_: Name, business: bool, until: u32) -> Claim {
    let (Which { ssi, .. }, circle) = (which(name_), in_circle(name_.2));
    let made = claim(&sii(of), ssi.provider().as_str(), ssi.user().as_str());
    let proof = ProofRecord { expires_s: now_s + 300, ..proof() };
    let verified = VerifiedClaim::new(sii(of), ssi.provider().clone(), proof, now_s);
    let audience = audience(business);
    signed(Claim { verified, circle, audience, verified_until: until, ..made })
}

/// A proof of control at a later time.
fn control_at(now_s: u64, of: usize) -> VerifiedControl {
    let proof = ProofRecord { expires_s: now_s + 300, ..control(&sii(of)).proof() };
    VerifiedControl::new(sii(of), proof)
}

struct Run {
    scene: Scene,
    model: Model,
    now_s: u64,
    last: Option<Claim>,
    /// Proofs that were used since the last wait, by identifier.
    used: [usize; IDENTIFIERS],
}

impl Run {
    /// Does one operation; what came of it, and what had to.
    #[expect(clippy::too_many_lines, reason = "one arm for each operation")]
    async fn step(&mut self, operation: &Operation) -> [Result<(), &'static str>; 2] {
        let ledger = self.scene.ledger.clone();
        let (now_s, now) = (self.now_s, seconds(self.now_s));
        let mut next = self.model.clone();
        let (done, expected, proves): (Result<(), LedgerError>, _, Option<usize>) = match operation
        {
            Operation::Claim { sii, name, business, days } => {
                let until = seconds(now_s + days * 86_400);
                let claim = claim_at(now_s, *sii, *name, *business, until);
                let expected = match days {
                    31 => Err("verified too long"),
                    _ => next.claim(*sii, *name, audience(*business), until, 0),
                };
                let done = ledger.claim(now_s, claim.clone()).await.map(drop);
                if done.is_ok() {
                    self.last = Some(claim);
                }
                (done, expected, (*days < 31).then_some(*sii))
            }
            Operation::Replay => {
                let Some(last) = self.last.clone() else { return [Ok(()), Ok(())] };
                (ledger.claim(now_s, last).await.map(drop), Err("proof used"), None)
            }
            Operation::ReleaseOwn { sii: of, provider: by, user: whom } => {
                let of_user = (*by, *whom);
                let keep = |_, known: &Known| (known.provider, known.user) != of_user;
                let expected = match next.remove(*of, keep).0 {
                    0 => Err("not found"),
                    _ => Ok(()),
                };
                let (by, whom) = (provider(PROVIDERS[*by]), user(&name(*whom)));
                let done = ledger.release_own(now_s, by, &sii(*of), whom).await;
                (done.map(drop), expected, None)
            }
            Operation::ReleaseAll { sii: of } => {
                let (removed, _) = next.remove(*of, |_, _| false);
                let done = ledger.release_all(now_s, &sii(*of)).await;
                let done = done.map(|released| assert_eq!(released, removed));
                (done, Ok(()), None)
            }
            Operation::Release { sii, name } => {
                let keep = |circle, known: &Known| (known.provider, known.user, circle) != *name;
                let expected = match next.remove(*sii, keep).0 {
                    0 => Err("not found"),
                    _ => Ok(()),
                };
                let control = control_at(now_s, *sii);
                (ledger.release(now_s, control, which(*name)).await, expected, Some(*sii))
            }
            Operation::SetDefault { sii, name } => {
                let expected = next.set_default(*sii, *name, now);
                let control = control_at(now_s, *sii);
                (ledger.set_default(now_s, control, which(*name)).await, expected, Some(*sii))
            }
            Operation::SetAudience { sii: of, name, business } => {
                let which = which(*name);
                let audience = audience(*business);
                let known = next.find(*of, *name);
                let mapping = Mapping {
                    ssi: which.ssi.clone(),
                    audience,
                    default_since: 0,
                    verified_until: known.as_ref().map_or(0, |known| known.until),
                    ttl_s: 86_400,
                };
                let expected = known.map(|known| known.audience = audience).ok_or("not found");
                let of = sii(*of);
                let signature = signature(&of, mapping);
                let done = ledger.set_audience(now_s, &of, which, audience, signature).await;
                (done, expected, None)
            }
            Operation::Port { sii: of, from, to } => {
                let until = seconds(now_s + 86_400);
                let to_itself = to.is_some_and(|to| *from == Some(to.0));
                let keep = |_, known: &Known| Some(known.provider) != *from;
                let (_, since) = next.remove(*of, keep);
                let expected = match to {
                    Some(_) if to_itself => Err("port to itself"),
                    Some(to) => next.claim(*of, *to, Audience::Personal, until, since),
                    None => Ok(()),
                };
                let port = Port {
                    sii: sii(*of),
                    from: from.map(|from| provider(PROVIDERS[from])),
                    to: to.map(|to| claim_at(now_s, *of, to, false, until)),
                };
                let proves = (to.is_some() && !to_itself).then_some(*of);
                (ledger.port(now_s, port).await.map(drop), expected, proves)
            }
            Operation::Sweep => {
                let mut removed = 0;
                for sii in 0..IDENTIFIERS {
                    removed += next.remove(sii, |_, known| known.until > now).0;
                }
                let swept = ledger.sweep(now_s, None, 1000).await.map(|swept| {
                    assert_eq!((swept.removed, swept.next), (removed, None));
                });
                (swept, Ok(()), None)
            }
            Operation::Wait { .. } | Operation::Reopen => return [Ok(()), Ok(())],
        };
        let full = proves.is_some_and(|sii| self.used[sii] >= MAX_PROOFS);
        let expected = if full { Err("too many proofs") } else { expected };
        if expected.is_ok() {
            self.model = next;
            if let Some(sii) = proves {
                self.used[sii] += 1;
            }
        }
        [outcome(done), expected]
    }

    /// What every client finds, and what the directory says of itself.
    async fn check(&self) {
        for of in 0..IDENTIFIERS {
            for ring in 0..CIRCLES {
                let found = self.scene.find(&sii(of), in_circle(ring).as_ref()).await;
                assert!(found == self.model.seen(of, ring), "another answer than the model's");
            }
        }
        let mappings = self.model.0.values().map(Vec::len).sum::<usize>();
        self.scene.is_clean(mappings as u64).await;
    }
}

async fn run(scene: Scene, operations: Vec<Operation>) {
    let used = [0; IDENTIFIERS];
    let mut run = Run { scene, model: Model::default(), now_s: NOW_S, last: None, used };
    for operation in operations {
        match operation {
            Operation::Wait { seconds } => {
                // Long enough that every proof is forgotten.
                run.now_s += seconds + 900;
                run.last = None;
                run.used = [0; IDENTIFIERS];
                continue;
            }
            Operation::Reopen => {
                run.scene = run.scene.reopened().await;
                run.check().await;
                continue;
            }
            _ => {}
        }
        let before = run.scene.bytes().await;
        let mut slots = Vec::new();
        for n in 0..IDENTIFIERS {
            slots.push(run.scene.slots(&sii(n)).await);
        }
        let [done, expected] = run.step(&operation).await;
        assert_eq!(done, expected, "{operation:?}");
        let after = run.scene.bytes().await;
        if done.is_err() {
            assert!(before == after, "{operation:?} was refused and changed something");
        }
        // Nothing is touched but slots of identifiers that were to change.
        for (number, slot) in changed_slots(&before, &after) {
            let slot = u8::try_from(slot).unwrap();
            let mut owners = 0;
            for (n, slots) in slots.iter().enumerate() {
                let bucket = Placement::of(&sii(n)).bucket(run.scene.bits().await);
                let owns = slots.contains(&slot) || run.scene.slots(&sii(n)).await.contains(&slot);
                let meant = match operation {
                    Operation::Claim { sii, .. }
                    | Operation::ReleaseOwn { sii, .. }
                    | Operation::ReleaseAll { sii }
                    | Operation::Release { sii, .. }
                    | Operation::SetDefault { sii, .. }
                    | Operation::SetAudience { sii, .. }
                    | Operation::Port { sii, .. } => sii == n,
                    Operation::Sweep => true,
                    Operation::Replay | Operation::Wait { .. } | Operation::Reopen => false,
                };
                owners += usize::from(bucket.get() as usize == number && owns && meant);
            }
            assert!(owners > 0, "{operation:?} touched the slot of somebody else");
        }
        run.check().await;
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn any_operations_leave_what_the_model_says(
        operations in proptest::collection::vec(operation(), 1..60),
    ) {
        block_on(async { run(Scene::memory(1).await, operations).await });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]
    #[test]
    fn any_operations_leave_what_the_model_says_on_disk(
        operations in proptest::collection::vec(operation(), 1..30),
    ) {
        block_on(async { run(Scene::sled(1).await, operations).await });
    }
}
