use std::{fmt::Write as _, process::Stdio, time::Duration};

use super::estate::{Estate, assert_code, blindbook, text};

#[test]
fn bad_lines_are_named_by_file_line_and_reason_and_the_rest_is_loaded() {
    let estate = Estate::new();
    let lines =
        "sii,user\n+14155550100,alice\n+1415,short\n+14155550101,\nbob@,bob\n+14155550102,carol\n";
    let output = estate.load(lines);
    assert_code(&output, 0);
    let errors = text(&output.stderr);
    for line in [3, 4, 5] {
        assert!(errors.contains(&format!("people.csv:{line}: ")), "{errors}");
    }
    assert!(!errors.contains("1415") && !errors.contains("bob"), "{errors}");
    let done = text(&output.stdout);
    assert!(done.contains("2 mappings added") && done.contains("3 refused"), "{done}");
}

#[test]
fn strict_refuses_all_when_one_line_is_bad() {
    let estate = Estate::new();
    let file = estate.write("people.csv", "sii,user\n+14155550100,alice\n+1415,short\n");
    let output = estate.load_command().arg("--strict").arg(&file).output().unwrap();
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("people.csv:3: "));
    let output = estate.load("sii,user\n+14155550199,zoe\n");
    assert!(text(&output.stdout).contains("the directory has 1 mappings of 1 identifiers"));
}

#[test]
fn the_same_file_again_changes_nothing_and_standard_input_and_jsonl_are_read() {
    let estate = Estate::new();
    let lines = "sii,user,audience,default,ttl_s\n+14155550100,alice,personal,true,60\n\
                 +14155550100,alice.two,business,,\n";
    assert!(text(&estate.load(lines).stdout).contains("2 mappings added"));
    assert!(text(&estate.load(lines).stdout).contains("0 mappings added, 0 changed, 2 unchanged"));
    let json = "{\"sii\":\"+14155550100\",\"user\":\"alice\",\"default\":true,\"ttl_s\":60}\n\
                {\"sii\":\"eve@example.com\",\"user\":\"eve\",\"audience\":\"business\"}\n";
    let output = estate.load_stdin(json);
    assert_code(&output, 0);
    let done = text(&output.stdout);
    assert!(done.contains("1 mappings added, 0 changed, 1 unchanged"), "{done}");
    assert!(text(&estate.load_stdin(lines).stdout).contains("2 unchanged"));
}

#[test]
fn wrong_use_ends_with_2_and_changes_nothing() {
    let estate = Estate::new();
    let output = estate.load("name,number\nalice,1\n");
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("sii,user"), "{}", text(&output.stderr));
    let output = estate.load_command().arg("absent.csv").output().unwrap();
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("absent.csv"));
    let output = estate.load_command().output().unwrap();
    assert_code(&output, 2);

    // Another provider key than before would break every client that pinned it.
    assert_code(&estate.load("sii,user\n+14155550100,alice\n"), 0);
    let other = Estate::new();
    let file = estate.write("more.csv", "sii,user\n+14155550101,bob\n");
    let output = estate
        .load_command()
        .arg("--ap-key")
        .arg(other.keys().join("ap.key"))
        .arg(&file)
        .output()
        .unwrap();
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("wa.example"));
}

#[test]
fn keys_are_never_overwritten() {
    let estate = Estate::new();
    let before = std::fs::read(estate.keys().join("identity.key")).unwrap();
    let output = blindbook().args(["keygen", "--out"]).arg(estate.keys()).output().unwrap();
    assert_code(&output, 2);
    assert!(text(&output.stderr).contains("never overwritten"));
    assert_eq!(std::fs::read(estate.keys().join("identity.key")).unwrap(), before);
}

#[test]
fn a_load_that_is_killed_and_started_again_ends_as_one_that_was_not() {
    const PEOPLE: usize = 30_000;
    let mut lines = String::from("sii,user\n");
    for n in 0..PEOPLE {
        writeln!(lines, "person.{n}@example.com,user-{n}").unwrap();
    }
    let estate = Estate::new();
    // A directory of one bucket before, so that the killed load also re-splits.
    assert_code(&estate.load("sii,user\nfirst@example.com,first\n"), 0);
    let file = estate.write("many.csv", &lines);
    for delay_ms in [40, 120, 250, 400, 600] {
        let mut child = estate
            .load_command()
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        // It may be done already on a fast machine, and that is well too.
        let _ = child.kill();
        child.wait().unwrap();
    }
    let output = estate.load_command().arg(&file).output().unwrap();
    assert_code(&output, 0);
    let done = text(&output.stdout);
    assert!(
        done.contains("the directory has 30001 mappings of 30001 identifiers under 8 prefix bits"),
        "{done}"
    );
    let serving = estate.serve();
    let asked = ["first@example.com", "person.0@example.com", "person.17123@example.com"];
    let output = estate.lookup(&serving, &asked);
    assert_code(&output, 0);
    for user in ["first", "user-0", "user-17123"] {
        assert!(text(&output.stdout).contains(&format!("\"user\":\"{user}\"")));
    }
}
