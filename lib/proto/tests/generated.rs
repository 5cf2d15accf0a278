//! The checked-in code is what the `.proto` files say. `PERIPLUS_REGENERATE=1 cargo test -p
//! periplus-proto --test generated` writes it anew.

use std::path::Path;

const PROTOS: &[&str] = &[
    "io/prometheus/client/metrics.proto",
    "prometheus/remote.proto",
    "thanos/store.proto",
    "thanos/query.proto",
    "thanos/rules.proto",
    "thanos/targets.proto",
    "thanos/metadata.proto",
    "thanos/exemplars.proto",
    "thanos/status.proto",
    "thanos/info/info.proto",
    "periplus/fleet/v1/fleet.proto",
    "periplus/fleet/v1/about.proto",
];

const GENERATED: &[&str] = &[
    "io.prometheus.client.rs",
    "prometheus.rs",
    "thanos.rs",
    "thanos.info.rs",
    "periplus.fleet.v1.rs",
];

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors =
        protox::compile(PROTOS, [root.join("proto")]).expect("the .proto files compile");
    let out = tempfile::tempdir().expect("a directory for the generated code");
    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(out.path())
        .compile_fds(descriptors)
        .expect("code is generated");
    for name in GENERATED {
        let fresh = std::fs::read_to_string(out.path().join(name)).expect("generated file");
        let kept = root.join("src/generated").join(name);
        if std::env::var_os("PERIPLUS_REGENERATE").is_some() {
            std::fs::write(&kept, &fresh).expect("generated file is written");
        }
        let old = std::fs::read_to_string(&kept).unwrap_or_default();
        assert!(old == fresh, "src/generated/{name} differs from what its .proto file generates");
    }
}
