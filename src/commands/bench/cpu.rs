//! How much processor time this process has used: what a rate on a shared
//! machine hides, and what tells whether a measurement had the machine.

use std::{fs, thread, time::Duration};

/// Linux reports times to user space in hundredths of a second on every
/// architecture (`USER_HZ`).
const TICKS_PER_S: u64 = 100;

/// Of all threads, ended ones too; `None` where the system does not tell.
pub(super) fn used() -> Option<Duration> {
    parse(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// What was used since.
pub(super) fn since(earlier: Option<Duration>) -> Option<Duration> {
    used()?.checked_sub(earlier?)
}

/// What the calling thread alone has used, to the nanosecond; `None` where the
/// system does not tell.
pub(super) fn of_thread() -> Option<Duration> {
    // The kernel books a running thread's time at its ticks, and whenever the
    // thread gives way.
    thread::yield_now();
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let ns = schedstat.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(ns))
}

fn parse(stat: &str) -> Option<Duration> {
    // proc(5): the name is in parentheses and may hold anything; utime and stime
    // are the 14th and 15th field, the state after the name being the third.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    let ticks = next()?.checked_add(next()?)?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_S))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn user_and_system_time_are_read_behind_any_name() {
        let stat = "7 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 250 50 9 9 20 0 4 0";
        assert_eq!(parse(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse("7 (a) R 1 2 3"), None);
        assert_eq!(parse(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_works_uses_time_and_one_that_sleeps_does_not() {
        let (Some(before), begun) = (of_thread(), Instant::now()) else { return };
        thread::sleep(Duration::from_millis(50));
        let slept = of_thread().unwrap().saturating_sub(before);
        assert!(slept < Duration::from_millis(40), "{slept:?}");
        let mut n = 0_u64;
        while of_thread().unwrap() < before + slept + Duration::from_millis(20) {
            n = std::hint::black_box(n + 1);
            assert!(begun.elapsed() < Duration::from_secs(60), "time stands still");
        }
    }
}
