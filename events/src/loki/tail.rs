//! `GET /loki/api/v1/tail`: new lines over a WebSocket, as `logcli --tail` and Grafana's live view ask for them.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::time::time_us;
use super::{Plain, bad, categorized, logql, parameters, streams};
use crate::api::Reader;
use crate::api::params;
use crate::api::tail::Follow;
use crate::hub::Hub;
use crate::store::{Regions, Row};

/// Lines of one message at most.
const LINES_MAX: usize = 100;
/// Lines that come within this time come together.
const TOGETHER: Duration = Duration::from_millis(50);
/// How often a quiet connection is asked whether it is there.
const PING: Duration = Duration::from_secs(20);

pub(super) async fn tail(
    State(hub): State<Hub>,
    reader: Reader,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Plain> {
    let mut p = parameters(query.unwrap_or_default().as_bytes());
    let text = params::take(&mut p, "query").ok_or_else(|| bad("query is missing"))?;
    let start = params::take(&mut p, "start").map(|t| time_us(&t)).transpose()?;
    let filter = match logql::parse(&text, &reader.filter(&hub)?).map_err(bad)? {
        logql::Query::Logs(filter) => *filter,
        _ => return Err(bad("only log queries can be followed")),
    };
    // Numbers of rows are times of receipt; events are received after they happened.
    let follow = Follow::begin(&hub, filter, start)?;
    let regions = std::sync::Arc::clone(&hub.shared.access.regions);
    let categorized = categorized(&headers);
    Ok(upgrade
        .max_message_size(4096)
        .on_upgrade(move |socket| run(socket, follow, regions, categorized)))
}

async fn run(mut socket: WebSocket, mut follow: Follow, regions: Regions, categorized: bool) {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let wait = if rows.is_empty() { PING } else { TOGETHER };
        tokio::select! {
            row = follow.next() => match row {
                Some(row) => {
                    rows.push(row);
                    if rows.len() < LINES_MAX {
                        continue;
                    }
                }
                None => return,
            },
            received = socket.recv() => match received {
                // What a client says means nothing here; that it left does.
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            () = tokio::time::sleep(wait) => {}
        }
        let message = if rows.is_empty() {
            Message::Ping(Default::default())
        } else {
            let streams = streams(&rows, &regions, categorized);
            rows.clear();
            let mut message = serde_json::json!({"streams": streams});
            if categorized && let Some(message) = message.as_object_mut() {
                message.insert("encodingFlags".into(), serde_json::json!(["categorize-labels"]));
            }
            Message::Text(message.to_string().into())
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
