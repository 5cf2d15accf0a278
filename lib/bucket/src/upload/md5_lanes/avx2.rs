//! Eight at a time, with AVX2.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_si256, _mm256_extract_epi64,
    _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set_epi64x, _mm256_set1_epi32,
    _mm256_setzero_si256, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};
use std::io;

use super::{LANES, SLICE};

const BLOCK: usize = 64;

/// MD5's constants: the first 32 bits of the fraction of the sines of 1, 2, 3, …
#[rustfmt::skip]
const K: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

type Buffer = [u8; SLICE + 2 * BLOCK];

/// As [`super::digests`].
#[target_feature(enable = "avx2")]
pub(super) fn digests(
    count: usize,
    len: u64,
    mut read: impl FnMut(usize, u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Vec<[u8; 16]>> {
    let count = count.min(LANES);
    if count == 0 {
        return Ok(Vec::new());
    }
    // Lanes without a stream hash nothing in particular.
    let mut buffers: Vec<Buffer> = vec![[0; SLICE + 2 * BLOCK]; LANES];
    let mut state = START.map(|word| _mm256_set1_epi32(word.cast_signed()));
    let mut at = 0;
    loop {
        let wanted = usize::try_from(len - at).unwrap_or(usize::MAX).min(SLICE);
        for (lane, buffer) in buffers.iter_mut().enumerate().take(count) {
            read(lane, at, &mut buffer[..wanted])?;
        }
        at += wanted as u64;
        // A slice that is not whole is the last one; there is always one, if only for the padding.
        let is_last = wanted < SLICE;
        let filled = if is_last { (wanted + 9).next_multiple_of(BLOCK) } else { wanted };
        if is_last {
            for buffer in &mut buffers {
                buffer[wanted..filled].fill(0);
                buffer[wanted] = 0x80;
                buffer[filled - 8..filled].copy_from_slice(&len.wrapping_mul(8).to_le_bytes());
            }
        }
        for block in (0..filled).step_by(BLOCK) {
            compress(&mut state, &buffers, block);
        }
        if is_last {
            return Ok(lanes(state).into_iter().take(count).collect());
        }
    }
}

/// The digest in each lane.
#[target_feature(enable = "avx2")]
fn lanes(state: [__m256i; 4]) -> [[u8; 16]; LANES] {
    let mut digests = [[0; 16]; LANES];
    for (n, word) in state.into_iter().enumerate() {
        let pairs = [
            _mm256_extract_epi64::<0>(word),
            _mm256_extract_epi64::<1>(word),
            _mm256_extract_epi64::<2>(word),
            _mm256_extract_epi64::<3>(word),
        ];
        let words = pairs.map(i64::to_le_bytes);
        for (lane, bytes) in words.as_flattened().chunks_exact(4).enumerate() {
            digests[lane][n * 4..n * 4 + 4].copy_from_slice(bytes);
        }
    }
    digests
}

/// 32 bytes of a lane's block.
#[target_feature(enable = "avx2")]
#[inline]
fn load(buffer: &Buffer, at: usize) -> __m256i {
    let bytes = buffer[at..].first_chunk::<32>().unwrap_or(&[0; 32]);
    let quarter = |n: usize| {
        let bytes = bytes[n * 8..].first_chunk::<8>().copied().unwrap_or_default();
        i64::from_le_bytes(bytes)
    };
    _mm256_set_epi64x(quarter(3), quarter(2), quarter(1), quarter(0))
}

/// Eight words of every lane's block: of each word all lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn transposed(buffers: &[Buffer], at: usize) -> [__m256i; 8] {
    let mut rows = [_mm256_setzero_si256(); LANES];
    for (row, buffer) in rows.iter_mut().zip(buffers) {
        *row = load(buffer, at);
    }
    let [a, b, c, d, e, f, g, h] = rows;
    let (ab, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (cd, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    let (ef, ef_high) = (_mm256_unpacklo_epi32(e, f), _mm256_unpackhi_epi32(e, f));
    let (gh, gh_high) = (_mm256_unpacklo_epi32(g, h), _mm256_unpackhi_epi32(g, h));
    let first = [
        _mm256_unpacklo_epi64(ab, cd),
        _mm256_unpackhi_epi64(ab, cd),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ];
    let second = [
        _mm256_unpacklo_epi64(ef, gh),
        _mm256_unpackhi_epi64(ef, gh),
        _mm256_unpacklo_epi64(ef_high, gh_high),
        _mm256_unpackhi_epi64(ef_high, gh_high),
    ];
    [
        _mm256_permute2x128_si256::<0x20>(first[0], second[0]),
        _mm256_permute2x128_si256::<0x20>(first[1], second[1]),
        _mm256_permute2x128_si256::<0x20>(first[2], second[2]),
        _mm256_permute2x128_si256::<0x20>(first[3], second[3]),
        _mm256_permute2x128_si256::<0x31>(first[0], second[0]),
        _mm256_permute2x128_si256::<0x31>(first[1], second[1]),
        _mm256_permute2x128_si256::<0x31>(first[2], second[2]),
        _mm256_permute2x128_si256::<0x31>(first[3], second[3]),
    ]
}

/// One step: `$a` becomes `$b` and the rotated sum of all.
macro_rules! step {
    ($mix:ident, $a:ident, $b:ident, $c:ident, $d:ident, $word:expr, $k:expr, $by:literal) => {
        let k = _mm256_set1_epi32($k.cast_signed());
        let sum = _mm256_add_epi32(_mm256_add_epi32($a, k), $word);
        let sum = _mm256_add_epi32(sum, $mix($b, $c, $d));
        let (left, right) = (_mm256_slli_epi32::<$by>(sum), _mm256_srli_epi32::<{ 32 - $by }>(sum));
        $a = _mm256_add_epi32(_mm256_or_si256(left, right), $b);
    };
}

/// Sixteen steps; the words come in the order `$times * j + $plus`.
macro_rules! round {
    ($mix:ident, [$a:ident, $b:ident, $c:ident, $d:ident], $words:ident, $k:expr, $times:literal, $plus:literal,
     [$p:literal, $q:literal, $r:literal, $s:literal]) => {
        for j in [0, 4, 8, 12] {
            let word = |j: usize| $words[($times * j + $plus) % 16];
            step!($mix, $a, $b, $c, $d, word(j), K[$k + j], $p);
            step!($mix, $d, $a, $b, $c, word(j + 1), K[$k + j + 1], $q);
            step!($mix, $c, $d, $a, $b, word(j + 2), K[$k + j + 2], $r);
            step!($mix, $b, $c, $d, $a, word(j + 3), K[$k + j + 3], $s);
        }
    };
}

#[target_feature(enable = "avx2")]
#[inline]
fn first(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(d, _mm256_and_si256(b, _mm256_xor_si256(c, d)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn second(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_and_si256(d, b), _mm256_andnot_si256(d, c))
}

#[target_feature(enable = "avx2")]
#[inline]
fn third(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(b, _mm256_xor_si256(c, d))
}

#[target_feature(enable = "avx2")]
#[inline]
fn fourth(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    let not_d = _mm256_xor_si256(d, _mm256_set1_epi32(-1));
    _mm256_xor_si256(c, _mm256_or_si256(b, not_d))
}

/// Takes in a block of every lane.
#[target_feature(enable = "avx2")]
fn compress(state: &mut [__m256i; 4], buffers: &[Buffer], at: usize) {
    let halves = [transposed(buffers, at), transposed(buffers, at + 32)];
    let words = halves.as_flattened();
    let [mut a, mut b, mut c, mut d] = *state;
    round!(first, [a, b, c, d], words, 0, 1, 0, [7, 12, 17, 22]);
    round!(second, [a, b, c, d], words, 16, 5, 1, [5, 9, 14, 20]);
    round!(third, [a, b, c, d], words, 32, 3, 5, [4, 11, 16, 23]);
    round!(fourth, [a, b, c, d], words, 48, 7, 0, [6, 10, 15, 21]);
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = _mm256_add_epi32(*word, add);
    }
}
