//! The task that empties one Alertmanager's queue.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::Client;
use super::queue::Queue;
use super::{BATCH, Message};
use crate::ruler::metrics::TargetMetrics;

/// The shortest and the longest wait after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// The longest answer that is read, for a message about a failure.
const ANSWER_SHOWN: usize = 200;

/// Whether another try can help.
enum Failure {
    Passing(String),
    Lasting(String),
}

/// Sends what is in the queue until told to stop; what is there then is sent once more, without
/// another try.
pub(super) async fn empty(
    url: String,
    client: Arc<Client>,
    queue: Arc<Queue>,
    metrics: TargetMetrics,
    stop: CancellationToken,
) {
    let mut wait = BACK_OFF.0;
    let mut failing = false;
    loop {
        let last = stop.is_cancelled();
        let batch = queue.take(BATCH);
        metrics.dropped(queue.take_dropped());
        metrics.waiting(queue.len());
        if batch.is_empty() {
            if last {
                metrics.forget();
                return;
            }
            tokio::select! {
                () = queue.arrived.notified() => {}
                () = stop.cancelled() => {}
            }
            continue;
        }
        match post(&client, &url, &batch).await {
            Ok(()) => {
                metrics.sent(batch.len());
                if std::mem::take(&mut failing) {
                    tracing::info!(alertmanager = url, "it is there again");
                }
                wait = BACK_OFF.0;
            }
            Err(Failure::Lasting(error)) => {
                metrics.failed();
                metrics.dropped(batch.len());
                tracing::error!(alertmanager = url, error, alerts = batch.len(), "alerts refused");
            }
            Err(Failure::Passing(error)) => {
                metrics.failed();
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(alertmanager = url, error, "alerts wait");
                }
                if last {
                    return;
                }
                queue.give_back(batch);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stop.cancelled() => {}
                }
                wait = (wait * 2).min(BACK_OFF.1);
            }
        }
    }
}

async fn post(client: &Client, url: &str, batch: &[Arc<Message>]) -> Result<(), Failure> {
    let messages: Vec<&Message> = batch.iter().map(|m| &**m).collect();
    let body = serde_json::to_vec(&messages).map_err(|e| Failure::Lasting(e.to_string()))?;
    let request = client.request(url).map_err(Failure::Passing)?;
    let request = request.header("content-type", "application/json").body(body);
    let mut answer = request.send().await.map_err(|e| Failure::Passing(chain(&e)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let mut text = Vec::new();
    while text.len() < ANSWER_SHOWN {
        match answer.chunk().await {
            Ok(Some(part)) => text.extend_from_slice(&part),
            _ => break,
        }
    }
    text.truncate(ANSWER_SHOWN);
    let error = format!("{status}: {}", String::from_utf8_lossy(&text).trim());
    let lasting =
        status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 429);
    Err(if lasting { Failure::Lasting(error) } else { Failure::Passing(error) })
}

/// An error with its causes; addresses it names are those of the configuration.
fn chain(e: &reqwest::Error) -> String {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        text.push_str(": ");
        text.push_str(&c.to_string());
        cause = c.source();
    }
    text
}
