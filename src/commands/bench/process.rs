//! `blindbook serve` as an operator runs it: a process of its own, so that its
//! memory is the server's and nobody else's.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, anyhow, bail};

use super::{
    directory::Directory,
    memory::{self, Memory},
};

/// A server process; dropping it ends it.
pub(super) struct Process {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Process {
    /// Starts a server over TLS and waits until it says where it listens.
    pub(super) fn serve(directory: &Directory, data: &Path) -> anyhow::Result<Self> {
        Self::start(Command::new(env::current_exe()?), directory, data)
    }

    /// The same on one processor, where the system has a `taskset` to choose it
    /// with; and whether it has.
    pub(super) fn serve_on_one(directory: &Directory, data: &Path) -> anyhow::Result<(Self, bool)> {
        let pin = |program: &Path| {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", "0"]).arg(program);
            command
        };
        let tried = pin(Path::new("true")).stdin(Stdio::null()).output();
        let pinned = tried.is_ok_and(|tried| tried.status.success());
        let program = env::current_exe()?;
        let command = if pinned { pin(&program) } else { Command::new(program) };
        Ok((Self::start(command, directory, data)?, pinned))
    }

    /// Starts a server whose configuration says so much more.
    pub(super) fn serve_with(
        directory: &Directory,
        data: &Path,
        more: &str,
    ) -> anyhow::Result<Self> {
        let (cert, key) = certificate(directory)?;
        let keys = directory.path("keys");
        let quoted = |path: &Path| toml::Value::from(path.to_string_lossy().as_ref());
        let config = format!(
            "data = {}\nkeys = {}\nlisten = \"127.0.0.1:0\"\ntls_cert = {}\ntls_key = {}\n{more}\n",
            quoted(data),
            quoted(&keys),
            quoted(&cert),
            quoted(&key),
        );
        let path = directory.path("blindbook.toml");
        fs::write(&path, config)?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["serve", "--log", "info", "--config"]).arg(path);
        Self::run(command)
    }

    fn start(mut command: Command, directory: &Directory, data: &Path) -> anyhow::Result<Self> {
        let (cert, key) = certificate(directory)?;
        command
            .args(["serve", "--log", "info", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--keys")
            .arg(directory.path("keys"))
            .arg("--tls-cert")
            .arg(cert)
            .arg("--tls-key")
            .arg(key);
        Self::run(command)
    }

    fn run(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start `blindbook serve`")?;
        let log = child.stderr.take().ok_or_else(|| anyhow!("the server has no log"))?;
        let mut log = BufReader::new(log);
        match listening(&mut log) {
            Ok(address) => {
                // A pipe that nobody reads would stop the server once it is full.
                thread::spawn(move || io::copy(&mut log, &mut io::sink()));
                Ok(Self { child, address })
            }
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// What the process takes now, and took at most.
    pub(super) fn memory(&self) -> Option<Memory> {
        memory::of(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The files of certificate and key.
fn certificate(directory: &Directory) -> io::Result<(PathBuf, PathBuf)> {
    let (cert, key) = (directory.path("cert.pem"), directory.path("cert.key"));
    fs::write(&cert, &directory.tls.cert)?;
    // Beneath a folder that is the user's alone.
    fs::write(&key, directory.tls.key.as_bytes())?;
    Ok((cert, key))
}

/// The server only reads: nothing is lost.
fn end(child: &mut Child) {
    // Fails when it has ended, which is as good.
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads a server's log until it says where it listens.
fn listening(log: &mut impl io::BufRead) -> anyhow::Result<SocketAddr> {
    let mut told = String::new();
    for line in log.by_ref().lines() {
        let line = line?;
        if let Some((_, address)) = line.split_once("serving address=") {
            return address.trim().parse().context("the server does not say where it listens");
        }
        told.push_str(&line);
        told.push('\n');
    }
    bail!("the server ended before it served: {}", told.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_log_and_a_failure_is_quoted() {
        let log = b"a WARN blindbook: x\nb INFO blindbook: serving address=127.0.0.1:4433\n";
        assert_eq!(listening(&mut &log[..]).unwrap(), SocketAddr::from(([127, 0, 0, 1], 4433)));
        let error = listening(&mut &b"error: no directory\n"[..]).unwrap_err();
        assert!(error.to_string().ends_with("error: no directory"));
    }
}
