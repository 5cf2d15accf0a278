//! Which of several hubs answers.
//!
//! The holder of a lease in the bucket. It renews at a quarter of the lease's time and stops answering when it could not for
//! two thirds of it, before anyone else may take over. What makes it safe is the log all the same: see
//! [`crate::log::shared`].

use std::time::Duration;

use periplus_bucket::lease::{Held, Lease};
use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;

use super::state::{self, Log};
use super::{Config, Hub, Standing};

/// Who this hub is, the same after a restart.
pub(crate) fn owner(config: &Config) -> String {
    let path = config.data.join("identity");
    if let Ok(text) = std::fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return text.trim().chars().take(64).collect();
    }
    let fresh = ulid::Ulid::generate().to_string();
    if let Err(error) = std::fs::write(&path, &fresh) {
        tracing::warn!(%error, "this hub will have another identity after a restart");
    }
    fresh
}

fn about(config: &Config) -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    format!("{host} {} pid {}", config.listen.as_deref().unwrap_or(""), std::process::id())
}

/// Takes the lease when it is free, answers while it is ours, and waits again when it is not.
pub(crate) async fn follow(hub: Hub, admin: Admin, drain: Drain) {
    let config = &hub.shared.config;
    let key = match periplus_bucket::Key::parse("events/v1/hub.lease") {
        Ok(key) => key,
        Err(_) => return,
    };
    let owner = owner(config);
    let bucket = hub.shared.bucket.clone();
    let mut lease = Lease::new(bucket, key, &owner, &about(config), "events hub", config.lease);
    let (every, end) = ((config.lease / 4).max(Duration::from_millis(50)), drain.token());
    let wait = async |why: String| hub.stand(Standing::Waiting(why), &admin);
    while !end.is_cancelled() {
        match lease.hold().await {
            Ok(Held::Ours) => {}
            Ok(Held::Theirs { claim, .. }) => {
                let who = claim.map_or_else(|| "somebody".to_owned(), |c| c.about);
                wait(format!("the hub that answers is {who}")).await;
            }
            Err(error) => wait(format!("the lease can't be asked for: {error}")).await,
        }
        if lease.is_fresh() {
            lead(&hub, &mut lease, &admin, &drain, every).await;
            wait("this hub has lost its lease".to_owned()).await;
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = end.cancelled() => {}
        }
    }
    if let Err(error) = lease.release().await {
        tracing::warn!(%error, "giving the lease back");
    }
}

/// Answers until the lease is lost or the process is to end.
async fn lead(hub: &Hub, lease: &mut Lease, admin: &Admin, drain: &Drain, every: Duration) {
    tracing::info!("this hub has the lease; reading the log");
    // Reading takes its time, and the lease must not run out meanwhile.
    let opening = state::open(hub, Log::Shared, drain);
    let mut opening = std::pin::pin!(opening);
    let active = loop {
        tokio::select! {
            opened = opening.as_mut() => match opened {
                Ok(active) => break active,
                Err(error) => {
                    tracing::error!(%error, "this hub can't answer");
                    return;
                }
            },
            () = tokio::time::sleep(every) => {
                if !keeps(lease).await {
                    return;
                }
            }
        }
    };
    if !lease.is_fresh() && !keeps(lease).await {
        active.end.cancel();
        return;
    }
    hub.stand(Standing::Active(std::sync::Arc::clone(&active)), admin);
    tracing::info!("this hub answers");
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = active.end.cancelled() => break,
        }
        if !keeps(lease).await {
            break;
        }
    }
    active.end.cancel();
}

/// Renews; `false`: it is not ours any more, or we can't tell for too long.
async fn keeps(lease: &mut Lease) -> bool {
    match lease.hold().await {
        Ok(Held::Ours) => true,
        Ok(Held::Theirs { .. }) => false,
        Err(error) => {
            tracing::warn!(%error, "renewing the lease");
            lease.is_fresh()
        }
    }
}
