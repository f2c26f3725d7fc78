//! A real Alertmanager: what leaks is an alert there until it is fixed or acknowledged, for as long as somebody says so.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use golife::report::Level;
use golife::store::{Place, Row, SweepFile};
use serde_json::Value;

use super::support::{Ended, Running, eventually, golife};

/// 2026-11-02T00:00:00Z.
const START_MS: i64 = 1_793_577_600_000;
const HOUR_MS: i64 = 3_600_000;
/// The user of the second test, whose password is `hunter2`, by bcrypt.
const USERS: &str =
    "basic_auth_users:\n  golife: $2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm\n";

/// An Alertmanager on this host.
struct Alertmanager {
    server: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Alertmanager {
    /// Starts it. `web` is how it is reached: TLS and users.
    fn start(scheme: &str, web: impl Fn(&Path) -> String) -> Alertmanager {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        // A resolve_timeout that would end each alert at once, if it were for Alertmanager to say.
        let config =
            "global: { resolve_timeout: 1s }\nroute: { receiver: nobody }\nreceivers: [{ name: nobody }]\n";
        let (config, web) = (write("config.yml", config), write("web.yml", &web(folder.path())));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("prometheus-alertmanager");
        command.args([
            format!("--config.file={config}"),
            format!("--web.config.file={web}"),
            format!("--storage.path={}", folder.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--cluster.listen-address=".into(),
        ]);
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = server.expect("an Alertmanager: `cargo xtask test` installs it");
        eventually("an Alertmanager", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Alertmanager { server, url: format!("{scheme}://127.0.0.1:{port}"), folder }
    }

    /// The alerts that are active, as id, severity, and when they end.
    fn alerts(&self) -> Vec<Value> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--insecure", "--user", "golife:hunter2"]);
        let output = curl.arg(format!("{}/api/v2/alerts", self.url)).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn sweep(store: &Path, hour: i64, sites: &[(&str, Level, u64)]) {
    let row = |(function, level, live): &(&str, Level, u64)| Row {
        sweep_time_ms: START_MS + hour * HOUR_MS,
        host: "web-1".into(),
        service: "payments".into(),
        module: Some("example.com/payments".into()),
        function: (*function).into(),
        ordinal: Some(1),
        entry: format!("{function}.func1"),
        created: *live,
        live: *live,
        level: *level,
        cause: Some("chan-send".into()),
        pid: 7,
        processes: 1,
        ..Row::default()
    };
    let time = START_MS + hour * HOUR_MS;
    let file = SweepFile::new(Place::new("web-1", time, 1), sites.iter().map(row).collect()).unwrap();
    let path = store.join(file.place.to_string());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, file.bytes).unwrap();
}

fn fleet(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    Running::start(golife().arg("fleet").args(arguments).envs(environment.iter().copied())).wait()
}

#[test]
fn an_alert_lasts_from_the_first_sweep_with_a_leak_until_it_is_fixed_or_acknowledged() {
    let alertmanager = Alertmanager::start("http", |_| String::new());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    let tell = || {
        let arguments = ["leaks", store.to_str().unwrap(), "--since", "2026-11-01", "--alertmanager"];
        let ended = fleet(&[&arguments[..], &[&alertmanager.url]].concat(), &[]);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let mut alerts: Vec<(String, String)> = alertmanager
            .alerts()
            .iter()
            .map(|alert| &alert["labels"])
            .map(|labels| ["function", "severity"].map(|name| labels[name].as_str().unwrap().to_owned()))
            .map(|[function, severity]| (function, severity))
            .collect();
        alerts.sort();
        (alerts, ended.stderr)
    };
    let leaks = |function: &'static str, live| (function, Level::Suspect, live);
    let is = |function: &str, severity: &str| (function.to_owned(), severity.to_owned());
    sweep(store, 0, &[leaks("main.a", 10), leaks("main.b", 20)]);
    let (alerts, said) = tell();
    assert!(said.contains("posted 2 alerts to "), "{said}");
    assert_eq!(alerts, [is("main.a", "warning"), is("main.b", "warning")]);
    // The alert says what a person needs, and ends long after Alertmanager's own time-out.
    let alert =
        alertmanager.alerts().into_iter().find(|alert| alert["labels"]["function"] == "main.b").unwrap();
    assert_eq!(alert["startsAt"], "2026-11-02T00:00:00.000Z");
    assert_eq!(alert["labels"]["service"], "payments");
    assert!(alert["annotations"]["description"].as_str().unwrap().starts_with("20 live"), "{alert}");
    assert!(alert["annotations"]["advice"].as_str().unwrap().contains("buffer"), "{alert}");
    let id = alert["labels"]["id"].as_str().unwrap().to_owned();
    let ends = |alert: &Value| humantime::parse_rfc3339(alert["endsAt"].as_str().unwrap()).unwrap();
    assert!(ends(&alert) > std::time::SystemTime::now() + std::time::Duration::from_secs(3600), "{alert}");
    // What turns out to be certain is one alert, not two, and so is what becomes worse.
    sweep(store, 1, &[("main.a", Level::Proven, 10), leaks("main.b", 50)]);
    assert_eq!(tell().0, [is("main.a", "critical"), is("main.b", "warning")]);
    // Who knows of it does not hear of it.
    let url = store.to_str().unwrap();
    fleet(&["ack", url, &id, "--until", "2999-01-01", "--why", "known"], &[]);
    let (alerts, said) = tell();
    assert_eq!(alerts, [is("main.a", "critical")], "{said}");
    fleet(&["unack", url, &id], &[]);
    assert_eq!(tell().0, [is("main.a", "critical"), is("main.b", "warning")]);
    // Two sweeps without it prove nothing; three do.
    let well = ("main.a", Level::Healthy, 5);
    (2..4).for_each(|hour| sweep(store, hour, &[well, leaks("main.b", 51)]));
    assert_eq!(tell().0, [is("main.a", "critical"), is("main.b", "warning")]);
    sweep(store, 4, &[well, leaks("main.b", 52)]);
    let (alerts, said) = tell();
    assert!(said.contains("posted 1 alert to ") && said.contains("resolved 1"), "{said}");
    assert_eq!(alerts, [is("main.b", "warning")]);
    // Another store with the same bug says nothing of this one's.
    let other = tempfile::tempdir().unwrap();
    sweep(other.path(), 0, &[("main.b", Level::Healthy, 5)]);
    fleet(
        &[
            "leaks",
            other.path().to_str().unwrap(),
            "--since",
            "2026-11-01",
            "--alertmanager",
            &alertmanager.url,
        ],
        &[],
    );
    assert_eq!(alertmanager.alerts().len(), 1);
}

#[test]
fn an_alertmanager_with_tls_and_users_takes_what_the_environment_proves() {
    let alertmanager = Alertmanager::start("https", |folder| {
        // An authority, and a certificate that it has signed.
        let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca &&
            openssl req -newkey rsa:2048 -nodes -subj /CN=test -keyout key -out request &&
            echo subjectAltName=IP:127.0.0.1 > names &&
            openssl x509 -req -in request -CA ca -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert";
        let made = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        format!("tls_server_config: {{ cert_file: cert, key_file: key }}\n{USERS}")
    });
    let folder = tempfile::tempdir().unwrap();
    sweep(folder.path(), 0, &[("main.a", Level::Suspect, 10)]);
    let arguments = ["leaks", folder.path().to_str().unwrap(), "--since", "2026-11-01", "--alertmanager"];
    let tell =
        |environment: &[(&str, &str)]| fleet(&[&arguments[..], &[&alertmanager.url]].concat(), environment);
    let ended = tell(&[]);
    ended.expect_error(
        5,
        &["alerts are not posted", "certificate that this host does not trust", "SSL_CERT_FILE"],
    );
    assert!(ended.stdout.contains("1 finding"), "{ended:?}");
    let certificate = alertmanager.folder.path().join("ca");
    let trusted = ("SSL_CERT_FILE", certificate.to_str().unwrap());
    let user = ("ALERTMANAGER_USER", "golife");
    for secret in [&[][..], &[user, ("ALERTMANAGER_PASSWORD", "wrong")]] {
        let ended = tell(&[&[trusted][..], secret].concat());
        ended.expect_error(5, &["answers 401", "ALERTMANAGER_USER and ALERTMANAGER_PASSWORD"]);
        assert!(!ended.stderr.contains("wrong"), "{ended:?}");
    }
    let ended = tell(&[trusted, user, ("ALERTMANAGER_PASSWORD", "hunter2")]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    assert_eq!(alertmanager.alerts().len(), 1);
}
