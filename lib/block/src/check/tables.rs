//! The index's own tables.

use super::Report;
use super::contents::Seen;
use crate::error::FileError;
use crate::index::Index;

pub(super) fn check_symbols(index: &Index, report: &mut Report) {
    let mut before: Option<&str> = None;
    for symbol in index.symbols() {
        match symbol {
            Err(e) => report.bad(&e),
            Ok(symbol) => {
                // Version 1 tables are in no order.
                if index.version() > 1 && before.is_some_and(|b| b >= symbol) {
                    report.error(
                        format!("index: symbol {symbol:?} is not in order"),
                        "labels of this value may not be found",
                    );
                }
                before = Some(symbol);
            }
        }
    }
}

pub(super) fn check_postings(index: &Index, seen: &Seen, report: &mut Report) {
    let mut pairs = 0usize;
    let mut before: Option<(String, String)> = None;
    let done = index.for_each_postings::<FileError>(|name, value, offset| {
        if before.as_ref().is_some_and(|(n, v)| (n.as_str(), v.as_str()) >= (name, value)) {
            report.error(
                format!("index: postings of {name}={value:?} are not in order"),
                "selectors on this label miss series",
            );
        }
        before = Some((name.to_owned(), value.to_owned()));
        pairs += usize::from(!name.is_empty());
        match index.postings_at(offset) {
            Err(e) => report.bad(&e),
            Ok(list) => {
                if !list.is_sorted_by(|a, b| a < b) {
                    report.error(
                        format!("index: postings of {name}={value:?} do not ascend"),
                        "selectors on this label miss series",
                    );
                } else if !seen.agrees(name, value, &list) {
                    report.error(
                        format!(
                            "index: postings of {name}={value:?} name other series than have it"
                        ),
                        "selectors on this label answer wrongly",
                    );
                }
            }
        }
        Ok(())
    });
    if let Err(e) = done {
        report.bad(&e);
    }
    if pairs != seen.pair_count() {
        report.error(
            format!(
                "index: {} different labels are in series, {pairs} have postings",
                seen.pair_count()
            ),
            "selectors on the missing ones find nothing",
        );
    }
}
