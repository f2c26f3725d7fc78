//! Findings as alerts, for Alertmanager's API (version 2). Each run says of all alerts of this store what has become of them: what
//! is still there is kept alive, what is fixed or acknowledged is resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use golife::human;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::findings::Finding;
use crate::findings::state::State;

/// The name of all alerts.
const NAME: &str = "GoroutineLeak";
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long an address may take to answer at all.
const CONNECT: Duration = Duration::from_secs(5);
/// No request is begun again after this.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first pause before a request is made again; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(500);
/// How far Alertmanager's clock may be behind this one: what has ended in its future, it would not take for ended.
const SKEW: Duration = Duration::from_secs(60);

/// An Alertmanager.
pub struct Alertmanager {
    address: Url,
    client: reqwest::Client,
    access: Access,
}

/// By what it lets this program in.
enum Access {
    Anybody,
    Token(String),
    Password(String, String),
}

/// An alert as it is posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// What it is, and what routes it. Two alerts with the same labels are one.
    pub labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<String>,
    ends_at: String,
}

/// An alert as Alertmanager lists it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: String,
}

/// The time of alerts.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Now.
    pub now: SystemTime,
    /// How long an alert stays without another run.
    pub stay: Duration,
}

impl Alertmanager {
    /// Takes its address, and what it lets this program in by from the environment. Nothing is asked yet.
    ///
    /// # Errors
    /// It is no http or https address, or holds what looks like a secret; or the environment has half a secret, or two.
    pub fn open(text: &str) -> anyhow::Result<Alertmanager> {
        let client = reqwest::Client::builder()
            .timeout(REQUEST)
            .connect_timeout(CONNECT)
            // A post that is redirected becomes a get, and its secret would go to somebody else.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Alertmanager { address: address(text)?, client, access: Access::of_environment()? })
    }

    /// Its address, for messages.
    pub fn name(&self) -> &str {
        self.address.as_str()
    }

    /// The alerts of a store that are not resolved.
    ///
    /// # Errors
    /// Alertmanager refuses, or does not answer within half a minute.
    pub async fn alerts(&self, store: &str) -> anyhow::Result<Vec<Listed>> {
        let mut address = self.address.clone();
        address.query_pairs_mut().append_pair("filter", &format!("alertname=\"{NAME}\""));
        let text = self.ask(|| self.client.get(address.clone())).await?;
        let listed: Vec<Listed> = serde_json::from_str(&text)
            .with_context(|| format!("{} does not answer as Alertmanager does", self.name()))?;
        let store = store_label(store);
        Ok(listed.into_iter().filter(|alert| alert.labels.get("store") == Some(&store)).collect())
    }

    /// Posts alerts.
    ///
    /// # Errors
    /// Alertmanager refuses, or does not answer within half a minute.
    pub async fn post(&self, alerts: &[Alert]) -> anyhow::Result<()> {
        let body = serde_json::to_vec(alerts)?;
        let request = || {
            let request = self.client.post(self.address.clone());
            request.header("content-type", "application/json").body(body.clone())
        };
        self.ask(request).await.map(|_| ())
    }

    /// Makes a request, again and again while its answer may be another one the next time.
    async fn ask(&self, request: impl Fn() -> reqwest::RequestBuilder) -> anyhow::Result<String> {
        let (begun, mut pause) = (std::time::Instant::now(), PAUSE);
        loop {
            let request = match &self.access {
                Access::Anybody => request(),
                Access::Token(token) => request().bearer_auth(token),
                Access::Password(user, password) => request().basic_auth(user, Some(password)),
            };
            let (error, may_pass) = match self.once(request).await {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
            if !may_pass || begun.elapsed() + pause > PATIENCE {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Makes a request. An error comes with whether it may pass.
    async fn once(&self, request: reqwest::RequestBuilder) -> Result<String, (anyhow::Error, bool)> {
        let unanswered = |error: reqwest::Error| {
            // The address is named once.
            let error = anyhow::Error::new(error.without_url());
            let is_untrusted = format!("{error:#}").contains("certificate");
            let named = if is_untrusted {
                error.context(format!(
                    "{} has a certificate that this host does not trust (SSL_CERT_FILE names others to trust)",
                    self.name()
                ))
            } else {
                error.context(format!("{} does not answer", self.name()))
            };
            (named, !is_untrusted)
        };
        let answer = request.send().await.map_err(unanswered)?;
        let status = answer.status();
        let moved = answer.headers().get("location").and_then(|to| to.to_str().ok()).map(str::to_owned);
        let text = answer.text().await.map_err(unanswered)?;
        if status.is_success() {
            return Ok(text);
        }
        let why = match status.as_u16() {
            401 | 403 => {
                ": set ALERTMANAGER_TOKEN, or ALERTMANAGER_USER and ALERTMANAGER_PASSWORD, to what it lets in"
                    .into()
            }
            300..=399 => moved.map_or(String::new(), |to| format!(", to {to}: give that address")),
            _ if text.trim().is_empty() => String::new(),
            _ => format!(": {}", text.trim()),
        };
        let may_pass = status.is_server_error() || status.as_u16() == 429;
        Err((anyhow::anyhow!("{} answers {status}{why}", self.name()), may_pass))
    }
}

impl Access {
    fn of_environment() -> anyhow::Result<Access> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (get("ALERTMANAGER_TOKEN"), get("ALERTMANAGER_USER"), get("ALERTMANAGER_PASSWORD")) {
            (None, None, None) => Ok(Access::Anybody),
            (Some(token), None, None) => Ok(Access::Token(token)),
            (None, Some(user), Some(password)) => Ok(Access::Password(user, password)),
            (Some(_), ..) => {
                bail!("--alertmanager: ALERTMANAGER_TOKEN and ALERTMANAGER_USER cannot both be set")
            }
            _ => bail!("--alertmanager: of ALERTMANAGER_USER and ALERTMANAGER_PASSWORD, one is not set"),
        }
    }
}

/// Where Alertmanager takes alerts.
fn address(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).context("--alertmanager: not an address")?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("--alertmanager: want an address that begins with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        bail!(
            "--alertmanager: credentials do not belong into an address, where every user of this host can see them: set \
             ALERTMANAGER_TOKEN, or ALERTMANAGER_USER and ALERTMANAGER_PASSWORD"
        );
    }
    Ok(Url::parse(&format!("{}/api/v2/alerts", url.as_str().trim_end_matches('/')))?)
}

/// The alert of a finding of a store.
pub fn alert(finding: &Finding, state: State, owner: Option<&str>, store: &str, times: Times) -> Alert {
    // What is only for an hour, such as that it has become worse, would be another alert an hour later.
    let severity = if finding.is_proven { "critical" } else { "warning" };
    let place = match (&finding.file, finding.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        _ => finding.function.clone(),
    };
    let labels = [
        ("alertname", NAME),
        ("id", &finding.id),
        ("module", finding.module.as_deref().unwrap_or_default()),
        ("function", &finding.function),
        ("service", &finding.service),
        ("owner", owner.unwrap_or_default()),
        ("severity", severity),
    ];
    // Alertmanager takes an empty label for one that is not there.
    let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
    let mut labels: BTreeMap<String, String> =
        labels.map(|(name, value)| (name.to_owned(), human::clean(value))).collect();
    labels.insert("store".into(), store_label(store));
    let summary = format!(
        "goroutines of {} leak on {}",
        finding.function,
        human::plural(finding.hosts, "host", "hosts")
    );
    let description = format!(
        "{} live, {} on the median host, {} at most; go statement at {place}; {}",
        human::count(finding.live),
        human::count(finding.live_median),
        human::count(finding.live_max),
        state.name(),
    );
    let annotations =
        [("summary", summary), ("description", description), ("advice", finding.advice().to_owned())];
    let first = SystemTime::UNIX_EPOCH + Duration::from_millis(finding.first_ms.max(0).unsigned_abs());
    Alert {
        labels,
        annotations: annotations.map(|(name, text)| (name.to_owned(), human::clean(&text))).into(),
        starts_at: Some(text(first.min(times.now))),
        ends_at: text(times.now + times.stay),
    }
}

/// What is said of alerts that are there and are not posted again: those are renewed whose finding only happens not to be seen, all
/// others are resolved. With each alert comes whether it is resolved.
pub fn others(
    listed: Vec<Listed>,
    posted: &[Alert],
    owner: Option<&str>,
    only_unseen: impl Fn(&str) -> bool,
    times: Times,
) -> Vec<(Alert, bool)> {
    let posted: BTreeSet<_> = posted.iter().map(|alert| &alert.labels).collect();
    let others = listed.into_iter().filter(|alert| {
        let is_its = owner.is_none() || alert.labels.get("owner").map(String::as_str) == owner;
        is_its && !posted.contains(&alert.labels)
    });
    let said = others.map(|Listed { labels, annotations, starts_at }| {
        let is_resolved = !labels.get("id").is_some_and(|id| only_unseen(id));
        let start = humantime::parse_rfc3339(&starts_at).ok();
        let over = times.now - SKEW;
        let end =
            if is_resolved { start.map_or(over, |start| over.max(start)) } else { times.now + times.stay };
        (Alert { labels, annotations, starts_at: start.map(text), ends_at: text(end) }, is_resolved)
    });
    said.collect()
}

fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// How a store is called in a label.
fn store_label(store: &str) -> String {
    human::clean(store.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_without_secrets() {
        assert_eq!(address("http://am:9093/").unwrap().as_str(), "http://am:9093/api/v2/alerts");
        assert_eq!(address("https://am/prefix").unwrap().as_str(), "https://am/prefix/api/v2/alerts");
        for text in ["http://user:hunter2@am", "http://am?token=hunter2", "s3://hunter2", "hunter2"] {
            let error = format!("{:#}", address(text).unwrap_err());
            assert!(error.starts_with("--alertmanager: ") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_is_neither_posted_nor_only_unseen_is_resolved() {
        let labels = |id: &str, severity: &str| {
            let all = [("id", id), ("severity", severity), ("owner", "a")];
            all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        };
        let now = humantime::parse_rfc3339("2026-11-28T12:00:00Z").unwrap();
        let times = Times { now, stay: Duration::from_secs(3600) };
        let listed = |id: &str, severity: &str, starts_at: &str| Listed {
            labels: labels(id, severity),
            annotations: BTreeMap::new(),
            starts_at: starts_at.into(),
        };
        let early = "2026-11-28T10:00:00.000Z";
        let all = vec![
            listed("same", "warning", early),
            listed("worse", "warning", early),
            listed("unseen", "warning", early),
            listed("fixed", "warning", "2026-11-28T11:59:59.000Z"),
        ];
        let posted = |id: &str, severity: &str| Alert {
            labels: labels(id, severity),
            annotations: BTreeMap::new(),
            starts_at: None,
            ends_at: String::new(),
        };
        let posted = [posted("same", "warning"), posted("worse", "critical")];
        let said = others(all.clone(), &posted, None, |id| id == "unseen", times);
        let said: Vec<_> = said
            .iter()
            .map(|(alert, is_resolved)| (&*alert.labels["id"], &*alert.ends_at, *is_resolved))
            .collect();
        let expected = [
            ("worse", "2026-11-28T11:59:00.000Z", true),
            ("unseen", "2026-11-28T13:00:00.000Z", false),
            // Not before it began.
            ("fixed", "2026-11-28T11:59:59.000Z", true),
        ];
        assert_eq!(said, expected);
        assert_eq!(others(all, &posted, Some("b"), |_| false, times), [], "those of another team");
    }
}
