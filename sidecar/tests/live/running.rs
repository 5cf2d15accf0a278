//! A sidecar within the test's process, asked over gRPC in memory.

use std::time::Duration;

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_model::Labels;
use periplus_proto::WireLimits;
use periplus_proto::fleet::fleet_client::FleetClient;
use periplus_proto::fleet::{ExecuteRequest, Trailer, execute_response};
use periplus_proto::rows::{BatchDecoder, ResultRow};
use periplus_sidecar::{Config, EvaluateIn, Sidecar};
use tonic::Status;
use tonic::transport::Channel;

pub(crate) struct Running {
    pub(crate) sidecar: Sidecar,
    pub(crate) channel: Channel,
    pub(crate) admin: Admin,
    drain: Drain,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

pub(crate) fn config(url: &str, evaluate_in: EvaluateIn) -> Config {
    let mut config = Config::new(url.parse().unwrap());
    config.evaluate_in = evaluate_in;
    config.prometheus_poll_interval = Duration::from_millis(300);
    config
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        let me = Self::unready(config);
        assert!(me.sidecar.known(Duration::from_secs(30)).await.is_some());
        me
    }

    pub(crate) fn unready(config: Config) -> Self {
        let (admin, drain) = (Admin::new("sidecar", "test", "test"), Drain::new());
        let sidecar = Sidecar::new(config, None, &admin, &drain).unwrap();
        let channel = sidecar.connect().unwrap();
        Self { sidecar, channel, admin, drain }
    }

    /// Waits until the snapshot satisfies `wanted`.
    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&periplus_sidecar::prometheus::Snapshot) -> bool,
    ) {
        for _ in 0..600 {
            if wanted(&self.sidecar.snapshot()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never: {what}; {:?}", self.sidecar.snapshot());
    }

    /// Rows of `columns` columns and the trailer.
    pub(crate) async fn execute(
        &self,
        request: ExecuteRequest,
        columns: usize,
    ) -> Result<(Vec<ResultRow>, Trailer), Status> {
        let steps = if request.step_ms == 0 {
            1
        } else {
            usize::try_from((request.end_ms - request.start_ms) / request.step_ms + 1).unwrap()
        };
        let mut decoder = BatchDecoder::new(steps, columns, WireLimits::default());
        let mut client = FleetClient::new(self.channel.clone());
        let mut stream = client.execute(request).await?.into_inner();
        let (mut rows, mut trailer) = (Vec::new(), None);
        while let Some(message) = stream.message().await? {
            match message.frame {
                Some(execute_response::Frame::Batch(batch)) => {
                    rows.extend(decoder.decode(batch).unwrap());
                }
                Some(execute_response::Frame::Trailer(t)) => trailer = Some(t),
                None => panic!("an empty frame"),
            }
        }
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok((rows, trailer.expect("a trailer")))
    }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}
