//! One-time codes: good once, for one identifier and one provider, for a while
//! and a few tries.

use std::sync::Arc;

use blindbook::{
    registry::proof::{CodeLimits, Codes, Fault, MemoryPending, ProofError, SpoolSender},
    secret::Secret,
};

use crate::support::{NOW_S, Outbox, name, pending, provider, sii};

fn codes(limits: CodeLimits) -> (Codes, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::default());
    let codes = Codes::new(pending(), outbox.clone(), Secret::new([9; 32]), limits).unwrap();
    (codes, outbox)
}

/// Another code of as many digits.
fn wrong(code: &str) -> String {
    code.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect()
}

fn is(result: Result<impl Sized, ProofError>, expected: &str) {
    assert_eq!(result.err().map(|error| name(&error)).as_deref(), Some(expected));
}

#[tokio::test]
async fn the_right_code_is_good_once() {
    let (codes, outbox) = codes(CodeLimits::default());
    let (sii, wa) = (sii("tel:+12015550123"), provider("wa.example"));
    let expires_s = codes.start(&sii, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    assert_eq!(expires_s, NOW_S + 600);
    let code = outbox.code();
    assert_eq!(code.len(), 8);
    let confirmed = codes.finish(&sii, &wa, &code, NOW_S + 1).await.unwrap();
    assert!(!format!("{confirmed:?}").contains("1201555"));
    is(codes.finish(&sii, &wa, &code, NOW_S + 2).await, "CodeUnknown");
}

#[tokio::test]
async fn the_message_names_the_provider_and_prints_nothing_in_debug() {
    let (codes, outbox) = codes(CodeLimits::default());
    let mail = sii("mailto:alice@mail.example");
    codes.start(&mail, &provider("wa.example"), NOW_S, &mut rand::rng()).await.unwrap();
    let sent = outbox.sent.lock().unwrap();
    let message = &sent[0];
    assert!(message.text().contains("wa.example"));
    assert_eq!(message.to(), &mail);
    assert_eq!(message.provider().as_str(), "wa.example");
    assert_eq!(format!("{message:?}"), "CodeMessage(..)");
}

#[tokio::test]
async fn a_code_is_for_its_identifier_and_provider_only() {
    let (codes, outbox) = codes(CodeLimits::default());
    let (alice, bob) = (sii("tel:+12015550123"), sii("tel:+12015550124"));
    let (wa, signal) = (provider("wa.example"), provider("signal.example"));
    codes.start(&alice, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    let code = outbox.code();
    is(codes.finish(&alice, &signal, &code, NOW_S).await, "CodeUnknown");
    is(codes.finish(&bob, &wa, &code, NOW_S).await, "CodeUnknown");
    codes.start(&alice, &signal, NOW_S, &mut rand::rng()).await.unwrap();
    if outbox.code() != code {
        is(codes.finish(&alice, &signal, &code, NOW_S).await, "CodeWrong");
    }
    codes.finish(&alice, &wa, &code, NOW_S).await.unwrap();
}

#[tokio::test]
async fn a_code_expires() {
    let (codes, outbox) = codes(CodeLimits::default());
    let (sii, wa) = (sii("tel:+12015550123"), provider("wa.example"));
    codes.start(&sii, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    is(codes.finish(&sii, &wa, &outbox.code(), NOW_S + 600).await, "CodeUnknown");
    codes.start(&sii, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    codes.finish(&sii, &wa, &outbox.code(), NOW_S + 599).await.unwrap();
}

#[tokio::test]
async fn a_code_has_few_tries() {
    let (codes, outbox) = codes(CodeLimits { tries: 3, ..CodeLimits::default() });
    let (sii, wa) = (sii("tel:+12015550123"), provider("wa.example"));
    codes.start(&sii, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    let code = outbox.code();
    // What is no code costs no try.
    for malformed in ["", "1234567", "123456789", "1234567a", "\u{661}2345678"] {
        is(codes.finish(&sii, &wa, malformed, NOW_S).await, "CodeForm");
    }
    is(codes.finish(&sii, &wa, &wrong(&code), NOW_S).await, "CodeWrong");
    is(codes.finish(&sii, &wa, &wrong(&code), NOW_S).await, "CodeWrong");
    is(codes.finish(&sii, &wa, &wrong(&code), NOW_S).await, "CodeTries");
    is(codes.finish(&sii, &wa, &code, NOW_S).await, "CodeUnknown");
}

#[tokio::test]
async fn the_last_try_may_be_the_right_one() {
    let (codes, outbox) = codes(CodeLimits { tries: 2, ..CodeLimits::default() });
    let (sii, wa) = (sii("tel:+12015550123"), provider("wa.example"));
    codes.start(&sii, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    let code = outbox.code();
    is(codes.finish(&sii, &wa, &wrong(&code), NOW_S).await, "CodeWrong");
    codes.finish(&sii, &wa, &code, NOW_S).await.unwrap();
    is(codes.finish(&sii, &wa, &code, NOW_S).await, "CodeUnknown");
}

#[tokio::test]
async fn a_second_code_voids_the_first() {
    let (codes, outbox) = codes(CodeLimits::default());
    let (sii, wa) = (sii("tel:+12015550123"), provider("wa.example"));
    codes.start(&sii, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    let first = outbox.code();
    codes.start(&sii, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    let second = outbox.code();
    if first != second {
        is(codes.finish(&sii, &wa, &first, NOW_S).await, "CodeWrong");
    }
    codes.finish(&sii, &wa, &second, NOW_S).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_finish_at_once_one_succeeds_and_tries_stay_few() {
    let (codes, outbox) = codes(CodeLimits { tries: 10, ..CodeLimits::default() });
    let (alice, wa) = (sii("tel:+12015550123"), provider("wa.example"));
    codes.start(&alice, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    let code = outbox.code();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (codes, alice, wa, code) = (codes.clone(), alice.clone(), wa.clone(), code.clone());
            tokio::spawn(async move { codes.finish(&alice, &wa, &code, NOW_S).await.is_ok() })
        })
        .collect();
    let mut confirmed = 0;
    for task in tasks {
        confirmed += u32::from(task.await.unwrap());
    }
    assert_eq!(confirmed, 1);
}

#[tokio::test]
async fn codes_are_limited_per_identifier_and_per_provider() {
    let limits = CodeLimits {
        per_identifier_and_provider_per_h: 2,
        per_identifier_per_h: 3,
        per_provider_per_h: 5,
        ..CodeLimits::default()
    };
    let (codes, outbox) = codes(limits);
    let alice = sii("tel:+12015550123");
    let start = async |sii: &str, name: &str, now_s| {
        codes.start(&self::sii(sii), &provider(name), now_s, &mut rand::rng()).await
    };
    let alice_text = alice.as_str();
    start(alice_text, "wa.example", NOW_S).await.unwrap();
    start(alice_text, "wa.example", NOW_S).await.unwrap();
    is(start(alice_text, "wa.example", NOW_S).await, "CodeLimitIdentifier");
    start(alice_text, "signal.example", NOW_S).await.unwrap();
    is(start(alice_text, "signal.example", NOW_S).await, "CodeLimitIdentifier");
    is(start(alice_text, "threema.example", NOW_S).await, "CodeLimitIdentifier");
    for number in ["tel:+12015550131", "tel:+12015550132", "tel:+12015550133"] {
        start(number, "wa.example", NOW_S).await.unwrap();
    }
    let refused = start("tel:+12015550134", "wa.example", NOW_S).await;
    assert_eq!(refused.as_ref().err().map(ProofError::fault), Some(Fault::Limited));
    is(refused, "CodeLimitProvider");
    assert_eq!(outbox.sent.lock().unwrap().len(), 6, "nothing is sent beyond a limit");
    start(alice_text, "wa.example", NOW_S + 3600).await.unwrap();
}

#[tokio::test]
async fn a_code_that_could_not_be_sent_is_good_for_nothing() {
    let (codes, outbox) = codes(CodeLimits::default());
    let (sii, wa) = (sii("tel:+12015550123"), provider("wa.example"));
    *outbox.broken.lock().unwrap() = true;
    is(codes.start(&sii, &wa, NOW_S, &mut rand::rng()).await, "Send");
    is(codes.finish(&sii, &wa, "00000000", NOW_S).await, "CodeUnknown");
}

#[tokio::test]
async fn no_code_goes_to_a_user_id_and_none_beyond_what_can_be_kept() {
    let (codes, _) = codes(CodeLimits::default());
    let wa = provider("wa.example");
    let start = codes.start(&sii("acct:alice@host.example"), &wa, NOW_S, &mut rand::rng()).await;
    is(start, "NoChannel");

    let full = Arc::new(MemoryPending::new(2));
    let outbox = Arc::new(Outbox::default());
    let limits = CodeLimits::default();
    let codes = Codes::new(full, outbox.clone(), Secret::new([9; 32]), limits).unwrap();
    let refused = codes.start(&sii("tel:+12015550123"), &wa, NOW_S, &mut rand::rng()).await;
    assert_eq!(refused.err().map(|error| error.fault()), Some(Fault::Limited));
    assert!(outbox.sent.lock().unwrap().is_empty());
}

#[test]
fn limits_out_of_range_are_refused() {
    for limits in [
        CodeLimits { digits: 5, ..CodeLimits::default() },
        CodeLimits { digits: 9, ..CodeLimits::default() },
        CodeLimits { tries: 0, ..CodeLimits::default() },
        CodeLimits { tries: 11, ..CodeLimits::default() },
        CodeLimits { lifetime_s: 59, ..CodeLimits::default() },
        CodeLimits { lifetime_s: 3601, ..CodeLimits::default() },
    ] {
        let outbox = Arc::new(Outbox::default());
        is(Codes::new(pending(), outbox, Secret::new([9; 32]), limits), "Setting");
    }
}

#[tokio::test]
async fn the_spool_is_its_owners_only() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let sender = Arc::new(SpoolSender::new(&spool).unwrap());
    let limits = CodeLimits { digits: 6, ..CodeLimits::default() };
    let codes = Codes::new(pending(), sender, Secret::new([9; 32]), limits).unwrap();
    let (sii, wa) = (sii("tel:+12015550123"), provider("wa.example"));
    codes.start(&sii, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    let files: Vec<_> =
        std::fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    #[cfg(unix)]
    for (path, mode) in [(&files[0], 0o600), (&spool, 0o700)] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
    }
    let text = std::fs::read_to_string(&files[0]).unwrap();
    let (headers, body) = text.split_once("\n\n").unwrap();
    assert_eq!(
        headers,
        format!("To: tel:+12015550123\nProvider: wa.example\nExpires: {}", NOW_S + 600)
    );
    let code: String = body.chars().take_while(char::is_ascii_digit).collect();
    codes.finish(&sii, &wa, &code, NOW_S).await.unwrap();
}
