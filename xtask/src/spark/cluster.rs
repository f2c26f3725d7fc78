//! A Spark cluster and an S3 server on loopback, which end with what has started them.

use std::{
    cell::RefCell,
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{JOB, Job, Tools};
use crate::machine;

/// How long something may take to start.
const START: Duration = Duration::from_secs(120);

/// A program in a group of its own, which is killed with all that it has started when this is dropped. Where not even that comes
/// about, the kernel kills it when this program ends.
pub struct Group(pub Child);

impl Group {
    fn start(program: &OsStr, change: impl FnOnce(&mut Command)) -> Result<Group> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null()).process_group(0);
        change(&mut command);
        Ok(Group(command.spawn().with_context(|| format!("cannot start {}", program.display()))?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// A master with its workers of one core each.
pub struct Cluster<'tools> {
    tools: &'tools Tools,
    master: String,
    workers: RefCell<Vec<Group>>,
    _master: Group,
    endpoint: Option<String>,
}

impl<'tools> Cluster<'tools> {
    /// Starts it, and waits until all workers are there.
    pub fn start(tools: &'tools Tools, workers: usize) -> Result<Cluster<'tools>> {
        let port = free_port()?;
        let log = tools.place.join("master.log");
        let class = tools.python.join("pyspark/bin/spark-class");
        let errors = File::create(&log)?;
        let master = Group::start(class.as_os_str(), |command| {
            let kind = "org.apache.spark.deploy.master.Master";
            command.args([kind, "--host", "127.0.0.1", "--port", &port, "--webui-port", "0"]);
            environment(tools, command).stdout(Stdio::null()).stderr(errors);
        })?;
        eventually(|| TcpStream::connect(format!("127.0.0.1:{port}")).is_ok())?;
        let url = format!("spark://127.0.0.1:{port}");
        let mut started = Vec::new();
        for number in 0..workers {
            let folder = tools.place.join(format!("worker-{number}"));
            started.push(Group::start(class.as_os_str(), |command| {
                let kind = "org.apache.spark.deploy.worker.Worker";
                command.args([
                    kind,
                    "--host",
                    "127.0.0.1",
                    "--cores",
                    "1",
                    "--memory",
                    "2g",
                    "--webui-port",
                    "0",
                ]);
                command.arg("--work-dir").arg(folder).arg(&url);
                environment(tools, command).stdout(Stdio::null()).stderr(Stdio::null());
            })?);
        }
        eventually(|| {
            fs::read_to_string(&log).is_ok_and(|text| text.matches("Registering worker").count() == workers)
        })?;
        Ok(Cluster { tools, master: url, workers: RefCell::new(started), _master: master, endpoint: None })
    }

    /// Lets jobs read from an S3 server.
    pub fn with_s3(self, endpoint: &str) -> Cluster<'tools> {
        Cluster { endpoint: Some(endpoint.to_owned()), ..self }
    }

    /// Submits the job.
    pub fn job<Text: AsRef<OsStr>>(&self, arguments: &[Text]) -> Result<Job> {
        let errors = self.tools.place.join("job.log");
        let log = File::create(&errors)?;
        let submit = self.tools.python.join("pyspark/bin/spark-submit");
        let mut conf = vec![
            "spark.driver.host=127.0.0.1".to_owned(),
            "spark.driver.bindAddress=127.0.0.1".into(),
            "spark.ui.enabled=false".into(),
            "spark.executor.memory=1g".into(),
            "spark.sql.shuffle.partitions=4".into(),
        ];
        if let Some(endpoint) = &self.endpoint {
            // After what Spark brings itself, of which some is here, too.
            let jars = fs::read_dir(&self.tools.s3)?.map(|jar| Ok(jar?.path().display().to_string()));
            conf.push(format!("spark.jars={}", jars.collect::<Result<Vec<_>>>()?.join(",")));
            conf.push(format!("spark.hadoop.fs.s3a.endpoint={endpoint}"));
            conf.push("spark.hadoop.fs.s3a.endpoint.region=us-east-1".into());
            conf.push("spark.hadoop.fs.s3a.path.style.access=true".into());
            conf.push("spark.hadoop.fs.s3a.access.key=key".into());
            conf.push("spark.hadoop.fs.s3a.secret.key=secret".into());
        }
        let mut group = Group::start(submit.as_os_str(), |command| {
            command.args(["--master", &self.master]);
            conf.iter().for_each(|pair| {
                command.args(["--conf", pair]);
            });
            command.arg(machine::root().join(JOB)).args(arguments);
            environment(self.tools, command).stdout(Stdio::piped()).stderr(log);
        })?;
        let lines = BufReader::new(group.0.stdout.take().context("the job has no output")?).lines();
        Ok(Job { group, lines, first: Vec::new(), errors })
    }

    /// Kills a worker and what runs on it.
    pub fn kill_worker(&self) {
        self.workers.borrow_mut().pop();
    }
}

fn environment<'command>(tools: &Tools, command: &'command mut Command) -> &'command mut Command {
    command
        .env("SPARK_HOME", tools.python.join("pyspark"))
        .env("PYTHONPATH", &tools.python)
        .env("PYSPARK_PYTHON", "python3")
        .env("SPARK_LOCAL_IP", "127.0.0.1")
        .env("SPARK_LOCAL_DIRS", tools.place.join("local"))
}

/// An S3 server: <https://docs.getmoto.org>.
pub struct Moto {
    /// Where it listens.
    pub endpoint: String,
    _server: Group,
    packages: std::path::PathBuf,
}

impl Moto {
    /// Starts it.
    pub fn start(packages: &Path) -> Result<Moto> {
        let port = free_port()?;
        let server = Group::start("python3".as_ref(), |command| {
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port]).env("PYTHONPATH", packages);
            command.stdout(Stdio::null()).stderr(Stdio::null());
        })?;
        eventually(|| TcpStream::connect(format!("127.0.0.1:{port}")).is_ok())?;
        Ok(Moto { endpoint: format!("http://127.0.0.1:{port}"), _server: server, packages: packages.into() })
    }

    /// The address of the store in it.
    pub fn url(&self) -> &'static str {
        "s3://fleet/prod"
    }

    /// Copies a folder into the store.
    pub fn upload(&self, folder: &Path) -> Result<()> {
        const SCRIPT: &str = "import boto3, os, pathlib, sys\n\
            s3 = boto3.client('s3', endpoint_url=sys.argv[2])\n\
            s3.create_bucket(Bucket='fleet')\n\
            for path in pathlib.Path(sys.argv[1]).rglob('*'):\n\
            \x20   if path.is_file():\n\
            \x20       s3.upload_file(str(path), 'fleet', 'prod/' + str(path.relative_to(sys.argv[1])))\n";
        let mut python = Command::new("python3");
        python.args(["-c", SCRIPT]).arg(folder).arg(&self.endpoint).env("PYTHONPATH", &self.packages);
        machine::run(python.envs(keys(&self.endpoint)))
    }
}

/// What programs find an S3 server by.
pub fn keys(endpoint: &str) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT", endpoint.to_owned()),
        ("AWS_ALLOW_HTTP", "true".into()),
        ("AWS_ACCESS_KEY_ID", "key".into()),
        ("AWS_SECRET_ACCESS_KEY", "secret".into()),
        ("AWS_REGION", "us-east-1".into()),
    ]
}

fn free_port() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string())
}

fn eventually(is_so: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > START {
            bail!("what was started does not answer within {} s", START.as_secs());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
