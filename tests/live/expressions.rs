//! Generated expressions: every shape the planner has a rule for, over labels that tell clusters apart
//! and labels that do not.

use super::data::Dice;

/// Makes expressions from a seed.
pub(crate) struct Expressions {
    dice: Dice,
    /// The middle of the data, seconds: where `@` may point.
    middle_s: i64,
    /// Whether what Prometheus 2 lacks or does otherwise may be used.
    v3: bool,
}

const GAUGES: &[&str] = &["temperature", "sparse", "state", "only_in_madrid"];
const COUNTERS: &[&str] = &["requests_total", "latency_seconds_count", "latency_seconds_sum"];
const LABELS: &[&str] = &["cluster", "region", "job", "instance", "room", "code"];
const RANGES: &[&str] = &["1m", "2m", "5m", "7m"];

impl Expressions {
    pub(crate) fn new(seed: u64, middle_s: i64, v3: bool) -> Self {
        Self { dice: Dice(seed), middle_s, v3 }
    }

    /// The next expression.
    pub(crate) fn next(&mut self) -> String {
        match self.dice.below(14) {
            0..=4 => self.aggregation(2),
            5 | 6 => self.ranking(),
            7 | 8 => self.binary(),
            9 => self.quantile(),
            10 => self.absence(),
            11 => self.relabelled(),
            12 => self.vector(2),
            _ => self.odd_ones(),
        }
    }

    /// `{...}` of a selector: none, local, external or both.
    fn matchers(&mut self) -> String {
        const SOME: &[&str] = &[
            "job=\"api\"",
            "instance=~\"host-[01].*\"",
            "job!=\"db\"",
            "cluster=\"paris\"",
            "cluster!=\"tokyo\"",
            "region=\"europe\"",
            "region=~\"as.*\"",
            "cluster=~\"paris|madrid\"",
            "cluster!~\"m.*\"",
            "zone=\"\"",
        ];
        match self.dice.below(5) {
            0 | 1 => String::new(),
            2 | 3 => format!("{{{}}}", self.dice.pick(SOME)),
            _ => format!("{{{},{}}}", self.dice.pick(SOME), self.dice.pick(SOME)),
        }
    }

    /// What follows a selector or subquery: offset and `@`.
    fn shifted(&mut self) -> String {
        let middle = self.middle_s + self.dice.below(120) as i64 - 60;
        match self.dice.below(14) {
            0 => " offset 3m".into(),
            1 => " offset -2m".into(),
            2 => format!(" @ {middle}.5"),
            3 => " @ start()".into(),
            4 => " @ end() offset 90s".into(),
            _ => String::new(),
        }
    }

    fn selector(&mut self, names: &[&str]) -> String {
        format!("{}{}", self.dice.pick(names), self.matchers())
    }

    fn instant(&mut self, names: &[&str]) -> String {
        format!("{}{}", self.selector(names), self.shifted())
    }

    fn ranged(&mut self, names: &[&str]) -> String {
        let range = *self.dice.pick(RANGES);
        format!("{}[{range}]{}", self.selector(names), self.shifted())
    }

    /// A function of one series over a window.
    fn windowed(&mut self) -> String {
        const OF_COUNTERS: &[&str] = &["rate", "increase", "irate", "resets"];
        const OF_GAUGES: &[&str] = &[
            "avg_over_time",
            "min_over_time",
            "max_over_time",
            "sum_over_time",
            "count_over_time",
            "last_over_time",
            "present_over_time",
            "stddev_over_time",
            "stdvar_over_time",
            "delta",
            "idelta",
            "deriv",
            "changes",
        ];
        match self.dice.below(10) {
            0..=4 => format!("{}({})", self.dice.pick(OF_COUNTERS), self.ranged(COUNTERS)),
            5..=7 => format!("{}({})", self.dice.pick(OF_GAUGES), self.ranged(GAUGES)),
            8 => {
                let q = self.dice.unit();
                format!("quantile_over_time({q:.2}, {})", self.ranged(&["temperature"]))
            }
            _ => {
                let inner = format!("rate({}[2m])", self.selector(COUNTERS));
                format!("max_over_time(({inner})[10m:1m]{})", self.shifted())
            }
        }
    }

    /// A vector of whole series.
    fn vector(&mut self, depth: u32) -> String {
        const OF_ONE: &[&str] = &["abs", "ceil", "floor", "sgn", "sqrt", "round", "timestamp", "-"];
        match self.dice.below(8) {
            0..=2 => self.windowed(),
            3 => self.instant(GAUGES),
            4 => self.instant(COUNTERS),
            5 => {
                format!("{}({})", self.dice.pick(OF_ONE), self.instant(&["temperature", "sparse"]))
            }
            6 if depth > 0 => {
                let inner = self.vector(depth - 1);
                let n = 1 + self.dice.below(9);
                let op = *self.dice.pick(&["+", "-", "*", "/", "%", "^", ">", "<=", "!= bool"]);
                format!("({inner}) {op} {n}")
            }
            _ => format!("clamp({}, 3, 30)", self.instant(&["temperature"])),
        }
    }

    /// `by (...)`, `without (...)` or nothing.
    fn grouping(&mut self) -> String {
        let n = 1 + self.dice.below(3);
        let chosen: Vec<&str> = (0..n).map(|_| *self.dice.pick(LABELS)).collect();
        match self.dice.below(8) {
            0 => String::new(),
            1 => " by ()".into(),
            2..=5 => format!(" by ({})", chosen.join(", ")),
            _ => format!(" without ({})", chosen.join(", ")),
        }
    }

    fn aggregation(&mut self, depth: u32) -> String {
        const OPS: &[&str] =
            &["sum", "sum", "avg", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
        let inner = if depth > 0 && self.dice.chance(0.25) {
            self.aggregation(depth - 1)
        } else {
            self.vector(1)
        };
        let grouping = self.grouping();
        match self.dice.below(12) {
            0 => {
                let q = self.dice.unit();
                format!("quantile{grouping} ({q:.2}, {inner})")
            }
            1 => {
                let state = self.instant(&["state"]);
                format!("count_values{grouping} (\"value\", {state})")
            }
            _ => format!("{}{grouping} ({inner})", self.dice.pick(OPS)),
        }
    }

    /// topk and bottomk, over values among which no two are equal.
    fn ranking(&mut self) -> String {
        let op = *self.dice.pick(&["topk", "bottomk"]);
        let k = self.dice.below(6);
        let inner = match self.dice.below(4) {
            0 => self.instant(&["temperature"]),
            1 => format!("avg_over_time({})", self.ranged(&["temperature"])),
            2 => format!("sum by (cluster, job) ({})", self.instant(&["temperature"])),
            _ => format!("sum by (instance, region) ({})", self.instant(&["temperature"])),
        };
        let grouping = self.grouping();
        let ranked = format!("{op}{grouping} ({k}, {inner})");
        if self.dice.chance(0.2) { format!("sum by (cluster) ({ranked})") } else { ranked }
    }

    fn binary(&mut self) -> String {
        let op = *self.dice.pick(&["+", "-", "*", "/", ">", "< bool", "=="]);
        let (t, s) = (self.instant(&["temperature"]), self.instant(&["sparse"]));
        let (a, b) = (self.windowed(), self.windowed());
        match self.dice.below(9) {
            0 => format!("sum by (cluster, job) ({a}) {op} sum by (cluster, job) ({b})"),
            1 => format!("sum by (job) ({a}) {op} on (job) sum by (job) ({b})"),
            2 => format!("{s} {op} ignoring (room) group_left sum without (room) ({t})"),
            3 => format!("{t} {op} on (cluster, region, job, instance) group_left {s}"),
            4 => format!("{t} and on (cluster, instance, job) {s} > 10"),
            5 => format!("{t} unless on (cluster, instance, job) {s}"),
            6 => format!("sum by (cluster) ({a}) or sum by (region) ({b})"),
            7 => format!("avg by (instance) ({t}) {op} on (instance) group_right {s}"),
            _ => format!(
                "{} * on (cluster, job, instance) group_left (version) build_info",
                self.instant(&["sparse"])
            ),
        }
    }

    fn quantile(&mut self) -> String {
        let q = self.dice.unit();
        let rate = format!("rate({})", self.ranged(&["latency_seconds_bucket"]));
        match self.dice.below(3) {
            0 => format!("histogram_quantile({q:.2}, {rate})"),
            1 => format!("histogram_quantile({q:.2}, sum by (le) ({rate}))"),
            _ => format!("histogram_quantile({q:.2}, sum by (cluster, le) ({rate}))"),
        }
    }

    fn absence(&mut self) -> String {
        match self.dice.below(5) {
            0 => format!("absent(only_in_madrid{})", self.matchers()),
            1 => "absent(nowhere{cluster=\"paris\",job=\"api\"})".into(),
            2 => format!("absent_over_time({})", self.ranged(&["sparse", "nowhere"])),
            3 => format!("absent(sum by (cluster) ({}))", self.instant(&["only_in_madrid"])),
            _ => format!("sum(absent({})) or vector(7)", self.instant(&["only_in_madrid"])),
        }
    }

    fn relabelled(&mut self) -> String {
        let v = self.instant(&["temperature"]);
        match self.dice.below(5) {
            0 => format!("label_replace({v}, \"site\", \"$1-x\", \"cluster\", \"(.).*\")"),
            1 => format!("label_join({v}, \"where\", \"/\", \"region\", \"cluster\", \"room\")"),
            2 => format!(
                "sum by (cluster) (label_replace({v}, \"cluster\", \"all\", \"job\", \"api\"))"
            ),
            3 => format!("sum by (c) (label_replace({v}, \"c\", \"$1\", \"cluster\", \"(.*)\"))"),
            _ => format!("max by (region) (label_replace({v}, \"job\", \"\", \"\", \"\"))"),
        }
    }

    fn odd_ones(&mut self) -> String {
        let agg = self.aggregation(0);
        match self.dice.below(10) {
            0 => format!("scalar({agg}) + 1"),
            1 => format!("vector(scalar(sum({})))", self.instant(&["temperature"])),
            2 => format!("time() - max(timestamp({}))", self.selector(&["temperature"])),
            3 => format!("{agg} > scalar(avg({}))", self.instant(&["temperature"])),
            4 => format!("minute() + {}", self.instant(&["state"])),
            5 => format!(
                "sum(avg_over_time(sum by (job) (rate(requests_total[1m]))[6m:90s]{}))",
                self.shifted()
            ),
            // Prometheus 2 takes a predict_linear with `@` for the same at every step.
            6 => format!("predict_linear({}[5m], 600)", self.selector(&["temperature"])),
            7 => format!("max_over_time(({agg})[5m:30s])"),
            8 if self.v3 => {
                let group = self.grouping();
                format!(
                    "{}{group} (odd{})",
                    self.dice.pick(&["min", "max", "count"]),
                    self.matchers()
                )
            }
            _ => format!("-({agg})"),
        }
    }
}
