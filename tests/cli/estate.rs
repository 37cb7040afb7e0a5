//! A folder with keys, data and a running server.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use super::certificates::{Authority, Client};

/// A folder in which an operator works.
pub(crate) struct Estate {
    folder: tempfile::TempDir,
}

pub(crate) fn blindbook() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blindbook"));
    command.env_remove("BLINDBOOK_LOG").env_remove("RUST_LOG");
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout: {}\nstderr: {}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

impl Estate {
    /// Keys and certificates, and no data yet.
    pub(crate) fn new() -> Self {
        let estate = Self { folder: tempfile::tempdir().unwrap() };
        let output =
            blindbook().args(["keygen", "--dev-tls", "--out"]).arg(estate.keys()).output().unwrap();
        assert_code(&output, 0);
        estate
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.path("keys")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// `blindbook load` into this estate's data, files still to be named.
    pub(crate) fn load_command(&self) -> Command {
        let mut command = blindbook();
        command.arg("load").arg("--data").arg(self.data()).arg("--keys").arg(self.keys());
        command.args(["--provider", "wa.example", "--region", "US"]);
        command
    }

    pub(crate) fn load(&self, text: &str) -> Output {
        let file = self.write("people.csv", text);
        self.load_command().arg(file).output().unwrap()
    }

    pub(crate) fn load_stdin(&self, input: &str) -> Output {
        let mut child = self
            .load_command()
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// A configuration of this estate with its TLS, to be gone on with.
    pub(crate) fn config(&self) -> String {
        let key = |name: &str| self.keys().join(name);
        format!(
            "data = {:?}\nkeys = {:?}\nlisten = \"127.0.0.1:0\"\ntls_cert = {:?}\ntls_key = {:?}\n",
            self.data(),
            self.keys(),
            key("dev-cert.pem"),
            key("dev-cert.key"),
        )
    }

    /// Writes a certificate with this URI, and its key.
    pub(crate) fn certify(&self, authority: &Authority, name: &str, uri: &str) {
        let client = Client { uris: &[uri], ..Client::default() };
        let (cert, key) = authority.client(&client);
        self.write(&format!("{name}.pem"), &cert);
        self.write(&format!("{name}.key"), &key);
    }

    /// Has a command speak with that certificate.
    pub(crate) fn speak_as(&self, command: &mut Command, name: &str) {
        command.arg("--ca").arg(self.keys().join("dev-ca.pem"));
        command.arg("--cert").arg(self.path(&format!("{name}.pem")));
        command.arg("--key").arg(self.path(&format!("{name}.key")));
    }

    pub(crate) fn serve(&self) -> Serving {
        let mut command = blindbook();
        command.args(["serve", "--log", "trace", "--listen", "127.0.0.1:0"]);
        command.arg("--data").arg(self.data()).arg("--keys").arg(self.keys());
        command.arg("--tls-cert").arg(self.keys().join("dev-cert.pem"));
        command.arg("--tls-key").arg(self.keys().join("dev-cert.key"));
        Serving::start(command)
    }

    pub(crate) fn lookup_command(&self, serving: &Serving) -> Command {
        let mut command = blindbook();
        command.args(["lookup", "--server", &format!("https://{}", serving.address)]);
        command.arg("--identity").arg(self.keys().join("identity.pub"));
        command.arg("--ca").arg(self.keys().join("dev-ca.pem"));
        command.args(["--region", "US", "--json"]);
        command
    }

    pub(crate) fn lookup(&self, serving: &Serving, siis: &[&str]) -> Output {
        self.lookup_command(serving).args(siis).output().unwrap()
    }
}

/// A running server and what it logs.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Serving {
    /// Starts a `serve` and waits until it says where it listens.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "{}", log.lock().unwrap());
            log.lock().unwrap().push_str(&line);
            if line.contains(" serving ") {
                let (_, address) = line.split_once("address=").unwrap();
                break address.trim().to_owned();
            }
            if line.contains("\"serving\"") {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                let address = &line["address"];
                break address.as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
            }
        };
        let sink = log.clone();
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).unwrap() > 0 {
                sink.lock().unwrap().push_str(&text(&line));
                line.clear();
            }
        });
        Self { child, address, log, reader: Some(reader) }
    }

    /// Sends it a signal, as `kill` does.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// What it logged until now.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What it logged before it said that it serves.
    pub(crate) fn beginning(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Asks it to terminate, as a service manager does: its exit code and log.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        self.reader.take().unwrap().join().unwrap();
        (code, std::mem::take(&mut self.log.lock().unwrap()))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file beneath a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}
