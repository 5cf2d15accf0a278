//! What can go wrong at the door, said so that the reader knows what to do.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};

use crate::key::KeyError;

/// What a caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// There is no such object.
    NotFound,
    /// A conditional put found another object or version there.
    Conflict,
    /// The store refuses these credentials, or there are none.
    Denied,
    /// The request is wrong and stays wrong.
    Invalid,
    /// The store does not do this.
    Unsupported,
    /// No answer in time; the request may have been carried out.
    Timeout,
    /// The store or the way to it is down; the request may have been carried out.
    Unavailable,
    /// What lies there is not what was put there.
    Corrupt,
}

impl Kind {
    /// A word for metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
        }
    }

    /// Whether the same request may succeed later, unchanged.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable)
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Denied => {
                " (check the credentials and their policy: reading needs GetObject and ListBucket, \
                 writing PutObject and DeleteObject too)"
            }
            _ => "",
        }
    }
}

/// An error of a bucket.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The store said no, or nothing.
    #[error("{operation} {key:?} in {bucket}: {source}{}", self.kind().remedy())]
    Store {
        /// What was asked: `get`, `put`, `list`, ….
        operation: &'static str,
        /// About which object or prefix.
        key: String,
        /// In which bucket.
        bucket: String,
        /// The store's answer.
        source: Box<object_store::Error>,
    },
    /// The object is larger than the caller takes.
    #[error("get {key:?} in {bucket}: {size} bytes are more than the {limit} this may have")]
    TooLarge {
        /// Which object.
        key: String,
        /// In which bucket.
        bucket: String,
        /// Its size.
        size: u64,
        /// The most the caller takes.
        limit: u64,
    },
    /// A local file that was to be sent or written.
    #[error("{operation} {path}: {source}")]
    File {
        /// What was done with it.
        operation: &'static str,
        /// Which file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// What lies in the bucket differs from what was sent.
    #[error("verify {key:?} in {bucket}: {reason}")]
    Differs {
        /// Which object.
        key: String,
        /// In which bucket.
        bucket: String,
        /// What differs.
        reason: String,
    },
    /// A file of the bucket's layout that makes no sense.
    #[error("read {key:?} in {bucket}: {reason}")]
    Malformed {
        /// Which object.
        key: String,
        /// In which bucket.
        bucket: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that may not be one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A URL or a YAML file that makes no sense.
    #[error("{input}: {reason}")]
    Config {
        /// The URL (without secrets) or the field.
        input: String,
        /// What is wrong and what would be right.
        reason: String,
    },
}

impl BucketError {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store { source, .. } => kind_of(source),
            Self::Differs { .. } | Self::Malformed { .. } => Kind::Corrupt,
            Self::TooLarge { .. } | Self::Key(_) | Self::Config { .. } => Kind::Invalid,
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Kind::NotFound
            }
            Self::File { .. } => Kind::Invalid,
        }
    }

    pub(crate) fn config(input: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { input: input.into(), reason: reason.into() }
    }
}

/// The time limit of an operation ran out.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(crate) struct TimedOut(pub(crate) std::time::Duration);

/// Sorts the store's errors by what a caller does about them.
#[must_use]
pub(crate) fn kind_of(error: &object_store::Error) -> Kind {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => Kind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => Kind::Conflict,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => Kind::Denied,
        E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => Kind::Invalid,
        E::NotSupported { .. } | E::NotImplemented { .. } => Kind::Unsupported,
        E::Generic { source, .. } => kind_of_source(source.as_ref()),
        _ => Kind::Unavailable,
    }
}

fn kind_of_source(source: &(dyn StdError + 'static)) -> Kind {
    let mut next = Some(source);
    while let Some(error) = next {
        if error.is::<TimedOut>() {
            return Kind::Timeout;
        }
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return match http.kind() {
                HttpErrorKind::Timeout => Kind::Timeout,
                _ => Kind::Unavailable,
            };
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    Kind::Denied
                }
                std::io::ErrorKind::NotFound => Kind::NotFound,
                std::io::ErrorKind::TimedOut => Kind::Timeout,
                _ => Kind::Unavailable,
            };
        }
        next = error.source();
    }
    // S3 says some things with status 400 and a code in the body; the text is all that is left.
    let text = source.to_string();
    let says = |codes: &[&str]| codes.iter().any(|c| text.contains(c));
    if says(&["ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"]) {
        Kind::Denied
    } else if says(&["EntityTooLarge", "status code: 400", "InvalidBucketName"]) {
        Kind::Invalid
    } else {
        Kind::Unavailable
    }
}
