//! Where the programs that others start wait before their first instruction, until somebody has seen their files.
//!
//! A launcher, which whoever starts the program runs in its place, sends the opened file over a socket with an abstract
//! name, waits for the other end to be closed, and executes the program. However that end goes away closes it, so nothing
//! waits for one that is gone; and nothing waits for long.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::companion;

/// For how long a program waits at most, be it for a connection or for its file to be seen.
const PATIENCE: i64 = 5;
/// How long whoever connects has to send the file. A launcher sends it at once.
const TO_SEND: Duration = Duration::from_secs(1);
/// Most connections whose file has not come yet. Further ones have to wait for those.
const MOST_ARRIVING: usize = 64;

/// The end that sees the files.
pub struct Gate {
    listener: tokio::net::UnixListener,
    arriving: JoinSet<Option<Waiting>>,
}

/// A process that waits. It goes on when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    /// The process, as the kernel says.
    pub pid: u32,
    /// The file that it is going to execute, as it says. It is open.
    pub file: File,
    _connection: UnixStream,
}

impl Gate {
    /// Opens a gate by its name, within a tokio runtime. The name is known in the network namespace of this process only.
    ///
    /// # Errors
    /// Somebody else has a gate of this name, or the system has no more file descriptors.
    pub fn open(name: &str) -> io::Result<Gate> {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        listener.set_nonblocking(true)?;
        Ok(Gate { listener: tokio::net::UnixListener::from_std(listener)?, arriving: JoinSet::new() })
    }

    /// The next process that waits. The future may be dropped at any time; nobody is lost by that. Anybody can connect to
    /// the gate, so what comes is to be judged by the process.
    pub async fn next(&mut self) -> Waiting {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.arriving.len() < MOST_ARRIVING => match accepted {
                    Ok((connection, _)) => {
                        self.arriving.spawn(async { timeout(TO_SEND, receive(connection)).await.ok()?.ok() });
                    }
                    // This process may have no descriptor to spare. Whoever waits goes on by itself after a time.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
                arrived = self.arriving.join_next(), if !self.arriving.is_empty() => {
                    if let Some(Ok(Some(waiting))) = arrived {
                        return waiting;
                    }
                }
            }
        }
    }
}

/// Receives the file of a launcher.
async fn receive(connection: UnixStream) -> io::Result<Waiting> {
    let pid = connection.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
    let pid = pid.ok_or(io::ErrorKind::NotFound)?;
    let receive = || {
        let mut byte = [0];
        let (_, descriptors) = companion::receive(connection.as_fd(), &mut byte, MsgFlags::MSG_DONTWAIT)?;
        Ok(descriptors)
    };
    let descriptors = connection.async_io(Interest::READABLE, receive).await?;
    let file = File::from(descriptors.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(Waiting { pid, file, _connection: connection })
}

/// Waits at a gate until the other end has seen a file, is gone, or has taken some seconds.
///
/// # Errors
/// There is no such gate, or nothing was seen in time.
pub fn pass(name: &str, file: &File) -> io::Result<()> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::seconds(PATIENCE);
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    let (socket_fd, file_fd) = (socket.as_raw_fd(), file.as_raw_fd());
    connect(socket_fd, &UnixAddr::new_abstract(name.as_bytes())?)?;
    let file = [file_fd];
    let rights = [ControlMessage::ScmRights(&file)];
    sendmsg::<()>(socket_fd, &[io::IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    recv(socket_fd, &mut [0], MsgFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::FileId;
    use std::thread;

    fn name(of: &str) -> String {
        format!("golife-test-{of}-{}", std::process::id())
    }

    fn own() -> File {
        File::open("/proc/self/exe").expect("this program")
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_its_file_was_seen() {
        let name = name("seen");
        let mut gate = Gate::open(&name).expect("nobody has it");
        assert!(Gate::open(&name).is_err(), "one has it");
        let passing = thread::spawn(move || pass(&name, &own()));
        let waiting = gate.next().await;
        assert_eq!(waiting.pid, std::process::id());
        assert_eq!(FileId::of(&waiting.file).expect("open"), FileId::of(&own()).expect("open"));
        assert!(!passing.is_finished());
        drop(waiting);
        passing.join().expect("no panic").expect("it was seen");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_gate_that_is_gone() {
        let name = name("gone");
        assert!(pass(&name, &own()).is_err(), "there is none yet");
        let gate = Gate::open(&name).expect("nobody has it");
        let passing = thread::spawn(move || pass(&name, &own()));
        thread::sleep(Duration::from_millis(50));
        drop(gate);
        let _ = passing.join().expect("it goes on");
    }

    #[tokio::test]
    async fn who_connects_and_says_nothing_is_in_nobodys_way() {
        let name = name("silent");
        let mut gate = Gate::open(&name).expect("nobody has it");
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let silent: Vec<_> = (0..2 * MOST_ARRIVING)
            .map(|_| std::os::unix::net::UnixStream::connect_addr(&address).expect("it listens"))
            .collect();
        let passing = thread::spawn(move || pass(&name, &own()));
        drop(gate.next().await);
        passing.join().expect("no panic").expect("it was seen");
        drop(silent);
    }
}
