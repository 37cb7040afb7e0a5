//! What a client keeps back while a directory is overloaded. A refusal costs a
//! server less than an answer, but not nothing: refused often enough, callers
//! leave it no time to answer any. So a client sends about three requests for two
//! that are answered once it is refused, and refuses the rest itself (Google, Site Reliability
//! Engineering, chapter 21, "Client-Side Throttling").

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::RngExt as _;
use tokio::time::{Duration, Instant};

/// Requests that go out for each that is answered.
const TIMES: f64 = 1.5;

/// Requests that go out whatever became of others: few refusals say little.
const FREE: f64 = 4.0;

/// How long until what was seen counts half.
const HALF_LIFE: Duration = Duration::from_secs(2);

/// Decides which requests go out to one server, by what became of those before.
/// Nothing else goes into it: neither what is asked nor what is found.
#[derive(Debug)]
pub struct Throttle(Mutex<Seen>);

/// Requests of late; older ones count less.
#[derive(Debug)]
struct Seen {
    /// Those that ended and those that were kept back.
    asked: f64,
    answered: f64,
    at: Instant,
}

impl Seen {
    fn fade(&mut self) {
        let now = Instant::now();
        let lives = now.duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let left = (-lives).exp2();
        self.asked *= left;
        self.answered *= left;
        self.at = now;
    }

    /// How likely one is kept back.
    fn kept_back(&self) -> f64 {
        (self.asked - FREE - TIMES * self.answered) / (self.asked + 1.0)
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self(Mutex::new(Seen { asked: 0.0, answered: 0.0, at: Instant::now() }))
    }
}

impl Throttle {
    /// Whether a request may go out now.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.decide(rand::rng().random())
    }

    /// The same, by a number between 0 and 1 drawn at random.
    fn decide(&self, drawn: f64) -> bool {
        let mut seen = self.seen();
        seen.fade();
        let admits = drawn >= seen.kept_back();
        if !admits {
            seen.asked += 1.0;
        }
        admits
    }

    /// A request that went out was answered.
    pub fn answered(&self) {
        self.ended(1.0);
    }

    /// A request that went out was refused for want of room. One that failed
    /// otherwise says nothing of that.
    pub fn refused(&self) {
        self.ended(0.0);
    }

    fn ended(&self, answered: f64) {
        let mut seen = self.seen();
        seen.fade();
        seen.asked += 1.0;
        seen.answered += answered;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};
    use tokio::time::advance;

    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    /// What became of the requests of some time: sent, and answered.
    async fn ask(throttle: &Throttle, steps: usize, each: usize, room: usize) -> (usize, usize) {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut all_sent, mut all_answered) = (0, 0);
        for _ in 0..steps {
            advance(STEP).await;
            let sent = (0..each).filter(|_| throttle.decide(rng.random())).count();
            let answered = sent.min(room);
            (0..answered).for_each(|_| throttle.answered());
            (answered..sent).for_each(|_| throttle.refused());
            all_sent += sent;
            all_answered += answered;
        }
        (all_sent, all_answered)
    }

    #[tokio::test(start_paused = true)]
    async fn of_ten_times_too_many_few_too_many_go_out_and_none_too_few() {
        let throttle = Throttle::default();
        ask(&throttle, 100, 100, 10).await;
        let (sent, answered) = ask(&throttle, 100, 100, 10).await;
        assert!(answered >= 990, "{answered} of 1000 that there was room for");
        assert!((1_350..1_700).contains(&sent), "{sent} sent");
    }

    #[tokio::test(start_paused = true)]
    async fn all_go_out_again_soon_after_there_is_room() {
        let throttle = Throttle::default();
        ask(&throttle, 100, 100, 10).await;
        // Half a minute later.
        ask(&throttle, 300, 5, 10).await;
        assert_eq!(ask(&throttle, 100, 5, 10).await, (500, 500));
        // One who waits need not ask to find that out.
        let throttle = Throttle::default();
        ask(&throttle, 100, 100, 0).await;
        advance(HALF_LIFE * 10).await;
        assert_eq!(ask(&throttle, 1, 5, 10).await, (5, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_answered_few_go_out_but_some() {
        let throttle = Throttle::default();
        ask(&throttle, 100, 10, 0).await;
        let (sent, _) = ask(&throttle, 1000, 10, 0).await;
        assert!((100..2_000).contains(&sent), "{sent} of 10,000 sent");
    }

    #[tokio::test(start_paused = true)]
    async fn few_refusals_and_many_answers_keep_nothing_back() {
        let throttle = Throttle::default();
        (0..4).for_each(|_| throttle.refused());
        assert!(throttle.decide(0.0));
        (0..1000).for_each(|_| throttle.answered());
        (0..450).for_each(|_| throttle.refused());
        assert!(throttle.decide(0.0));
        (0..300).for_each(|_| throttle.refused());
        assert!(!throttle.decide(0.0));
        assert!(throttle.decide(0.999));
    }
}
