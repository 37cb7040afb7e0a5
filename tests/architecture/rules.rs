//! The table of the house: which room may import which, and which outside crates
//! belong where. The reasons are in the table, so that a failure says them.

use crate::mentions::{Mention, Reading};

/// Everything below: the front door and the commands, which put rooms together.
const ALL: &[&str] = &["*"];

/// A room, its floor, and the rooms that it may import: each on a lower floor.
pub(crate) struct Room {
    pub(crate) name: &'static str,
    pub(crate) floor: u8,
    pub(crate) may: &'static [&'static str],
}

const fn room(name: &'static str, floor: u8, may: &'static [&'static str]) -> Room {
    Room { name, floor, may }
}

pub(crate) const ROOMS: &[Room] = &[
    room("identifier", 0, &[]),
    room("epoch", 0, &[]),
    room("secret", 0, &[]),
    // Neither knows what an identifier is, nor the other.
    room("oprf", 1, &["epoch", "secret"]),
    room("bucket", 1, &["identifier", "epoch", "secret"]),
    room("pir", 1, &["epoch", "secret"]),
    // Knows neither who asks nor what for.
    room("token", 1, &["secret"]),
    room("wire", 2, &["identifier", "epoch", "secret", "oprf", "bucket", "pir", "token"]),
    // Never oprf, identifier or pir: the store holds what it cannot read.
    room("store", 2, &["epoch", "secret", "bucket"]),
    room("keyring", 2, &["identifier", "epoch", "secret", "oprf", "bucket", "token"]),
    room("clock", 2, &[]),
    // TLS 1.3 and the one cryptographic library beneath it, for all roles.
    room("tls", 2, &[]),
    // The end of a connection, for all roles that take one in.
    room("lingering", 2, &[]),
    room(
        "registry",
        3,
        &["identifier", "epoch", "secret", "oprf", "bucket", "wire", "store", "keyring", "tls"],
    ),
    room(
        "access",
        3,
        &["identifier", "epoch", "secret", "oprf", "bucket", "token", "wire", "store", "keyring"],
    ),
    // Never server, store, registry, keyring: the SDK builds without them.
    room(
        "client",
        4,
        &[
            "identifier",
            "epoch",
            "secret",
            "oprf",
            "bucket",
            "pir",
            "token",
            "wire",
            "clock",
            "tls",
        ],
    ),
    // It links no crypto room: it cannot leak what it cannot parse.
    room("relay", 4, &[]),
    room(
        "server",
        4,
        &[
            "identifier",
            "epoch",
            "secret",
            "oprf",
            "bucket",
            "pir",
            "token",
            "wire",
            "store",
            "keyring",
            "clock",
            "tls",
            "lingering",
            "registry",
            "access",
        ],
    ),
    // Holds the SDK; never merged with the relay.
    room("sidecar", 5, &["identifier", "epoch", "secret", "wire", "lingering", "client"]),
    room("telemetry", 0, &[]),
    room(
        "config",
        6,
        &[
            "identifier",
            "epoch",
            "secret",
            "bucket",
            // The callers that it lists.
            "access",
            "client",
            "relay",
            "server",
            "sidecar",
            "telemetry",
        ],
    ),
    room("commands", 7, ALL),
    room("main", 8, ALL),
    room("lib", 8, ALL),
];

/// Where something may stand.
enum Ground {
    Only(&'static [&'static str]),
    Never(&'static [&'static str]),
}

/// A rule about paths: crates, modules of the standard library, single items.
struct Fence {
    rule: &'static str,
    paths: &'static [&'static str],
    ground: Ground,
    /// Whether code for tests is judged too.
    tests: bool,
    why: &'static str,
}

const PURE: &[&str] = &["identifier", "epoch", "secret", "oprf", "bucket", "pir", "token"];

const FENCES: &[Fence] = &[
    Fence {
        rule: "pure rooms have no runtime",
        paths: &[
            "tokio",
            "tokio_stream",
            "tokio_rustls",
            "tonic",
            "tonic_prost",
            "tonic_types",
            "prost",
            "tower",
            "http",
            "http_body",
            "async_trait",
            "futures",
            "futures_util",
        ],
        ground: Ground::Never(PURE),
        tests: false,
        why: "floors 0 and 1 are computed, not run: anyone can test and fuzz them without a runtime",
    },
    Fence {
        rule: "pure rooms see no world",
        paths: &[
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "std::os",
            "std::time::SystemTime",
            "std::time::Instant",
            "std::time::UNIX_EPOCH",
            "sled",
        ],
        ground: Ground::Never(PURE),
        tests: false,
        why: "floors 0 and 1 have no clock, files or sockets: what they need is passed in",
    },
    Fence {
        rule: "pure rooms draw no randomness",
        paths: &[
            "rand::rng",
            "rand::make_rng",
            "rand::random",
            "rand::random_range",
            "rand::rngs::ThreadRng",
            "rand::rngs::SysRng",
            "rand::rngs::OsRng",
            "rand::prelude",
            "rand_core_06::OsRng",
            "getrandom",
        ],
        ground: Ground::Never(PURE),
        tests: false,
        why: "randomness is passed in, so that vectors can fix it",
    },
    Fence {
        rule: "pure rooms log nothing",
        paths: &["tracing", "log"],
        ground: Ground::Never(PURE),
        tests: false,
        why: "floors 0 and 1 hold identifiers and elements, which no log may see",
    },
    Fence {
        rule: "one file knows the engine",
        paths: &["sled"],
        ground: Ground::Only(&["store/sled*"]),
        tests: true,
        why: "engines are exchanged behind the store's trait",
    },
    Fence {
        rule: "status at the edge",
        paths: &["tonic::Status", "tonic::Code", "tonic_types"],
        ground: Ground::Only(&["server", "client", "relay", "sidecar", "commands/bench*"]),
        tests: false,
        why: "a gRPC status is made at a role's edge, from a room's own error",
    },
    Fence {
        rule: "gRPC in wire and roles",
        paths: &["tonic", "tonic_prost", "tonic_health", "tonic_reflection"],
        ground: Ground::Only(&["wire", "server", "client", "relay", "sidecar", "commands"]),
        tests: true,
        why: "rooms beneath the roles do not know how they are called",
    },
    Fence {
        rule: "messages are decoded in wire",
        paths: &["prost"],
        ground: Ground::Only(&["wire"]),
        tests: false,
        why: "wire checks what it decodes; bytes decoded elsewhere would be unchecked",
    },
    Fence {
        rule: "generated types stop in wire",
        paths: &["crate::wire::proto"],
        // The bench holds the server against an echo of the same messages.
        ground: Ground::Only(&["wire", "server", "client", "relay", "sidecar", "commands/bench*"]),
        tests: false,
        why: "a generated message holds any value; inside there are types that cannot hold a bad one",
    },
    Fence {
        rule: "curve arithmetic in oprf",
        paths: &["voprf", "curve25519_dalek", "rand_core_06"],
        ground: Ground::Only(&["oprf", "commands/bench*"]),
        tests: false,
        why: "elements leave the oprf room as checked bytes",
    },
    Fence {
        rule: "blind signatures in token",
        paths: &["blind_rsa_signatures", "rsa", "pkcs1"],
        ground: Ground::Only(&["token"]),
        tests: false,
        why: "what is signed blindly is verified where it is unblinded",
    },
    Fence {
        rule: "instructions in the kernels",
        paths: &["std::arch", "core::arch"],
        ground: Ground::Only(&["pir/kernels*"]),
        tests: false,
        why: "what is unsafe stands in one room, behind the lengths that it checks",
    },
    Fence {
        rule: "huge pages in one file",
        paths: &["memmap2", "bytemuck"],
        ground: Ground::Only(&["pir/memory"]),
        tests: true,
        why: "memory is mapped for matrices, and no file ever is",
    },
    Fence {
        rule: "one canonical form",
        paths: &["rlibphonenumber", "idna", "unicode_normalization"],
        ground: Ground::Only(&["identifier", "commands"]),
        tests: false,
        why: "an identifier is canonicalised in one function, by client and registry alike",
    },
    Fence {
        rule: "seeds in the keyring",
        paths: &["crate::oprf::ServerKey::derive"],
        ground: Ground::Only(&["oprf", "keyring", "commands/bench*"]),
        tests: false,
        why: "the keyring is the only loader of seeds",
    },
    Fence {
        rule: "signatures of proofs in one room",
        paths: &["aws_lc_rs", "p256"],
        ground: Ground::Only(&["registry/proof*", "token/key"]),
        tests: false,
        why: "what a token or certificate says is believed only behind the checks of one door",
    },
    Fence {
        rule: "one door outwards",
        paths: &["ureq"],
        ground: Ground::Only(&["registry/proof/webhook"]),
        tests: true,
        why: "what calls other hosts must be told which, and sends them one message each",
    },
    Fence {
        rule: "anyhow in commands",
        paths: &["anyhow"],
        ground: Ground::Only(&["commands", "main"]),
        tests: true,
        why: "a library's error says whose fault it is",
    },
    Fence {
        rule: "commands print",
        paths: &[
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "dbg!",
            "std::println!",
            "std::print!",
            "std::eprintln!",
            "std::eprint!",
            "std::dbg!",
            "std::io::stdout",
            "std::io::stderr",
        ],
        ground: Ground::Only(&["commands", "main", "telemetry"]),
        tests: false,
        why: "a library that prints may print what nobody may see",
    },
    Fence {
        rule: "the terminal is the commands'",
        paths: &["clap", "indicatif", "tracing_subscriber", "rcgen"],
        ground: Ground::Only(&["commands", "main", "telemetry", "config"]),
        tests: false,
        why: "the features client and server build without the command line",
    },
];

/// Names of the rules that are not in a table of their own.
pub(crate) const WALL: &str = "walls between rooms";
pub(crate) const UNKNOWN: &str = "rooms stand in the table";
pub(crate) const ROOT: &str = "nobody imports the whole house";
pub(crate) const PLACED: &str = "modules lie where their names say";
pub(crate) const LOOKUP: &str = "the lookup path knows no registry";
pub(crate) const HANDED_ON: &str = "wire hands on no generated type";

/// All rules, by name.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names = vec![WALL, UNKNOWN, ROOT, PLACED, LOOKUP, HANDED_ON];
    names.extend(FENCES.iter().map(|fence| fence.rule));
    names
}

/// A broken rule.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) text: String,
}

/// A file of `src`, read.
pub(crate) struct File {
    /// As a person would look for it: `src/store/sled.rs`.
    pub(crate) name: String,
    /// From the crate's root: `store`, `sled`.
    pub(crate) module: Vec<String>,
    /// The whole file is compiled for tests only.
    pub(crate) tests: bool,
    pub(crate) reading: Reading,
}

impl File {
    fn room(&self) -> &str {
        match self.module.first() {
            Some(room) => room,
            None if self.name.ends_with("main.rs") => "main",
            None => "lib",
        }
    }

    /// Whether this file stands on `ground`: a module, or `room/name*` for all
    /// files whose name begins so.
    fn stands_in(&self, ground: &str) -> bool {
        let mut module = self.module.clone();
        if module.is_empty() {
            module.push(self.room().to_owned());
        }
        let wanted: Vec<&str> = ground.split('/').collect();
        wanted.len() <= module.len()
            && wanted.iter().zip(&module).all(|(wanted, have)| match wanted.strip_suffix('*') {
                Some(beginning) => have.starts_with(beginning),
                None => wanted == have,
            })
    }

    fn violation(&self, rule: &'static str, line: usize, what: &str, why: &str) -> Violation {
        Violation { rule, text: format!("{}:{line}: {what}\n    {rule}: {why}", self.name) }
    }
}

/// Holds all files against all rules.
pub(crate) fn judge(files: &[File]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        if !ROOMS.iter().any(|room| room.name == file.room()) {
            let why = "give the room its line, its floor and what it may import";
            violations.push(file.violation(UNKNOWN, 1, file.room(), why));
        }
        for line in &file.reading.path_attributes {
            let why = "#[path] would hide a file from this test";
            violations.push(file.violation(PLACED, *line, "#[path]", why));
        }
        for mention in &file.reading.mentions {
            violations.extend(wall(file, mention));
            violations.extend(handed_on(file, mention));
            for fence in FENCES {
                violations.extend(fenced(file, mention, fence));
            }
        }
    }
    violations.extend(lookup_path(files));
    violations
}

fn wall(file: &File, mention: &Mention) -> Option<Violation> {
    let may = ROOMS.iter().find(|room| room.name == file.room())?.may;
    if mention.path.first().map(String::as_str) != Some("crate") || may == ALL {
        return None;
    }
    let what = mention.path.join("::");
    let Some(target) = mention.path.get(1) else {
        let why = "name the rooms: what comes through the root is not seen here";
        return Some(file.violation(ROOT, mention.line, &what, why));
    };
    if target == file.room() || may.contains(&target.as_str()) {
        return None;
    }
    if !ROOMS.iter().any(|room| room.name == target) {
        let why = "import from the room itself, not through the front door";
        return Some(file.violation(UNKNOWN, mention.line, &what, why));
    }
    let why = format!("{} may import {may:?}", file.room());
    Some(file.violation(WALL, mention.line, &what, &why))
}

fn fenced(file: &File, mention: &Mention, fence: &Fence) -> Option<Violation> {
    if !fence.tests && (mention.tests || file.tests) {
        return None;
    }
    let allowed = match fence.ground {
        Ground::Only(places) => places.iter().any(|place| file.stands_in(place)),
        Ground::Never(places) => !places.iter().any(|place| file.stands_in(place)),
    };
    if allowed || !fence.paths.iter().any(|path| covers(path, mention)) {
        return None;
    }
    Some(file.violation(fence.rule, mention.line, &mention.path.join("::"), fence.why))
}

/// Whether a mention names `path` or something beneath it, or imports it among
/// everything of a module above it.
fn covers(path: &str, mention: &Mention) -> bool {
    let path: Vec<&str> = path.split("::").collect();
    if mention.path == ["crate"] {
        return false; // That is ROOT's.
    }
    let common = path.iter().zip(&mention.path).take_while(|(a, b)| a == b).count();
    common == path.len() || (mention.glob && common == mention.path.len() && common > 0)
}

fn handed_on(file: &File, mention: &Mention) -> Option<Violation> {
    let generated = covers("crate::wire::proto", mention) && mention.path.len() > 3;
    if !generated || !mention.reexport || mention.path.first().map(String::as_str) != Some("crate")
    {
        return None;
    }
    let why = "a generated type under another name would pass the fence around crate::wire::proto";
    Some(file.violation(HANDED_ON, mention.line, &mention.path.join("::"), why))
}

/// The server's lookup path, with all that it reaches inside the server's room,
/// imports neither the registry nor the identifier. The room's own `mod.rs`,
/// which puts the server together, is not part of the path.
fn lookup_path(files: &[File]) -> Vec<Violation> {
    let server: Vec<&File> =
        files.iter().filter(|file| file.room() == "server" && file.module.len() > 1).collect();
    let mut reached: Vec<&File> =
        server.iter().copied().filter(|file| file.stands_in("server/lookup*")).collect();
    let mut violations = Vec::new();
    if let (Some(file), true) = (server.first(), reached.is_empty()) {
        let why = "the server has files, but none named lookup*: this rule would hold nothing";
        violations.push(file.violation(LOOKUP, 1, "src/server/lookup*", why));
    }
    let mut next = 0;
    while let Some(file) = reached.get(next).copied() {
        next += 1;
        for mention in file.reading.mentions.iter().filter(|mention| !mention.tests) {
            let path: Vec<&str> = mention.path.iter().map(String::as_str).collect();
            match path.as_slice() {
                ["crate", "registry" | "identifier", ..] => {
                    let why = "a lookup that can reach the registry can learn who was found";
                    let what = mention.path.join("::");
                    violations.push(file.violation(LOOKUP, mention.line, &what, why));
                }
                ["crate", "server", name, ..] => {
                    for other in &server {
                        let new = !reached.iter().any(|known| std::ptr::eq(*known, *other));
                        if new && other.module.get(1).is_some_and(|module| module == name) {
                            reached.push(other);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    violations
}
