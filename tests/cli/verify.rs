use super::estate::{Estate, assert_code, blindbook, text};

#[test]
fn a_loaded_directory_is_sound_and_an_absent_one_is_refused() {
    let estate = Estate::new();
    let verify = |keys: &Estate, data: std::path::PathBuf| {
        let mut command = blindbook();
        command.arg("verify").arg("--data").arg(data).arg("--keys").arg(keys.keys());
        command.output().unwrap()
    };
    let output = verify(&estate, estate.path("absent"));
    assert_code(&output, 2);

    let mut lines = String::from("sii,user\n");
    for n in 0..400 {
        lines.push_str(&format!("person.{n}@example.com,user-{n}\n"));
    }
    assert_code(&estate.load(&lines), 0);
    let output = verify(&estate, estate.data());
    assert_code(&output, 0);
    let found = text(&output.stdout);
    assert_eq!(found, "4 buckets, 400 identifiers, 400 mappings; 0 buckets are faulty\n");

    // Another directory's keys open nothing, and say so.
    let output = verify(&Estate::new(), estate.data());
    assert_code(&output, 1);
    assert!(text(&output.stdout).contains("4 buckets are faulty"), "{}", text(&output.stdout));
}
