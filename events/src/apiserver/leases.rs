//! Leases with optimistic locking, as coordination.k8s.io has them.

use std::collections::HashMap;

use axum::http::{Method, StatusCode};
use axum::response::Response;
use parking_lot::Mutex;
use serde_json::Value;

use super::store::Store;
use super::{json, status};

/// All leases by namespace and name.
#[derive(Debug, Default)]
pub struct Leases(Mutex<HashMap<(String, String), Value>>);

impl Leases {
    /// A lease as it stands.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Value> {
        self.0.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn answer(
        &self,
        method: &Method,
        namespace: &str,
        name: &str,
        body: &[u8],
        store: &Store,
    ) -> Response {
        let missing = || {
            status(
                StatusCode::NOT_FOUND,
                "NotFound",
                &format!("leases.coordination.k8s.io {name:?} not found"),
                "",
            )
        };
        let mut given: Value = serde_json::from_slice(body).unwrap_or_default();
        let name = given["metadata"]["name"].as_str().unwrap_or(name).to_owned();
        let key = (namespace.to_owned(), name.clone());
        let mut leases = self.0.lock();
        let there = leases.get(&key).cloned();
        let code = match (method, &there) {
            (&Method::GET, Some(lease)) => return json(StatusCode::OK, lease.to_string()),
            (&Method::GET | &Method::PUT, None) => return missing(),
            (&Method::POST, Some(_)) => {
                let message = format!("leases.coordination.k8s.io {name:?} already exists");
                return status(StatusCode::CONFLICT, "AlreadyExists", &message, "");
            }
            (&Method::POST, None) => StatusCode::CREATED,
            (&Method::PUT, Some(lease)) => {
                if given["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
                    let message = "the object has been modified; please apply your changes to the latest version and try again";
                    return status(StatusCode::CONFLICT, "Conflict", message, "");
                }
                StatusCode::OK
            }
            _ => {
                return status(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "MethodNotAllowed",
                    "the server does not allow this method",
                    "",
                );
            }
        };
        given["metadata"]["namespace"] = namespace.into();
        given["metadata"]["resourceVersion"] = store.tick().to_string().into();
        leases.insert(key, given.clone());
        json(code, given.to_string())
    }
}
