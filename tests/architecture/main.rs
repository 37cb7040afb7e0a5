//! The walls of the house: which room imports which, which outside crates belong
//! where, and what no committed text holds. Each rule is also shown to fire.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "lengths are known where they are made")]

mod fires;
mod mentions;
mod rules;
mod texts;

use std::{
    fs,
    path::{Component, Path},
};

use rules::{File, ROOMS, Violation};

/// The module of a file of `src`: `src/store/sled.rs` is `store`, `sled`.
fn module(name: &str) -> Vec<String> {
    let path = Path::new(name).with_extension("");
    let mut module: Vec<String> = path
        .components()
        .skip(1)
        .filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    let file = module.pop();
    match file.as_deref() {
        Some("mod") | None => {}
        Some("lib" | "main") if module.is_empty() => {}
        Some(file) => module.push(file.to_owned()),
    }
    module
}

/// Reads files, given by name and text.
fn read<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<File> {
    let mut files: Vec<File> = sources
        .into_iter()
        .map(|(name, text)| {
            let module = module(name);
            let reading = mentions::read(&module, text)
                .unwrap_or_else(|error| panic!("{name} is not Rust: {error}"));
            File { name: name.to_owned(), module, tests: false, reading }
        })
        .collect();
    let for_tests: Vec<Vec<String>> =
        files.iter().flat_map(|file| file.reading.test_modules.clone()).collect();
    for file in &mut files {
        file.tests = for_tests.iter().any(|module| file.module.starts_with(module));
    }
    files
}

fn told(violations: &[Violation]) -> String {
    violations.iter().fold(String::new(), |told, violation| told + "\n" + &violation.text)
}

fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for path in texts::walk(Path::new("src")).expect("src is readable") {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(texts::root().join(&path)).expect("sources are UTF-8");
            sources.push((path.to_string_lossy().replace('\\', "/"), text));
        }
    }
    assert!(sources.len() > 5, "src was not found");
    sources
}

#[test]
fn every_room_keeps_to_its_floor_and_its_crates() {
    let sources = sources();
    let files = read(sources.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let mentions: usize = files.iter().map(|file| file.reading.mentions.len()).sum();
    assert!(mentions > files.len(), "hardly anything was read");
    let violations = rules::judge(&files);
    assert!(violations.is_empty(), "{}", told(&violations));
}

#[test]
fn the_table_leads_downwards_only() {
    for room in ROOMS {
        for name in room.may.iter().filter(|name| **name != "*") {
            let below = ROOMS.iter().find(|other| other.name == *name);
            let below = below.unwrap_or_else(|| panic!("{name} is no room"));
            assert!(below.floor < room.floor, "{} may not import {name}", room.name);
        }
    }
}

#[test]
fn every_file_of_src_is_declared_by_the_module_above_it() {
    let sources = sources();
    let files = read(sources.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    for file in files.iter().filter(|file| !file.module.is_empty()) {
        let declared = files.iter().any(|other| other.reading.modules.contains(&file.module));
        assert!(declared, "{} belongs to no module: it is not compiled", file.name);
    }
}

#[test]
fn no_committed_text_names_a_machine() {
    let mut found = Vec::new();
    let mut texts_read = 0;
    for file in texts::committed().expect("the package is readable") {
        // Seeds of fuzz targets and other binary files are no texts.
        let Ok(text) = fs::read_to_string(texts::root().join(&file)) else { continue };
        texts_read += 1;
        for (line, what) in texts::machine_lines(&text) {
            found.push(format!("{}:{line}: {what}", file.display()));
        }
    }
    assert!(texts_read > 10, "hardly any text was read");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The only file that allows unsafe code, for the kernels beneath it.
const UNSAFE: &str = "src/pir/kernels/mod.rs";

fn allows_unsafe(name: &str, text: &str) -> bool {
    name != UNSAFE && text.contains("unsafe_code")
}

#[test]
fn unsafe_code_is_in_the_kernels_alone() {
    // Cargo.toml denies it: what is not allowed does not compile.
    let manifest = fs::read_to_string(texts::root().join("Cargo.toml")).expect("it is readable");
    assert!(manifest.contains("\nunsafe_code = \"deny\"\n"));
    assert!(allows_unsafe("src/oprf/mod.rs", "#[allow(unsafe_code)] mod a;"));
    let sources = sources();
    assert!(sources.iter().any(|(name, text)| name == UNSAFE && text.contains("unsafe_code")));
    for (name, text) in &sources {
        assert!(!allows_unsafe(name, text), "{name} allows unsafe code");
    }
}

/// Each use of it says why it is sound, and is small.
#[test]
fn every_unsafe_block_has_its_reason() {
    let mut blocks = 0;
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("unsafe {") && !code.contains("unsafe fn") {
                continue;
            }
            blocks += 1;
            let before = &lines[at.saturating_sub(6)..at];
            let told = before
                .iter()
                .any(|line| line.contains("// SAFETY: ") || line.contains("/// # Safety"));
            assert!(told, "{name}:{}: no word on safety", at + 1);
        }
    }
    assert!(blocks > 5, "the kernels were not found");
}

#[test]
fn source_files_are_short_or_have_a_reason() {
    let sources = sources();
    for (name, text) in &sources {
        let lines = text.lines().count();
        let reason = texts::LONG_FILES.iter().find(|(long, _)| long == name);
        if lines > texts::MOST_LINES {
            assert!(reason.is_some(), "{name} has {lines} lines: split it, or say why not");
        } else {
            assert!(reason.is_none(), "{name} is short now: take it off the list");
        }
    }
    for (name, _) in texts::LONG_FILES {
        assert!(sources.iter().any(|(source, _)| source == name), "{name} is gone");
    }
}
