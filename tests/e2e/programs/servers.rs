//! Starts each of the programs, and says what clients ask it for.

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{CLIENTS, Server, variable};
use crate::support::*;

/// Where a server listens.
pub enum Address {
    Port(u16),
    Socket(PathBuf),
}

impl Address {
    /// A port that is free now.
    fn free() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    /// Sends bytes, and returns all that comes until the server closes.
    fn say(&self, text: &str) -> io::Result<String> {
        fn talk(mut stream: impl Read + Write, text: &str) -> io::Result<String> {
            stream.write_all(text.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        }
        let patience = Some(limit());
        match self {
            Address::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_read_timeout(patience)?;
                talk(stream, text)
            }
            Address::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                talk(stream, text)
            }
        }
    }

    fn host(&self) -> String {
        match self {
            Address::Port(port) => format!("127.0.0.1:{port}"),
            Address::Socket(_) => "localhost".into(),
        }
    }

    /// One request on a connection of its own.
    pub fn get(&self, path: &str) -> io::Result<String> {
        self.say(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host()))
    }

    /// One request with a body and one more header, on a connection of its own.
    fn post(&self, path: &str, header: &str, body: &str) -> io::Result<String> {
        let (host, length) = (self.host(), body.len());
        self.say(&format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{header}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }
}

/// One request of a client, which is made time and again.
pub type Load = Box<dyn Fn() -> io::Result<String> + Send + Sync>;

/// The unpacked packages, and a directory for the files of what runs.
pub struct Place {
    root: PathBuf,
    scratch: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { root: variable("GOLIFE_PROGRAMS"), scratch: tempfile::tempdir().unwrap() }
    }

    pub fn program(&self, path: &str) -> Command {
        let mut command = Command::new(self.root.join("usr").join(path));
        // A program that looks for a home, a helper or a library must find nothing but these.
        command
            .current_dir(self.scratch.path())
            .env("HOME", self.scratch.path())
            .env("XDG_DATA_HOME", self.scratch.path())
            .env("XDG_CONFIG_HOME", self.scratch.path())
            .env("LD_LIBRARY_PATH", self.root.join("usr/lib/x86_64-linux-gnu"))
            .env(
                "PATH",
                format!("{0}/usr/bin:{0}/usr/sbin:/usr/bin:/usr/sbin:/bin:/sbin", self.root.display()),
            );
        command
    }

    /// A path in the directory for files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The text of such a path.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.text(name)
    }

    pub fn server(&self, name: &'static str, command: &mut Command, profiles: Address, load: Load) -> Server {
        let binary = PathBuf::from(command.get_program());
        let process = Running::start(command);
        Server { name, binary, process, _others: vec![], profiles, load, clients: CLIENTS }
    }

    pub fn caddy(&self) -> Server {
        let (admin, site) = (Address::free(), Address::free());
        let config = self.write(
            "Caddyfile",
            &format!("{{\nadmin 127.0.0.1:{admin}\n}}\n:{site} {{\nrespond \"hello\"\n}}\n"),
        );
        let mut command = self.program("bin/caddy");
        command.args(["run", "--adapter", "caddyfile", "--config", &config]);
        self.server(
            "caddy",
            &mut command,
            Address::Port(admin),
            Box::new(move || Address::Port(site).get("/")),
        )
    }

    pub fn containerd(&self) -> (Running, String, PathBuf) {
        let (socket, debug) = (self.text("containerd.sock"), self.path("containerd-debug.sock"));
        let config = self.write(
            "containerd.toml",
            &format!(
                "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\naddress = {socket:?}\n[debug]\naddress = {debug:?}\n",
                self.path("containerd-root"),
                self.path("containerd-state"),
            ),
        );
        (Running::start(self.program("bin/containerd").args(["--config", &config])), socket, debug)
    }

    pub fn containerd_alone(&self) -> Server {
        let (process, socket, debug) = self.containerd();
        let (ctr, place) = (self.root.join("usr/bin/ctr"), self.path("."));
        let load = move || {
            // Each call starts another Go program, which speaks gRPC.
            let output = Command::new(&ctr)
                .current_dir(&place)
                .args(["--address", &socket, "plugins", "list"])
                .output()?;
            match output.status.success() {
                true => Ok(String::new()),
                false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
            }
        };
        Server {
            name: "containerd",
            binary: self.root.join("usr/bin/containerd"),
            process,
            _others: vec![],
            profiles: Address::Socket(debug),
            load: Box::new(load),
            clients: 2,
        }
    }

    pub fn dockerd(&self) -> Server {
        let (containerd, containerd_socket, _) = self.containerd();
        eventually("containerd listens", || Path::new(&containerd_socket).exists());
        let socket = self.path("docker.sock");
        let mut command = self.program("sbin/dockerd");
        command
            .args(["--host", &format!("unix://{}", socket.display()), "--containerd", &containerd_socket])
            .args(["--data-root", &self.text("docker"), "--exec-root", &self.text("docker-run")])
            .args(["--pidfile", &self.text("docker.pid"), "--storage-driver", "vfs", "--bridge", "none"])
            .args(["--iptables=false", "--ip6tables=false", "--debug"]);
        let of_clients = socket.clone();
        let load = Box::new(move || Address::Socket(of_clients.clone()).get("/containers/json?all=1"));
        let server = self.server("dockerd", &mut command, Address::Socket(socket), load);
        Server { _others: vec![containerd], ..server }
    }

    pub fn etcd(&self) -> Server {
        let (clients, peers) = (Address::free(), Address::free());
        let [clients_url, peers_url] = [clients, peers].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = self.program("bin/etcd");
        command
            .args(["--data-dir", &self.text("etcd"), "--enable-pprof", "--listen-peer-urls", &peers_url])
            .args(["--listen-client-urls", &clients_url, "--advertise-client-urls", &clients_url]);
        let load = move || {
            let (json, entry) = ("Content-Type: application/json", r#"{"key":"Zm9v","value":"YmFy"}"#);
            Address::Port(clients).post("/v3/kv/put", json, entry)
        };
        self.server("etcd", &mut command, Address::Port(clients), Box::new(load))
    }

    pub fn nats(&self) -> Server {
        let (clients, profiles) = (Address::free(), Address::free());
        let mut command = self.program("sbin/nats-server");
        command.args([
            "--addr",
            "127.0.0.1",
            "--port",
            &clients.to_string(),
            "--profile",
            &profiles.to_string(),
        ]);
        let load = move || {
            let mut stream = TcpStream::connect(("127.0.0.1", clients))?;
            stream.set_read_timeout(Some(limit()))?;
            stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB news 1\r\n")?;
            stream.write_all("PUB news 5\r\nhello\r\n".repeat(100).as_bytes())?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = String::new();
            let mut buffer = [0; 4096];
            while !answer.contains("PONG") {
                let length = stream.read(&mut buffer)?;
                if length == 0 {
                    return Err(io::Error::other(answer));
                }
                answer += &String::from_utf8_lossy(&buffer[..length]);
            }
            Ok(answer)
        };
        self.server("nats-server", &mut command, Address::Port(profiles), Box::new(load))
    }

    pub fn prometheus(&self, name: &'static str, mut command: Command) -> Server {
        let port = Address::free();
        // Nothing is scraped, since goroutines for a target would come and go without a request.
        let config = self.write("prometheus.yml", "global: {scrape_interval: 1h}\n");
        command
            .args(["--config.file", &config, "--storage.tsdb.path", &self.text(name)])
            .args(["--web.listen-address", &format!("127.0.0.1:{port}")]);
        let load = move || Address::Port(port).get("/api/v1/query?query=sum(rate(up[5m]))");
        self.server(name, &mut command, Address::Port(port), Box::new(load))
    }

    pub fn rclone(&self) -> Server {
        let port = Address::free();
        let (from, to) = (self.path("from"), self.text("to"));
        fs::create_dir_all(&from).unwrap();
        for file in 0..200 {
            fs::write(from.join(file.to_string()), "something").unwrap();
        }
        let mut command = self.program("bin/rclone");
        command.args(["rcd", "--rc-no-auth", "--rc-addr", &format!("127.0.0.1:{port}")]);
        let next = AtomicU32::new(0);
        let load = move || {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let order = serde_json::json!({"srcFs": from, "dstFs": format!("{to}/{job}")});
            Address::Port(port).post("/sync/copy", "Content-Type: application/json", &order.to_string())
        };
        let server = self.server("rclone", &mut command, Address::Port(port), Box::new(load));
        Server { clients: 2, ..server }
    }

    pub fn syncthing(&self) -> Server {
        let (gui, profiles) = (Address::free(), Address::free());
        let mut command = self.program("bin/syncthing");
        command
            .args([
                "serve",
                "--no-browser",
                "--no-default-folder",
                "--no-restart",
                "--no-upgrade",
                "--gui-apikey",
                "key",
            ])
            .args(["--home", &self.text("syncthing"), "--gui-address", &format!("127.0.0.1:{gui}")])
            // Without this, it starts itself once more and only watches over the other process.
            .env("STMONITORED", "yes")
            .env("STPROFILER", format!("127.0.0.1:{profiles}"));
        let load = move || {
            let path = "/rest/system/status HTTP/1.1\r\nX-API-Key: key\r\nX-Rest:";
            Address::Port(gui).get(path)
        };
        self.server("syncthing", &mut command, Address::Port(profiles), Box::new(load))
    }
}

/// Has esbuild bundle a chain of modules.
pub fn esbuild(place: &Place) -> Command {
    for module in 0..300 {
        place.write(
            &format!("{module}.js"),
            &format!(
                "import {{f as g}} from './{}.js';\nexport const f = x => g(x) + {module};\n",
                module + 1
            ),
        );
    }
    place.write("300.js", "export const f = x => x;\n");
    let mut command = Command::new(variable("GOLIFE_PROGRAMS_ESBUILD"));
    command.current_dir(place.path("."));
    command.args(["--bundle", "0.js", "--outfile=out.js", "--log-level=warning"]);
    command
}

pub fn gh(place: &Place) -> Command {
    let mut command = place.program("bin/gh");
    command.arg("help");
    command
}

/// Has Hugo make two hundred pages.
pub fn hugo(place: &Place) -> Command {
    for directory in ["content", "layouts/_default"] {
        fs::create_dir_all(place.path(directory)).unwrap();
    }
    place.write("config.toml", "title = 'site'\n");
    for layout in ["single", "list"] {
        place.write(&format!("layouts/_default/{layout}.html"), "<h1>{{.Title}}</h1>{{.Content}}");
    }
    for page in 0..200 {
        place.write(
            &format!("content/{page}.md"),
            &format!("---\ntitle: page {page}\n---\nHello, *{page}*.\n"),
        );
    }
    let mut command = place.program("bin/hugo");
    command.arg("--quiet");
    command
}
