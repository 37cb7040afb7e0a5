use super::estate::{Estate, assert_code, blindbook, text};

const PEOPLE: &str = "sii,user,audience,default
+14155550100,alice,personal,true
+14155550100,alice.work,business,
(415) 555-0101,bob,,
carol@example.com,carol,business,
";

#[test]
fn what_was_loaded_is_found_and_what_was_not_is_a_miss() {
    let estate = Estate::new();
    let output = estate.load(PEOPLE);
    assert_code(&output, 0);
    let serving = estate.serve();
    let output = estate.lookup(
        &serving,
        &["(415) 555-0100", "dave@example.com", "tel:+1-415-555-0101", "CAROL@Example.com"],
    );
    assert_code(&output, 0);
    assert_eq!(
        text(&output.stdout),
        "{\"sii\":\"tel:+14155550100\",\"mappings\":[\
         {\"provider\":\"wa.example\",\"user\":\"alice\",\"audience\":\"personal\",\"default\":true,\"ttl_s\":86400},\
         {\"provider\":\"wa.example\",\"user\":\"alice.work\",\"audience\":\"business\",\"default\":false,\"ttl_s\":86400}]}\n\
         {\"sii\":\"mailto:dave@example.com\",\"mappings\":[]}\n\
         {\"sii\":\"tel:+14155550101\",\"mappings\":[\
         {\"provider\":\"wa.example\",\"user\":\"bob\",\"audience\":\"personal\",\"default\":true,\"ttl_s\":86400}]}\n\
         {\"sii\":\"mailto:carol@example.com\",\"mappings\":[\
         {\"provider\":\"wa.example\",\"user\":\"carol\",\"audience\":\"business\",\"default\":true,\"ttl_s\":86400}]}\n"
    );
    assert!(text(&output.stderr).contains("without --state"));

    // With a state folder: the second run answers from it, the third asks again.
    for refresh in [&[][..], &[], &["--refresh"]] {
        let output = estate
            .lookup_command(&serving)
            .arg("--state")
            .arg(estate.path("state"))
            .arg("--provider-key")
            .arg(format!("wa.example={}", estate.keys().join("ap.pub").display()))
            .args(refresh)
            .arg("carol@example.com")
            .output()
            .unwrap();
        assert_code(&output, 0);
        assert!(text(&output.stdout).contains("\"user\":\"carol\""));
        assert_eq!(text(&output.stderr), "");
    }
    let (code, log) = serving.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped"));
}

#[test]
fn bad_input_ends_with_2_and_says_what_to_do_but_not_the_value() {
    let estate = Estate::new();
    let lookup = |more: &[&str]| {
        let identity = estate.keys().join("identity.pub");
        let mut command = blindbook();
        command.args(["lookup", "--server", "https://127.0.0.1:9", "--identity"]).arg(identity);
        command.args(more).output().unwrap()
    };
    for (more, says) in [
        (vec!["415 555 0100"], "region"),
        (vec!["--region", "US", "12345"], "identifier 1"),
        (vec!["alice@example.com", "+999123"], "identifier 2"),
        (vec!["--region", "Europe", "+14155550100"], "region"),
        (vec!["--provider-key", "nonsense", "+14155550100"], "NAME=FILE"),
        (vec!["--mode", "open", "+14155550100"], "mode"),
        (vec![], "SII"),
    ] {
        let output = lookup(&more);
        assert_code(&output, 2);
        let error = text(&output.stderr);
        assert!(error.contains(says), "{more:?}: {error}");
        assert!(!error.contains("555 0100") && !error.contains("999123"), "{error}");
    }
    let output = blindbook()
        .args(["lookup", "--server", "https://127.0.0.1:9", "--identity", "absent", "a@b.example"])
        .output()
        .unwrap();
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("absent"));
}

#[test]
fn a_server_that_cannot_be_reached_or_is_another_ends_with_1() {
    let estate = Estate::new();
    let identity = estate.keys().join("identity.pub");
    let output = blindbook()
        .args(["lookup", "--server", "http://127.0.0.1:9", "a@b.example", "--identity"])
        .arg(&identity)
        .output()
        .unwrap();
    assert_code(&output, 1);

    assert_code(&estate.load(PEOPLE), 0);
    let serving = estate.serve();
    let stranger = Estate::new();
    let output = blindbook()
        .args(["lookup", "--server", &format!("https://{}", serving.address), "a@b.example"])
        .arg("--identity")
        .arg(stranger.keys().join("identity.pub"))
        .arg("--ca")
        .arg(estate.keys().join("dev-ca.pem"))
        .output()
        .unwrap();
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("identity"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
}
