//! A store that speaks S3, on this machine.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::eventually;

/// An S3 server on this machine: <https://docs.getmoto.org>. `cargo xtask test` installs it.
pub struct Moto {
    server: Child,
    /// Its address.
    pub endpoint: String,
}

impl Moto {
    /// Starts one that lets everybody in.
    pub fn start() -> Moto {
        Moto::start_with(&[])
    }

    /// Starts one that lets nobody in but for the first request, which makes a bucket.
    pub fn start_locked() -> Moto {
        Moto::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "1")])
    }

    fn start_with(environment: &[(&str, &str)]) -> Moto {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("python3");
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        command.envs(environment.iter().copied());
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moto = Moto { server, endpoint: format!("http://127.0.0.1:{port}") };
        eventually("an S3 server: `cargo xtask test` installs moto", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        moto
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        self.ask(&["-X", "PUT", &format!("{}/{name}", self.endpoint)]);
    }

    /// The list of a bucket's objects in XML.
    pub fn list(&self, name: &str) -> String {
        self.ask(&[&format!("{}/{name}?list-type=2", self.endpoint)])
    }

    /// Puts a file below a path of a bucket.
    pub fn put(&self, path: &str, file: &Path) {
        self.ask(&["-T", file.to_str().unwrap(), &format!("{}/{path}", self.endpoint)]);
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new("curl").args(["--silent", "--fail"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
