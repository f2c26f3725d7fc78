//! What the file descriptors of a process are: sockets with their addresses, pipes, files. The addresses are those of the
//! process's own network namespace.

use std::collections::HashMap;
use std::net::SocketAddr;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};

/// What a file descriptor is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// `tcp`, `udp`, `unix` or `socket` for another one, `pipe`, `file`, or what the kernel calls it, such as `inotify`.
    pub kind: String,
    /// The socket's own address, such as `127.0.0.1:8080`, `[::1]:8080` or `/run/app.sock`, or the file's path.
    pub local: Option<String>,
    /// The other end's address; `None` where there is none, as for a socket that listens, and where the kernel does not
    /// say, as for those of Unix.
    pub remote: Option<String>,
}

/// Looks up descriptors of a process by their numbers. Those that it does not have are left out.
pub fn descriptors(pid: u32, numbers: impl IntoIterator<Item = u32>) -> HashMap<u32, Descriptor> {
    let Some(process) = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()) else {
        return HashMap::new();
    };
    let mut found = HashMap::new();
    let mut sockets: HashMap<u64, Vec<u32>> = HashMap::new();
    for number in numbers {
        let target = i32::try_from(number).ok().and_then(|number| process.fd_from_fd(number).ok());
        let named = |kind: &str, local: Option<String>| Descriptor { kind: kind.into(), local, remote: None };
        let descriptor = match target.map(|info| info.target) {
            None => continue,
            Some(FDTarget::Socket(inode)) => {
                sockets.entry(inode).or_default().push(number);
                named("socket", None)
            }
            Some(FDTarget::Path(path)) => named("file", Some(path.to_string_lossy().into_owned())),
            // Both ends of a pipe have this number.
            Some(FDTarget::Pipe(inode)) => named("pipe", Some(format!("pipe:[{inode}]"))),
            Some(FDTarget::MemFD(name)) => named("file", Some(name)),
            Some(FDTarget::AnonInode(kind) | FDTarget::Other(kind, _) | FDTarget::Unknown(kind, _)) => {
                named(&kind, None)
            }
            Some(FDTarget::Net(_)) => named("net", None),
        };
        found.insert(number, descriptor);
    }
    for (inode, descriptor) in addresses(&process, &sockets) {
        for number in sockets.get(&inode).into_iter().flatten() {
            found.insert(*number, descriptor.clone());
        }
    }
    found
}

/// The sockets that have one of these inodes. A table of the kernel is read only if some are still missing: each has all
/// sockets of the namespace.
fn addresses(process: &Process, wanted: &HashMap<u64, Vec<u32>>) -> Vec<(u64, Descriptor)> {
    let mut found = Vec::new();
    let ip = |kind: &str, local: SocketAddr, remote: Option<SocketAddr>| Descriptor {
        kind: kind.into(),
        local: Some(shown(local)),
        remote: remote.filter(|remote| remote.port() != 0).map(shown),
    };
    for table in [Process::tcp, Process::tcp6] {
        if found.len() < wanted.len() {
            let entries = table(process).unwrap_or_default().into_iter();
            found.extend(entries.filter(|entry| wanted.contains_key(&entry.inode)).map(|entry| {
                let remote = (entry.state != TcpState::Listen).then_some(entry.remote_address);
                (entry.inode, ip("tcp", entry.local_address, remote))
            }));
        }
    }
    for table in [Process::udp, Process::udp6] {
        if found.len() < wanted.len() {
            let entries = table(process).unwrap_or_default().into_iter();
            found.extend(
                entries
                    .filter(|entry| wanted.contains_key(&entry.inode))
                    .map(|entry| (entry.inode, ip("udp", entry.local_address, Some(entry.remote_address)))),
            );
        }
    }
    if found.len() < wanted.len() {
        let entries = process.unix().unwrap_or_default().into_iter();
        found.extend(entries.filter(|entry| wanted.contains_key(&entry.inode)).map(|entry| {
            let local = entry.path.map(|path| path.to_string_lossy().into_owned());
            (entry.inode, Descriptor { kind: "unix".into(), local, remote: None })
        }));
    }
    found
}

/// An address as Go prints it: one of IPv4 that a socket of IPv6 has is shown as one of IPv4.
fn shown(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    #[test]
    fn own_descriptors_have_their_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let client = TcpStream::connect(at).unwrap();
        let own = client.local_addr().unwrap();
        // A socket for both protocols has the address of IPv4 within one of IPv6.
        let both = TcpListener::bind("[::]:0").unwrap();
        let mapped = TcpStream::connect(("127.0.0.1", both.local_addr().unwrap().port())).unwrap();
        let accepted = both.accept().unwrap().0;
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let unix = UnixListener::bind(&path).unwrap();
        let (pipe, _writer) = nix::unistd::pipe().unwrap();
        let opened: [&dyn AsRawFd; 6] = [&listener, &client, &accepted, &udp, &unix, &pipe];
        let numbers = opened.map(|one| one.as_raw_fd().cast_unsigned());
        let found = descriptors(std::process::id(), numbers.iter().copied().chain([1 << 20]));
        assert_eq!(found.len(), 6);
        let is = |at: usize, kind: &str, local: Option<String>, remote: Option<String>| {
            assert_eq!(found[&numbers[at]], Descriptor { kind: kind.into(), local, remote });
        };
        is(0, "tcp", Some(at.to_string()), None);
        is(1, "tcp", Some(own.to_string()), Some(at.to_string()));
        let [local, remote] = [mapped.peer_addr().unwrap(), mapped.local_addr().unwrap()];
        is(2, "tcp", Some(local.to_string()), Some(remote.to_string()));
        is(3, "udp", Some(udp.local_addr().unwrap().to_string()), None);
        is(4, "unix", Some(path.to_str().unwrap().into()), None);
        assert_eq!(found[&numbers[5]].kind, "pipe");
    }
}
