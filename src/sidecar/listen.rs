//! Where the sidecar listens: on loopback or a Unix socket, and nowhere else.
//! What it is asked comes in plain text and is this machine's own business.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Connections that wait to be accepted on a Unix socket.
#[cfg(unix)]
const BACKLOG: u32 = 1024;

/// The mode of a socket file unless told otherwise: its owner's alone.
pub const SOCKET_MODE: u32 = 0o600;

/// Why the sidecar cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Neither an address nor the path of a socket.
    #[error(
        "listen must be a loopback address with a port, as 127.0.0.1:4480, or unix: and the path \
         of a socket, as unix:/run/blindbook/sidecar.sock"
    )]
    Address,
    /// An address that other machines reach.
    #[error(
        "{0} is no loopback address: the sidecar is told in plain text whom its users look for, so \
         it serves its own machine only; listen on 127.0.0.1, [::1] or a Unix socket"
    )]
    NotLoopback(
        /// Which.
        SocketAddr,
    ),
    /// Bits that are no permissions.
    #[error("socket_mode must be from 0 to 0o777, and let its owner read and write")]
    Mode,
    /// No group of this name or number.
    #[error("there is no group {0} on this machine: name one that /etc/group has, or its number")]
    Group(
        /// Which.
        String,
    ),
    /// Somebody listens there.
    #[error("another process listens on {}: stop it, or choose another path", .0.display())]
    InUse(
        /// The socket.
        PathBuf,
    ),
    /// Something else has the socket's name.
    #[error("{} is there and is no socket: remove it, or choose another path", .0.display())]
    Occupied(
        /// The file.
        PathBuf,
    ),
    /// The system refuses.
    #[error("cannot listen on {place}: {error}")]
    Io {
        /// Where.
        place: String,
        /// What the system says.
        error: io::Error,
    },
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(SocketFile),
}

/// A socket in the file system, and who may connect to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    /// Its path.
    pub path: PathBuf,
    /// Its permissions: who may write to it may connect.
    pub mode: u32,
    /// Its group, by name or number; the process's own if there is none.
    pub group: Option<String>,
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let listen = match text.strip_prefix("unix:") {
            Some("") => return Err(ListenError::Address),
            Some(path) => {
                Self::Unix(SocketFile { path: path.into(), mode: SOCKET_MODE, group: None })
            }
            None => Self::Tcp(text.parse().map_err(|_| ListenError::Address)?),
        };
        listen.check()?;
        Ok(listen)
    }
}

impl Listen {
    /// Checks what needs no look at the system.
    ///
    /// # Errors
    /// The address is not a loopback one, or the mode no mode.
    pub fn check(&self) -> Result<(), ListenError> {
        match self {
            Self::Tcp(address) if !address.ip().to_canonical().is_loopback() => {
                Err(ListenError::NotLoopback(*address))
            }
            Self::Unix(file) if file.mode > 0o777 || file.mode & 0o600 != 0o600 => {
                Err(ListenError::Mode)
            }
            _ => Ok(()),
        }
    }
}

/// A bound listener. A socket file goes with it.
#[derive(Debug)]
pub struct Listener(Bound);

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, Placed),
}

/// An accepted connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Listener {
    /// Binds. A socket file whose process is dead is replaced.
    ///
    /// # Errors
    /// The place is not this machine's own, is taken, or the system refuses.
    pub async fn bind(listen: &Listen) -> Result<Self, ListenError> {
        listen.check()?;
        let bound = match listen {
            Listen::Tcp(address) => {
                let refused = |error| ListenError::Io { place: address.to_string(), error };
                Bound::Tcp(TcpListener::bind(address).await.map_err(refused)?)
            }
            Listen::Unix(file) => bind_file(file).await?,
        };
        Ok(Self(bound))
    }

    /// Where it listens, as [`Listen`] is written.
    ///
    /// # Errors
    /// The system does not say.
    pub fn place(&self) -> io::Result<String> {
        match &self.0 {
            Bound::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            #[cfg(unix)]
            Bound::Unix(_, placed) => Ok(format!("unix:{}", placed.path.display())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match &self.0 {
            Bound::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            #[cfg(unix)]
            Bound::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

#[cfg(not(unix))]
async fn bind_file(file: &SocketFile) -> Result<Bound, ListenError> {
    let error = io::Error::from(io::ErrorKind::Unsupported);
    Err(ListenError::Io { place: file.path.display().to_string(), error })
}

#[cfg(unix)]
async fn bind_file(file: &SocketFile) -> Result<Bound, ListenError> {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    let path = &file.path;
    let refused = |error| ListenError::Io { place: path.display().to_string(), error };
    let group = file.group.as_deref().map(group_id).transpose()?;
    make_room(path).await?;
    let socket = UnixSocket::new_stream().map_err(refused)?;
    socket.bind(path).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(path.clone()),
        _ => refused(error),
    })?;
    let placed = Placed::at(path).map_err(refused)?;
    // Before it listens nobody can connect, whatever the umask made of the file.
    if group.is_some() {
        chown(path, None, group).map_err(refused)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode)).map_err(refused)?;
    let listener = socket.listen(BACKLOG).map_err(refused)?;
    Ok(Bound::Unix(listener, placed))
}

/// Removes a socket that nobody listens on any more.
#[cfg(unix)]
async fn make_room(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt as _;

    let refused = |error| ListenError::Io { place: path.display().to_string(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::Occupied(path.into()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(refused)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Full is alive.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(refused(error)),
        _ => Err(ListenError::InUse(path.into())),
    }
}

#[cfg(unix)]
fn group_id(name: &str) -> Result<u32, ListenError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    // group(5): name, password, number, members.
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        fields.nth(1)?.parse().ok()
    });
    number.ok_or_else(|| ListenError::Group(name.into()))
}

/// The socket file that we made; removed at the end, if it is still ours.
#[cfg(unix)]
#[derive(Debug)]
struct Placed {
    path: PathBuf,
    file: (u64, u64),
}

#[cfg(unix)]
impl Placed {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), file: identity(path)? })
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;

    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(unix)]
impl Drop for Placed {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.file) {
            // What stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_sockets_are_places_to_listen() {
        for good in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:4480", "[::ffff:127.0.0.1]:1", "unix:/s"]
        {
            assert!(good.parse::<Listen>().is_ok(), "{good}");
        }
        for reached in ["0.0.0.0:4480", "[::]:4480", "192.0.2.1:4480", "[2001:db8::1]:4480"] {
            let refused = reached.parse::<Listen>().unwrap_err();
            assert!(matches!(refused, ListenError::NotLoopback(_)), "{reached}");
            assert!(refused.to_string().contains("127.0.0.1"));
        }
        for bad in ["", "unix:", "localhost:4480", "127.0.0.1", "/run/sidecar.sock"] {
            assert!(matches!(bad.parse::<Listen>(), Err(ListenError::Address)), "{bad}");
        }
    }

    #[cfg(unix)]
    mod sockets {
        use std::os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener};

        use super::*;

        fn file(path: &Path) -> SocketFile {
            SocketFile { path: path.into(), mode: SOCKET_MODE, group: None }
        }

        async fn bind(file: SocketFile) -> Result<Listener, ListenError> {
            Listener::bind(&Listen::Unix(file)).await
        }

        fn mode(path: &Path) -> u32 {
            fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
        }

        #[tokio::test]
        async fn a_socket_is_its_owners_unless_told_otherwise_and_goes_with_its_listener() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            let listener = bind(file(&path)).await.unwrap();
            assert_eq!(mode(&path), 0o600);
            assert_eq!(listener.place().unwrap(), format!("unix:{}", path.display()));
            drop(listener);
            assert!(!path.exists());
            // One's own group can always be given.
            let group = std::os::unix::fs::MetadataExt::gid(&folder.path().metadata().unwrap());
            let open = SocketFile { mode: 0o660, group: Some(group.to_string()), ..file(&path) };
            let _listener = bind(open).await.unwrap();
            assert_eq!(mode(&path), 0o660);
        }

        #[tokio::test]
        async fn a_dead_socket_is_replaced_and_a_live_one_refused() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            drop(StdListener::bind(&path).unwrap());
            assert!(path.exists(), "left behind");
            let _live = bind(file(&path)).await.unwrap();
            let refused = bind(file(&path)).await;
            assert!(matches!(refused, Err(ListenError::InUse(at)) if at == path));
            UnixStream::connect(&path).await.unwrap();
        }

        #[tokio::test]
        async fn what_is_no_socket_stays_and_what_replaced_ours_too() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            fs::write(&path, "kept").unwrap();
            assert!(matches!(bind(file(&path)).await, Err(ListenError::Occupied(_))));
            assert_eq!(fs::read(&path).unwrap(), b"kept");
            fs::remove_file(&path).unwrap();
            let listener = bind(file(&path)).await.unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, "another's").unwrap();
            drop(listener);
            assert_eq!(fs::read(&path).unwrap(), b"another's");
        }

        #[tokio::test]
        async fn unknown_groups_odd_modes_and_absent_folders_are_refused_and_leave_nothing() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            let group = Some("no group has this name".into());
            let refused = bind(SocketFile { group, ..file(&path) }).await;
            assert!(matches!(refused, Err(ListenError::Group(_))));
            for mode in [0o1600, 0o066, 0] {
                let refused = bind(SocketFile { mode, ..file(&path) }).await;
                assert!(matches!(refused, Err(ListenError::Mode)), "{mode:o}");
            }
            let refused = bind(file(&folder.path().join("absent/s"))).await;
            assert!(matches!(refused, Err(ListenError::Io { .. })));
            assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        }

        #[test]
        fn groups_are_found_by_name_and_number() {
            assert_eq!(group_id("1234").unwrap(), 1234);
            let first = fs::read_to_string("/etc/group").unwrap_or_default();
            if let Some((name, _)) = first.lines().next().and_then(|line| line.split_once(':')) {
                assert!(group_id(name).is_ok());
            }
        }
    }
}
