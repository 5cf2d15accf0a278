//! Which metric names may be in a part: a small Bloom filter that the catalog carries.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

const BITS_PER_NAME: usize = 12;
const PROBES: u64 = 8;
/// A larger filter is not believed.
const BYTES_MAX: usize = 1 << 20;

/// A Bloom filter over metric names: 12 bits a name, 8 probes, one false hit in 300. In JSON it is
/// hexadecimal text. The empty filter says "may be" to every name.
///
/// Probe `i` of a name with hash `h` (XXH3, 64 bits) is bit `(h + i * (h >> 32 | 1)) mod bits`,
/// counted from the lowest bit of the first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameFilter(Vec<u8>);

impl NameFilter {
    /// The filter of these names, each given once.
    pub fn new<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let bytes = (names.len() * BITS_PER_NAME).div_ceil(8).clamp(8, BYTES_MAX);
        let mut bits = vec![0u8; bytes];
        for name in names {
            for bit in probes(name, bytes) {
                if let Some(byte) = bits.get_mut(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        Self(bits)
    }

    /// Whether the name may be among them; `false` is certain.
    #[must_use]
    pub fn may_contain(&self, name: &str) -> bool {
        self.0.is_empty()
            || probes(name, self.0.len())
                .all(|bit| self.0.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1))
    }

    /// From hexadecimal text, as the catalog carries it; `None` where it is none.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if !text.len().is_multiple_of(2) || text.len() > 2 * BYTES_MAX {
            return None;
        }
        let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        let byte = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
        text.as_bytes().chunks_exact(2).map(byte).collect::<Option<Vec<u8>>>().map(Self)
    }

    /// Its bits.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn probes(name: &str, bytes: usize) -> impl Iterator<Item = usize> {
    let hash = xxh3_64(name.as_bytes());
    let (step, bits) = (hash >> 32 | 1, bytes as u64 * 8);
    (0..PROBES).map(move |i| (hash.wrapping_add(i.wrapping_mul(step)) % bits) as usize)
}

/// Hexadecimal text.
impl std::fmt::Display for NameFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Serialize for NameFilter {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NameFilter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        let bad = || serde::de::Error::custom("a name filter is hexadecimal text");
        Self::from_text(&text).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_names_and_few_others() {
        let names: Vec<String> = (0..1000).map(|i| format!("metric_{i}_total")).collect();
        let filter = NameFilter::new(names.iter().map(String::as_str));
        assert!(names.iter().all(|n| filter.may_contain(n)));
        let others = (0..10_000).filter(|i| filter.may_contain(&format!("other_{i}"))).count();
        assert!(others < 100, "{others} of 10,000");
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<NameFilter>(&text).unwrap(), filter);
        assert!(serde_json::from_str::<NameFilter>("\"abc\"").is_err());
        assert!(NameFilter::default().may_contain("x"));
    }
}
