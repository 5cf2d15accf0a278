//! `label_replace` and `label_join`.

use periplus_model::METRIC_NAME;
use regex::Regex;

use super::Exec;
use super::row::Frame;
use crate::engine::QueryError;
use crate::plan::Op;

/// The largest compiled program accepted, in bytes.
const PROGRAM_BYTES_MAX: usize = 16 << 20;

impl Exec<'_> {
    pub(super) fn relabel(&mut self, op: &Op) -> Result<Frame, QueryError> {
        let mut f = match op {
            Op::LabelReplace { child, dst, replacement, src, regex } => {
                let re = self.compile(regex)?;
                let mut f = self.take_frame(*child)?;
                for r in &mut f.rows {
                    let value = r.labels.value(src);
                    let Some(found) = re.captures(value) else { continue };
                    let mut out = String::new();
                    found.expand(replacement, &mut out);
                    r.labels = r.labels.to_builder().set(dst.as_str(), out).build();
                    r.drop_name &= dst != METRIC_NAME;
                }
                f
            }
            Op::LabelJoin { child, dst, separator, src } => {
                let mut f = self.take_frame(*child)?;
                for r in &mut f.rows {
                    let parts: Vec<&str> = src.iter().map(|s| r.labels.value(s)).collect();
                    let joined = parts.join(separator);
                    r.labels = r.labels.to_builder().set(dst.as_str(), joined).build();
                    r.drop_name &= dst != METRIC_NAME;
                }
                f
            }
            _ => return Err(QueryError::internal("not a label function")),
        };
        f.merge_equal()?;
        Ok(f)
    }

    fn compile(&self, regex: &str) -> Result<Regex, QueryError> {
        let max = self.spec.limits.regex_bytes;
        if regex.len() > max {
            let len = regex.len() as u64;
            return Err(QueryError::limit("bytes of regular expression", len, max as u64));
        }
        regex::RegexBuilder::new(&format!("^(?s:{regex})$"))
            .size_limit(PROGRAM_BYTES_MAX)
            .build()
            .map_err(|_| {
                let text = format!("invalid regular expression in label_replace(): {regex}");
                QueryError::execution(text)
            })
    }
}
