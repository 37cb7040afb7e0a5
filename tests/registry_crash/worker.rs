//! The process that is killed: writers that each act for people of their own,
//! in buckets that they share, and a sweeper.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use blindbook::{
    bucket::Audience,
    registry::{Ledger, LedgerError, Port, proof::TOKEN_LIFETIME_S},
    store::SledGenerations,
};
use rand::RngExt as _;

use crate::{
    operation::{self, Kind, Operation, Token},
    oracle::{Line, Oracle},
    world::{
        BRIEF_S, OPTIONS, SWEPT, WRITERS, World, provider, signature, sii, until, user, which,
    },
};

/// Simulated time from one operation of any writer to the next: proofs are
/// forgotten before an identifier has too many.
const STEP_S: u64 = 7;

pub(crate) async fn work_for_ever(root: &Path, start_s: u64) {
    let world = Arc::new(World::open(root));
    let generations = SledGenerations::open(world.data(), OPTIONS).await.unwrap();
    let ledger = Ledger::open(Arc::new(generations), world.keyring()).await.unwrap();
    let oracle = Oracle::open(root);
    let clock = Arc::new(AtomicU64::new(start_s));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let (world, ledger, oracle) = (world.clone(), ledger.clone(), oracle.clone());
        let clock = clock.clone();
        let writer = Writer { number, world, ledger, oracle, clock, now_s: start_s, last: None };
        tasks.spawn(writer.write_for_ever());
    }
    let number = WRITERS;
    let writer = Writer { number, world, ledger, oracle, clock, now_s: start_s, last: None };
    tasks.spawn(writer.sweep_for_ever());
    tasks.join_next().await.unwrap().unwrap();
}

struct Writer {
    number: usize,
    world: Arc<World>,
    ledger: Ledger,
    oracle: Oracle,
    clock: Arc<AtomicU64>,
    now_s: u64,
    /// The last proof that was used, and for whom.
    last: Option<(usize, Token)>,
}

impl Writer {
    async fn write_for_ever(mut self) {
        loop {
            self.tick(STEP_S);
            let operation = self.draw().await;
            self.perform(operation).await;
        }
    }

    async fn sweep_for_ever(mut self) {
        loop {
            self.tick(STEP_S);
            let of = rand::rng().random_range(SWEPT);
            let name = operation::name(&mut rand::rng());
            let proof = self.world.prove(of, name.0, self.now_s).await;
            let brief = rand::rng().random_ratio(2, 3);
            let (business, circle) = (false, rand::rng().random());
            self.perform(Operation::Claim { of, name, business, circle, brief, proof }).await;
            if rand::rng().random_ratio(1, 3) {
                self.tick(BRIEF_S);
                self.perform(Operation::Sweep { now_s: self.now_s }).await;
            }
        }
    }

    /// Takes the time, which goes on for all.
    fn tick(&mut self, by_s: u64) {
        self.now_s = self.clock.fetch_add(by_s, Ordering::SeqCst) + by_s;
    }

    async fn draw(&self) -> Operation {
        let of = operation::identifier(self.number, WRITERS, &mut rand::rng());
        let name = operation::name(&mut rand::rng());
        let business = rand::rng().random();
        let proof = || self.world.prove(of, name.0, self.now_s);
        let kind = operation::kind(&mut rand::rng());
        match kind {
            Kind::Claim => {
                let circle = rand::rng().random_ratio(1, 3);
                let proof = proof().await;
                Operation::Claim { of, name, business, circle, brief: false, proof }
            }
            Kind::ReleaseOwn => Operation::ReleaseOwn { of, name },
            Kind::ReleaseAll => Operation::ReleaseAll { of },
            Kind::Release => Operation::Release { of, name, proof: proof().await },
            Kind::SetDefault => Operation::SetDefault { of, name, proof: proof().await },
            Kind::SetAudience => Operation::SetAudience { of, name, business },
            Kind::Port => {
                let drawn = operation::name(&mut rand::rng()).0;
                let from = rand::rng().random_ratio(3, 4).then_some(drawn);
                Operation::Port { of, from, to: name, proof: proof().await }
            }
            Kind::Replay => match self.last.clone() {
                Some((of, proof)) if proof.now_s + TOKEN_LIFETIME_S > self.now_s => {
                    Operation::Replay { of, proof }
                }
                _ => Operation::ReleaseOwn { of, name },
            },
        }
    }

    /// Writes an operation down, does it, and writes down how it was answered.
    async fn perform(&mut self, operation: Operation) {
        let begun = Line::Begun { writer: self.number, operation: operation.clone() };
        self.oracle.write(&begun);
        let refusal = self.ask(&operation).await.err().map(|error| name(&error));
        if let (None, Some((of, proof))) = (&refusal, operation.proof()) {
            self.last = Some((of, proof.clone()));
        }
        self.oracle.write(&Line::Answered { writer: self.number, refusal });
    }

    async fn ask(&self, operation: &Operation) -> Result<(), LedgerError> {
        let (world, ledger, now_s) = (&self.world, &self.ledger, self.now_s);
        match operation {
            Operation::Claim { of, name, business, circle, brief, proof } => {
                let claim = world.claim_of(*of, *name, (*business, *circle, *brief), proof).await;
                ledger.claim(now_s, claim).await.map(drop)
            }
            Operation::ReleaseOwn { of, name } => {
                let (by, whom) = (provider(name.0), user(name.1));
                ledger.release_own(now_s, by, &sii(*of), whom).await.map(drop)
            }
            Operation::ReleaseAll { of } => ledger.release_all(now_s, &sii(*of)).await.map(drop),
            Operation::Release { of, name, proof } => {
                ledger.release(now_s, world.control(*of, proof).await, which(*name)).await
            }
            Operation::SetDefault { of, name, proof } => {
                ledger.set_default(now_s, world.control(*of, proof).await, which(*name)).await
            }
            Operation::SetAudience { of, name, business } => {
                let audience = if *business { Audience::Business } else { Audience::Personal };
                let signature = signature(*of, *name, *business, until(false, 0));
                ledger.set_audience(now_s, &sii(*of), which(*name), audience, signature).await
            }
            Operation::Port { of, from, to, proof } => {
                let claim = world.claim_of(*of, *to, (false, false, false), proof).await;
                let from = from.map(provider);
                let port = Port { sii: sii(*of), from, to: Some(claim) };
                ledger.port(now_s, port).await.map(drop)
            }
            Operation::Replay { of, proof } => {
                ledger.claim(now_s, world.claim(*of, proof).await).await.map(drop)
            }
            Operation::Sweep { now_s } => {
                let swept = ledger.sweep(*now_s, None, 1000).await?;
                assert_eq!((swept.skipped, swept.next), (0, None));
                Ok(())
            }
        }
    }
}

/// The name of a refusal.
fn name(error: &LedgerError) -> String {
    match error {
        LedgerError::NotFound => "NotFound".into(),
        LedgerError::ProofUsed => "ProofUsed".into(),
        LedgerError::TooManyMappings => "TooManyMappings".into(),
        LedgerError::PortToItself => "PortToItself".into(),
        other => panic!("{other}"),
    }
}
