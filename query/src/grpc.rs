//! The query layer as an endpoint of another one: `periplus.fleet.v1.Fleet`, and `thanos.Store`,
//! `thanos.Query`, `thanos.info.Info` for those who speak Thanos.
//!
//! What is missing below is told upwards by name; a partial aggregation asked for from above is asked for
//! below, merged, and passed on as a partial again.

mod fleet;
mod info;
mod query;
mod store;
mod tell;

use periplus_promql::engine::{ErrorKind, QueryError};
use tonic::service::{Routes, RoutesBuilder};
use tonic::{Code, Status};

use crate::about::Own;
use crate::answer::Answerer;
use crate::api::Defaults;
use periplus_proto::fleet::about_server::AboutServer;
use periplus_proto::fleet::fleet_server::FleetServer;
use periplus_proto::thanos::exemplars_server::ExemplarsServer;
use periplus_proto::thanos::info::info_server::InfoServer;
use periplus_proto::thanos::metadata_server::MetadataServer;
use periplus_proto::thanos::query_server::QueryServer;
use periplus_proto::thanos::rules_server::RulesServer;
use periplus_proto::thanos::status_server::StatusServer;
use periplus_proto::thanos::store_server::StoreServer;
use periplus_proto::thanos::targets_server::TargetsServer;

/// The services.
#[derive(Clone, Debug)]
pub struct Services {
    /// Answers questions.
    pub answerer: Answerer,
    /// What holds when a request does not say.
    pub defaults: Defaults,
    /// The rules of this process.
    pub own: Own,
}

impl Services {
    /// The routes of all services.
    #[must_use]
    pub fn routes(self) -> Routes {
        let max = periplus_daemon::grpc::REQUEST_BYTES_MAX;
        let mut routes = RoutesBuilder::default();
        routes
            .add_service(FleetServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(StoreServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(QueryServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(RulesServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(TargetsServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(MetadataServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(ExemplarsServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(StatusServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(AboutServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(InfoServer::new(self).max_decoding_message_size(max));
        routes.routes()
    }
}

/// A query's error as a gRPC status: what the caller did wrong keeps its kind, see
/// [`crate::fanout::call::CallError`] for the other direction.
pub(crate) fn status(e: QueryError) -> Status {
    let code = match e.kind {
        ErrorKind::BadData => Code::InvalidArgument,
        ErrorKind::Execution => Code::FailedPrecondition,
        ErrorKind::Limit => Code::ResourceExhausted,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Canceled => Code::Cancelled,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Internal => Code::Internal,
    };
    Status::new(code, e.message)
}
