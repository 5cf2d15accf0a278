//! AWS's shared credentials file.
//!
//! `object_store` takes keys from the environment, a web identity token and instance metadata. The
//! file (`AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`, profile `AWS_PROFILE`, else
//! `default`) is read here, and read again when it changes: tools that hand out temporary keys
//! replace it while the process runs.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use parking_lot::Mutex;

/// How long what was read is believed.
const FRESH: Duration = Duration::from_secs(15);
/// A larger file is refused.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads keys from AWS's shared credentials file.
#[derive(Debug)]
pub struct SharedFile {
    path: PathBuf,
    profile: String,
    last: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

impl SharedFile {
    /// The file in its usual place, where it exists and has the profile.
    #[must_use]
    pub fn find() -> Option<Self> {
        let path = env::var_os("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(|| {
            Some(PathBuf::from(env::var_os("HOME")?).join(".aws").join("credentials"))
        })?;
        let profile = env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
        let found = Self::new(path, profile);
        found.read().is_ok().then_some(found)
    }

    /// A profile of a file.
    #[must_use]
    pub const fn new(path: PathBuf, profile: String) -> Self {
        Self { path, profile, last: Mutex::new(None) }
    }

    fn read(&self) -> Result<AwsCredential, String> {
        let shown = self.path.display();
        let size = fs::metadata(&self.path).map_err(|e| format!("{shown}: {e}"))?.len();
        if size > FILE_BYTES_MAX {
            return Err(format!("{shown}: larger than 1 MiB"));
        }
        let text = fs::read_to_string(&self.path).map_err(|e| format!("{shown}: {e}"))?;
        parse(&text, &self.profile)
            .ok_or_else(|| format!("{shown}: no keys for profile {:?}", self.profile))
    }
}

fn parse(text: &str, profile: &str) -> Option<AwsCredential> {
    let (mut key_id, mut secret_key, mut token) = (None, None, None);
    let mut is_ours = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            is_ours = section.trim() == profile;
        } else if is_ours && let Some((name, value)) = line.split_once('=') {
            let value = value.trim().to_owned();
            match name.trim() {
                "aws_access_key_id" => key_id = Some(value),
                "aws_secret_access_key" => secret_key = Some(value),
                "aws_session_token" => token = Some(value),
                _ => {}
            }
        }
    }
    Some(AwsCredential { key_id: key_id?, secret_key: secret_key?, token })
}

#[async_trait]
impl CredentialProvider for SharedFile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut last = self.last.lock();
        if let Some((at, keys)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(keys));
        }
        match self.read() {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *last = Some((Instant::now(), Arc::clone(&keys)));
                Ok(keys)
            }
            Err(reason) => Err(object_store::Error::Unauthenticated {
                path: self.path.display().to_string(),
                source: reason.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        let text = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=S\n\n[other]\n\
                    aws_access_key_id=B\naws_secret_access_key = T\naws_session_token = U==\n";
        assert_eq!(parse(text, "default").unwrap().key_id, "A");
        let other = parse(text, "other").unwrap();
        assert_eq!((other.secret_key.as_str(), other.token.as_deref()), ("T", Some("U==")));
        assert!(parse(text, "none").is_none());
        assert!(parse("[default]\naws_access_key_id = A", "default").is_none());
    }
}
