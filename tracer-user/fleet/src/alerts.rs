//! Findings as alerts, for Alertmanager's API (version 2).

use std::time::Duration;

use anyhow::{Context, bail};
use golife::human;
use serde_json::{Value, json};
use url::Url;

use crate::findings::Finding;
use crate::findings::state::State;

/// How long Alertmanager may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where Alertmanager takes alerts.
///
/// # Errors
/// It is no http or https address, or holds what looks like a secret.
pub fn address(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).context("--alertmanager: not an address")?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("--alertmanager: want an address that begins with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        bail!(
            "--alertmanager: credentials do not belong into an address, where every user of this host can see them"
        );
    }
    Ok(Url::parse(&format!("{}/api/v2/alerts", url.as_str().trim_end_matches('/')))?)
}

/// The alert of a finding.
pub fn alert(finding: &Finding, state: State, owner: Option<&str>) -> Value {
    let text = |text: &str| human::clean(text);
    let severity = if finding.is_proven || state == State::Worse { "critical" } else { "warning" };
    let place = match (&finding.file, finding.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        _ => finding.function.clone(),
    };
    json!({
        "labels": {
            "alertname": "GoroutineLeak",
            "id": finding.id,
            "module": text(finding.module.as_deref().unwrap_or_default()),
            "function": text(&finding.function),
            "service": text(&finding.service),
            "owner": text(owner.unwrap_or_default()),
            "severity": severity,
        },
        "annotations": {
            "summary": text(&format!("goroutines of {} leak on {} hosts", finding.function, finding.hosts)),
            "description": text(&format!(
                "{} live, {} on the median host, {} at most; go statement at {place}; {}",
                human::count(finding.live),
                human::count(finding.live_median),
                human::count(finding.live_max),
                state.name(),
            )),
            "advice": finding.advice(),
        },
    })
}

/// Posts alerts.
///
/// # Errors
/// Alertmanager does not answer within half a minute, or refuses.
pub async fn post(address: &Url, alerts: &[Value]) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let body = serde_json::to_vec(alerts)?;
    let request = client.post(address.clone()).header("content-type", "application/json").body(body);
    let answer = request.send().await.with_context(|| format!("cannot post to {address}"))?;
    let status = answer.status();
    if !status.is_success() {
        let why = answer.text().await.unwrap_or_default();
        bail!("{address} answers {status}: {why}");
    }
    Ok(())
}
