//! Reads recordings of a real API server: their README beside them has the format.

use std::io::Read as _;
use std::path::PathBuf;

/// A request and what came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, String)>,
    /// The body, as it came; the last part may be no whole line.
    pub(crate) body: Vec<u8>,
    /// How it ended: `end`, `cut-fin`, `cut-reset`, `client`, `refused`, `no-response`.
    pub(crate) how: String,
}

impl Exchange {
    pub(crate) fn is_watch(&self) -> bool {
        self.target.contains("watch=")
    }

    pub(crate) fn is_events_api(&self) -> bool {
        self.target.contains("/apis/events.k8s.io/")
    }

    /// Whole lines of the body.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let end = self.body.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        self.body[..end].split(|&b| b == b'\n').filter(|l| !l.is_empty())
    }
}

/// Where the recordings are; `None` where they are missing, which CI does not forgive.
pub(crate) fn directory() -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/kube-recordings"));
    if path.is_dir() {
        return Some(path);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", path.display());
    eprintln!("skipped: {} is missing", path.display());
    None
}

/// All files with recordings.
pub(crate) fn files(directory: &std::path::Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in std::fs::read_dir(directory).expect("a directory") {
        let folder = folder.expect("an entry").path();
        if folder.is_dir() {
            for file in std::fs::read_dir(folder).expect("a directory") {
                let file = file.expect("an entry").path();
                let name = file.to_string_lossy().into_owned();
                if name.ends_with(".http") || name.ends_with(".http.gz") {
                    all.push(file);
                }
            }
        }
    }
    all.sort();
    all
}

pub(crate) fn bytes(path: &std::path::Path) -> Vec<u8> {
    let raw = std::fs::read(path).expect("readable");
    if path.extension().is_some_and(|e| e == "gz") {
        let mut out = Vec::new();
        flate2::read::MultiGzDecoder::new(raw.as_slice()).read_to_end(&mut out).expect("gzip");
        return out;
    }
    raw
}

pub(crate) fn exchanges(path: &std::path::Path) -> Vec<Exchange> {
    let mut all: Vec<Exchange> = Vec::new();
    let content = bytes(path);
    for line in content.split(|&b| b == b'\n') {
        let Some((&mark, rest)) = line.split_first() else { continue };
        let text = String::from_utf8_lossy(rest);
        let after_ms = |bytes: &[u8]| {
            let at = bytes.iter().position(|&b| b == b' ').map_or(bytes.len(), |at| at + 1);
            bytes[at..].to_vec()
        };
        match mark {
            b'>' if text.ends_with(" HTTP/1.1") => {
                let mut words = text.trim().split(' ');
                all.push(Exchange {
                    method: words.next().unwrap_or_default().into(),
                    target: words.next().unwrap_or_default().into(),
                    ..Exchange::default()
                });
            }
            b'<' | b'|' | b'\\' | b'$' => {
                let Some(now) = all.last_mut() else { continue };
                match mark {
                    b'<' if text.starts_with(' ') => {
                        if let Some((name, value)) = text.trim().split_once(": ") {
                            now.headers.push((name.into(), value.into()));
                        }
                    }
                    b'<' => {
                        let mut words = text.splitn(4, ' ').skip(2);
                        now.status = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
                        now.reason = words.next().unwrap_or_default().into();
                    }
                    b'|' => {
                        now.body.extend(after_ms(rest));
                        now.body.push(b'\n');
                    }
                    b'\\' => now.body.extend(after_ms(rest)),
                    _ => now.how = String::from_utf8_lossy(&after_ms(rest)).into_owned(),
                }
            }
            _ => {}
        }
    }
    all
}
