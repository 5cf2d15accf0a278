// Asks a query process everything that Prometheus's Go client library can ask: go run . URL SECONDS
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

func fail(format string, a ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", a...)
	os.Exit(1)
}

func check(what string, err error, ok bool, got any) {
	if err != nil {
		fail("%s: %v", what, err)
	}
	if !ok {
		fail("%s: %v", what, got)
	}
}

func main() {
	seconds, err := strconv.ParseInt(os.Args[2], 10, 64)
	check("the time", err, true, nil)
	end := time.Unix(seconds, 0)
	start := end.Add(-4 * time.Second)
	client, err := api.NewClient(api.Config{Address: os.Args[1]})
	check("the client", err, true, nil)
	a := v1.NewAPI(client)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	values(ctx, a, start, end)
	about(ctx, a, end)
	errors(ctx, a, end)
}

func values(ctx context.Context, a v1.API, start, end time.Time) {
	value, warnings, err := a.Query(ctx, "sum by (cluster) (shop_requests_total)", end)
	vector, isVector := value.(model.Vector)
	ok := isVector && len(vector) == 1 && vector[0].Value == 20 && vector[0].Metric["cluster"] == "a"
	check("query", err, ok && len(warnings) == 0, value)
	value, _, err = a.Query(ctx, "1 / 0", end, v1.WithTimeout(10*time.Second))
	scalar, isScalar := value.(*model.Scalar)
	check("a scalar", err, isScalar && scalar.Value.String() == "+Inf", value)
	value, _, err = a.Query(ctx, "up[4s]", end, v1.WithLookbackDelta(time.Second), v1.WithStats(v1.AllStatsValue))
	matrix, isMatrix := value.(model.Matrix)
	check("samples", err, isMatrix && len(matrix) == 1 && len(matrix[0].Values) > 0, value)
	value, warnings, err = a.Query(ctx, "shop_temperature_celsius", end, v1.WithLimit(1))
	vector, _ = value.(model.Vector)
	check("a limit", err, len(vector) == 1 && len(warnings) == 1, value)

	r := v1.Range{Start: start, End: end, Step: time.Second}
	value, _, err = a.QueryRange(ctx, "shop_temperature_celsius", r)
	matrix, isMatrix = value.(model.Matrix)
	check("query_range", err, isMatrix && len(matrix) == 2 && len(matrix[0].Values) > 1, value)

	series, _, err := a.Series(ctx, []string{"up", "shop_temperature_celsius"}, start, end)
	check("series", err, len(series) == 3, series)
	names, _, err := a.LabelNames(ctx, []string{"shop_requests_total"}, start, end)
	check("labels", err, len(names) == 6, names)
	found, _, err := a.LabelValues(ctx, "cluster", nil, start, end, v1.WithLimit(5))
	check("label values", err, len(found) == 1 && found[0] == "a", found)

	// The client hands out the JSON as it is.
	pretty, err := a.FormatQuery(ctx, "sum by(cluster)(up)")
	check("format_query", err, pretty == `"sum by (cluster) (up)"`, pretty)
	exemplars, err := a.QueryExemplars(ctx, "shop_requests_total", end.Add(-10*time.Minute), end)
	check("exemplars", err, len(exemplars) == 2 && len(exemplars[0].Exemplars) > 0, exemplars)
}

func about(ctx context.Context, a v1.API, end time.Time) {
	alerts, err := a.Alerts(ctx)
	ok := len(alerts.Alerts) == 2 && alerts.Alerts[0].Labels["cluster"] == "a"
	check("alerts", err, ok, alerts)
	rules, err := a.Rules(ctx, nil)
	check("rules", err, len(rules.Groups) == 2 && len(rules.Groups[0].Rules) == 3, rules)
	_, isAlerting := rules.Groups[1].Rules[0].(v1.AlertingRule)
	check("a rule", err, isAlerting, rules.Groups[1].Rules[0])
	managers, err := a.AlertManagers(ctx)
	check("alertmanagers", err, len(managers.Active) == 1, managers)
	targets, err := a.Targets(ctx)
	check("targets", err, len(targets.Active) == 1 && targets.Active[0].Labels["cluster"] == "a", targets)
	of, err := a.TargetsMetadata(ctx, `{job="shop"}`, "shop_temperature_celsius", "")
	check("targets' metadata", err, len(of) == 1 && of[0].Type == v1.MetricTypeGauge, of)
	metadata, err := a.Metadata(ctx, "shop_temperature_celsius", "1")
	check("metadata", err, len(metadata["shop_temperature_celsius"]) == 1, metadata)

	build, err := a.Buildinfo(ctx)
	check("build information", err, build.Version[:2] == "3.", build)
	runtime, err := a.Runtimeinfo(ctx)
	check("runtime information", err, runtime.StartTime.Before(time.Now()), runtime)
	flags, err := a.Flags(ctx)
	check("flags", err, flags["query.timeout"] != "", flags)
	config, err := a.Config(ctx)
	check("configuration", err, config.YAML != "", config)
	tsdb, err := a.TSDB(ctx)
	check("heads", err, tsdb.HeadStats.NumSeries > 5, tsdb)
}

func errors(ctx context.Context, a v1.API, end time.Time) {
	_, _, err := a.Query(ctx, "up{", end)
	known, isKnown := err.(*v1.Error)
	check("a query that is none", nil, isKnown && known.Type == v1.ErrBadData, err)
	_, _, err = a.Query(ctx, "up * on (cluster) shop_temperature_celsius * on (cluster) shop_temperature_celsius", end)
	known, isKnown = err.(*v1.Error)
	check("a query that fails", nil, isKnown && known.Type == v1.ErrExec, err)
}
