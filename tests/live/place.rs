//! Where a process runs: on loopback, or in a network namespace of its own behind a link that can be cut
//! and slowed.

use std::ffi::OsStr;
use std::process::Command;

/// Where a process runs and listens.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The address it listens on.
    pub(crate) host: String,
    namespace: Option<String>,
}

impl Place {
    pub(crate) fn loopback() -> Self {
        Self { host: "127.0.0.1".into(), namespace: None }
    }

    /// A command that runs `program` there.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.namespace {
            None => Command::new(program),
            // It replaces itself by the program, so the child's id is the program's.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        }
    }
}

/// A network namespace, joined to ours by a pair of virtual devices; removed when dropped.
pub(crate) struct Namespace {
    name: String,
    device: String,
    host: String,
}

fn ip(args: &[&str]) -> Result<(), String> {
    run("ip", args)
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

impl Namespace {
    /// Makes one; says why not where this process may not.
    pub(crate) fn new(number: u8) -> Result<Self, String> {
        let id = std::process::id();
        let (name, device) =
            (format!("periplus-{id}-{number}"), format!("pp{}n{number}", id % 100_000));
        let peer = format!("{device}p");
        let this = Self { host: format!("10.231.{number}.2"), name, device };
        let (name, device) = (this.name.as_str(), this.device.as_str());
        ip(&["netns", "add", name])?;
        ip(&["link", "add", device, "type", "veth", "peer", "name", &peer])?;
        ip(&["link", "set", &peer, "netns", name])?;
        ip(&["addr", "add", &format!("10.231.{number}.1/30"), "dev", device])?;
        ip(&["link", "set", device, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{}/30", this.host), "dev", &peer])?;
        ip(&["-n", name, "link", "set", &peer, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(this)
    }

    pub(crate) fn place(&self) -> Place {
        Place { host: self.host.clone(), namespace: Some(self.name.clone()) }
    }

    /// Cuts the link: packets vanish, connections hang.
    pub(crate) fn cut(&self) {
        ip(&["link", "set", &self.device, "down"]).expect("a link to cut");
    }

    /// Mends it.
    pub(crate) fn mend(&self) {
        ip(&["link", "set", &self.device, "up"]).expect("a link to mend");
    }

    /// Makes it slow: by delay and rate, or by a rate so low that it delays where the kernel has no
    /// delays; says why not where it can do neither.
    pub(crate) fn slow(&self) -> Result<(), String> {
        let on = ["qdisc", "replace", "dev", &self.device, "root"];
        let delay = ["netem", "delay", "150ms", "rate", "2mbit"];
        let rate = ["tbf", "rate", "100kbit", "burst", "2000", "latency", "2s"];
        run("tc", &[&on[..], &delay].concat()).or_else(|_| run("tc", &[&on[..], &rate].concat()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = ip(&["link", "del", &self.device]);
        let _gone = ip(&["netns", "del", &self.name]);
    }
}
