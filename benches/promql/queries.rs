//! What is asked: what dashboards and rules of a Kubernetes fleet ask, of every kind of work there is.

/// All of them, over [`super::dataset::GRID`].
pub(crate) const ALL: [&str; 20] = [
    // Top tens.
    "topk(10, sum by (cluster, namespace, pod) \
     (rate(container_cpu_usage_seconds_total{container!=\"\",container!=\"POD\"}[5m])))",
    "topk(10, container_memory_working_set_bytes{container!=\"\"})",
    "bottomk by (cluster) (3, rate(container_network_receive_bytes_total[5m]))",
    // Sums and averages of rates, of values, of what is left after a comparison.
    "sum by (cluster, mode) (rate(node_cpu_seconds_total[5m]))",
    "count by (cluster, phase) (kube_pod_status_phase == 1)",
    "avg by (cluster, node) (irate(container_fs_writes_bytes_total[5m]))",
    // Classic histograms.
    "histogram_quantile(0.99, sum by (le, cluster) (rate(http_request_duration_seconds_bucket[5m])))",
    "histogram_quantile(0.9, sum by (le, cluster, namespace, service) \
     (rate(http_request_duration_seconds_bucket[5m])))",
    // Binary joins.
    "sum by (cluster, service) (rate(http_requests_total{code=~\"5..\"}[5m])) \
     / sum by (cluster, service) (rate(http_requests_total[5m]))",
    "container_memory_working_set_bytes{container!=\"\"} \
     / on (cluster, namespace, pod, container, id) \
     container_spec_memory_limit_bytes{container!=\"\"} > 0.8",
    "sum by (cluster, node) (sum by (cluster, namespace, pod) \
     (container_memory_working_set_bytes{container!=\"\"}) \
     * on (cluster, namespace, pod) group_left (node) \
     max by (cluster, namespace, pod, node) (kube_pod_info))",
    "rate(container_cpu_usage_seconds_total{container!=\"\"}[5m]) \
     unless on (cluster, namespace, pod) rate(http_requests_total[5m]) > 0",
    // Windows.
    "max by (cluster, namespace) \
     (quantile_over_time(0.95, container_memory_working_set_bytes{container!=\"\"}[30m]))",
    "quantile_over_time(0.5, node_load1[1h])",
    "predict_linear(node_filesystem_avail_bytes[6h], 86400) < 5e11",
    // Subqueries.
    "max_over_time(sum by (cluster) (rate(http_requests_total[5m]))[1h:1m])",
    "quantile_over_time(0.9, \
     (sum by (cluster, namespace) (rate(container_cpu_usage_seconds_total[5m])))[30m:2m])",
    // Native histograms.
    "histogram_quantile(0.99, sum by (cluster) (rate(rpc_duration_seconds[5m])))",
    "sum by (service) (histogram_count(rate(rpc_duration_seconds[5m])))",
    "histogram_fraction(0, 0.1, sum by (service) (rate(rpc_duration_seconds[5m])))",
];
