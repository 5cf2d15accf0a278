//! How long what is kept: by resolution, and by matchers.
//!
//! A rule is `[SELECTOR] raw=30d,5m=180d,1h=2y`; what a rule does not name, and what no rule matches, is
//! kept for ever. The first rule whose selector passes a stream decides for it. A selector that looks at
//! labels of series, not of streams, makes an [`Erasure`] for series of the streams it may match.

use std::str::FromStr;

use periplus_columnar::{Day, Resolution};
use periplus_model::duration::parse_duration;
use periplus_model::{Matcher, TimeRange};

use crate::erase::{self, Erasure};
use crate::plan::Stream;

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// As it was written.
    text: String,
    /// What it is for; empty: everything.
    matchers: Vec<Matcher>,
    /// Milliseconds by [`Resolution::ALL`].
    keep_ms: [Option<i64>; 3],
}

/// All rules, in order.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    rules: Vec<Rule>,
}

/// A rule that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("retention {text:?}: {reason}; write [SELECTOR] raw=30d,5m=180d,1h=2y")]
pub struct RuleError {
    text: String,
    reason: String,
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let refuse = |reason: &str| RuleError { text: text.to_owned(), reason: reason.to_owned() };
        let trimmed = text.trim();
        // A duration has no brace and no space; what comes before the last space is the selector.
        let (selector, limits) = match trimmed.rsplit_once(char::is_whitespace) {
            Some((selector, limits)) => (Some(selector.trim()), limits),
            None => (None, trimmed),
        };
        let matchers = match selector {
            Some(selector) => erase::matchers(selector).map_err(|e| refuse(&e.reason))?,
            None => Vec::new(),
        };
        let mut keep_ms = [None; 3];
        for limit in limits.split(',') {
            let (name, value) =
                limit.split_once('=').ok_or_else(|| refuse("a limit has the form raw=30d"))?;
            let at = Resolution::ALL.iter().position(|r| r.as_str() == name);
            let slot = at.and_then(|at| keep_ms.get_mut(at));
            let slot = slot.ok_or_else(|| refuse("resolutions are raw, 5m and 1h"))?;
            let ms = parse_duration(value).map_err(|e| refuse(&e.to_string()))?;
            if ms <= 0 {
                return Err(refuse(
                    "a limit is longer than nothing; leave it out to keep for ever",
                ));
            }
            *slot = Some(ms);
        }
        Ok(Self { text: trimmed.to_owned(), matchers, keep_ms })
    }
}

impl Rule {
    fn keep(&self, resolution: Resolution) -> Option<i64> {
        let at = Resolution::ALL.iter().position(|r| *r == resolution)?;
        self.keep_ms.get(at).copied().flatten()
    }

    /// Whether all matchers are about labels of the stream, and pass.
    fn decides(&self, stream: &Stream) -> bool {
        self.matchers.iter().all(|m| stream.get(&*m.name).is_some_and(|v| m.matches(v)))
    }

    /// Whether some matchers are about series, and those about the stream pass.
    fn is_about_series_of(&self, stream: &Stream) -> bool {
        let may = |m: &Matcher| stream.get(&*m.name).is_none_or(|v| m.matches(v));
        self.matchers.iter().all(may) && !self.decides(stream)
    }
}

impl Retention {
    /// These rules; the first that matches counts.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// How long a stream's samples are kept; `None`: for ever.
    #[must_use]
    pub fn keep_ms(&self, stream: &Stream, resolution: Resolution) -> Option<i64> {
        self.rules.iter().find(|r| r.decides(stream)).and_then(|r| r.keep(resolution))
    }

    /// Whether a whole day is older than it is kept.
    #[must_use]
    pub fn is_over(&self, stream: &Stream, resolution: Resolution, day: Day, now_ms: i64) -> bool {
        let keep = self.keep_ms(stream, resolution);
        keep.is_some_and(|keep| day.range().max_t < now_ms.saturating_sub(keep))
    }

    /// What rules about series want gone of a day: whole days at a time.
    #[must_use]
    pub fn erasures(
        &self,
        stream: &Stream,
        resolution: Resolution,
        day: Day,
        now_ms: i64,
    ) -> Vec<Erasure> {
        let about = self.rules.iter().filter(|r| r.is_about_series_of(stream));
        let due = about.filter(|r| {
            let keep = r.keep(resolution);
            keep.is_some_and(|keep| day.range().max_t < now_ms.saturating_sub(keep))
        });
        due.map(|r| Erasure {
            id: format!("by rule {}", r.text),
            matchers: r.matchers.clone(),
            range: TimeRange::ALL,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn stream(cluster: &str) -> Stream {
        Stream::from([("cluster".into(), cluster.into())])
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules =
            ["{cluster=\"dev\"} raw=7d", "{__name__=~\"debug_.*\"} raw=1d", "raw=30d,1h=2y"];
        let r = Retention::new(rules.iter().map(|r| r.parse().unwrap()).collect());
        assert_eq!(r.keep_ms(&stream("dev"), Resolution::Raw), Some(7 * DAY));
        assert_eq!(r.keep_ms(&stream("dev"), Resolution::OneHour), None);
        assert_eq!(r.keep_ms(&stream("prod"), Resolution::Raw), Some(30 * DAY));
        assert_eq!(r.keep_ms(&stream("prod"), Resolution::FiveMinutes), None);
        // A day is over when its last millisecond is.
        let over = |day, now| r.is_over(&stream("dev"), Resolution::Raw, Day(day), now);
        assert!(!over(10, 18 * DAY - 1));
        assert!(over(10, 18 * DAY));
        let erased = r.erasures(&stream("prod"), Resolution::Raw, Day(10), 12 * DAY);
        assert_eq!(erased.len(), 1);
        assert!(erased[0].takes(
            &stream("prod"),
            &periplus_model::Labels::from_pairs([("__name__", "debug_x")])
        ));
        assert!(r.erasures(&stream("prod"), Resolution::Raw, Day(10), 11 * DAY).is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_remedy() {
        for text in
            ["", "raw", "raw=", "2h=3d", "raw=0s", "raw=-1d", "{cluster=} raw=1d", "{ raw=1d"]
        {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains("SELECTOR"), "{error}");
        }
    }
}
