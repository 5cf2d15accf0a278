//! What every process needs before it knows its role.
//!
//! In the order a process lives: [`config`] makes one set of settings of flags, environment and a YAML
//! file; [`telemetry`] turns on logs and traces; [`tls`] reads certificates; [`listen`] binds addresses and
//! bounds connections; [`grpc`] and [`http`] serve over them with limits that a hostile client can't get
//! around; [`admin`] shows metrics and health; [`drain`] ends it all in order.
//!
//! It is not a framework: each part is a function or a small value that a service takes or leaves, and
//! nothing here knows a role. There are no globals but the one the `tracing` crate has.
//!
//! The one decision worth knowing: a setting is declared once, as a clap argument. Its environment
//! variable and its field in the file are derived from the flag's name, and a value from the file is
//! read by the very parser that reads the flag, so the three can't drift apart.

pub mod admin;
pub mod config;
pub mod drain;
pub mod grpc;
pub mod http;
pub mod listen;
pub mod telemetry;
pub mod tls;
