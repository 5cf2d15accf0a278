//! Microsoft's emulator of Azure's blob storage for tests: `azurite-blob` (npm's azurite brings it).
//!
//! Found by the environment variable `AZURITE`, on the PATH, or where `script/setup test` puts it. Where
//! there is none, tests say that they skip; under CI they fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use periplus_bucket::Key;
use periplus_bucket::location::{Location, Provider, Secret};

const ACCOUNT: &str = "fleet";
const CONTAINER: &str = "conformance";
/// The account's key, in base64.
pub(crate) const KEY: &str = "cGVyaXBsdXMtdGVzdC1rZXktb2YtdGhlLWFjY291bnQ=";
/// Another one.
pub(crate) const WRONG_KEY: &str = "cGVyaXBsdXMtdGVzdC1rZXktb2YtYS1zdHJhbmdlcnM=";

/// Makes a container, with what runs the emulator anyway: its creation has to be signed.
const MAKE_CONTAINER: &str = r"
const crypto = require('crypto'), http = require('http');
const [endpoint, account, key, container] = process.argv.slice(1);
const date = new Date().toUTCString(), version = '2021-08-06';
const text = 'PUT' + '\n'.repeat(12) + `x-ms-date:${date}\nx-ms-version:${version}\n`
    + `/${account}/${account}/${container}\nrestype:container`;
const signature = crypto.createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('base64');
const headers = { 'x-ms-date': date, 'x-ms-version': version, 'content-length': 0,
    authorization: `SharedKey ${account}:${signature}` };
http.request(`${endpoint}/${account}/${container}?restype=container`, { method: 'PUT', headers }, r => {
    r.pipe(process.stderr);
    process.exitCode = r.statusCode == 201 ? 0 : 1;
}).end();
";

pub(crate) struct Azurite {
    child: Child,
    endpoint: String,
    _directory: tempfile::TempDir,
}

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("AZURITE") {
        return Some(path.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|d| d.join("Cargo.lock").exists())?
        .to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([root.join("target/tools/azurite/node_modules/.bin")])
        .map(|d| d.join("azurite-blob"))
        .find(|f| f.is_file())
}

impl Azurite {
    /// Starts a server that keeps everything in memory; `None`: there is no server to start.
    pub(crate) fn start() -> Option<Self> {
        let Some(azurite) = find() else {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "CI needs azurite; script/setup test"
            );
            println!("SKIPPED: no azurite (set AZURITE, or run script/setup test)");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let file = fs::File::create(&log).unwrap();
        // Asked for port 0, it takes a free one and says which.
        let child = Command::new(azurite)
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"])
            .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"])
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"))
            .current_dir(directory.path())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, endpoint: String::new(), _directory: directory };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(90) {
            let text = fs::read_to_string(&log).unwrap_or_default();
            assert!(server.child.try_wait().unwrap().is_none(), "azurite ended; {text}");
            let told = text.split_once("successfully listens on ").map(|(_, rest)| rest);
            if let Some((endpoint, _)) = told.and_then(|rest| rest.split_once('\n')) {
                server.endpoint = endpoint.trim().to_owned();
                server.make_container();
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("azurite did not come up; {}", fs::read_to_string(&log).unwrap_or_default());
    }

    fn make_container(&self) {
        let made = Command::new("node")
            .args(["-e", MAKE_CONTAINER, &self.endpoint, ACCOUNT, KEY, CONTAINER])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Where the container is, with that key.
    pub(crate) fn location(&self, key: &str) -> Location {
        Location {
            provider: Provider::Azure {
                container: CONTAINER.to_owned(),
                account: ACCOUNT.to_owned(),
                account_key: Secret::new(key.to_owned()),
                endpoint: Some(format!("{}/{ACCOUNT}", self.endpoint)),
                client_id: None,
            },
            prefix: Key::ROOT,
            ca_file: None,
            insecure_skip_verify: false,
        }
    }

    /// The same, as Thanos is told of it.
    pub(crate) fn objstore_yaml(&self) -> String {
        let endpoint = &self.endpoint;
        format!(
            "type: AZURE\nconfig:\n  container: {CONTAINER}\n  storage_connection_string: \
             'DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint}/{ACCOUNT};'\n"
        )
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
