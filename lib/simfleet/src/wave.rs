//! Rates over time whose integrals are known in closed form.
//!
//! Each random part is made of cells of fixed length, and within every cell its integral is zero.
//! So the integral from any time to any other needs only the two cells at the ends, however many
//! lie between, and a counter that has run for months costs what a fresh one does.

use std::f64::consts::TAU;

/// Seconds in a day.
pub(crate) const DAY_S: f64 = 86_400.0;

/// Mixes two numbers into one that looks random (the finisher of SplitMix64).
pub(crate) fn mix(seed: u64, k: u64) -> u64 {
    let mut z = seed ^ k.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Mixes a text into a seed.
pub(crate) fn mix_str(seed: u64, s: &str) -> u64 {
    s.bytes().fold(mix(seed, s.len() as u64), |h, b| mix(h, u64::from(b)))
}

/// A number in [0, 1) drawn from `seed` for `k`.
pub(crate) fn unit(seed: u64, k: u64) -> f64 {
    (mix(seed, k) >> 11) as f64 / (1u64 << 53) as f64
}

/// A number in [lo, hi) drawn from `seed` for `k`.
pub(crate) fn between(seed: u64, k: u64, lo: f64, hi: f64) -> f64 {
    lo + (hi - lo) * unit(seed, k)
}

/// The cell a time lies in, and how far into it, in [0, 1).
fn cell(t_s: f64, cell_s: f64) -> (u64, f64) {
    let x = t_s / cell_s;
    (x.floor() as i64 as u64, x - x.floor())
}

/// Smooth noise: in every cell one sine of random height.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    pub(crate) seed: u64,
    pub(crate) cell_s: f64,
    /// Largest height, relative to the wave's base.
    pub(crate) amplitude: f64,
}

impl Noise {
    fn at(self, t_s: f64) -> f64 {
        let (k, x) = cell(t_s, self.cell_s);
        self.height(k) * (TAU * x).sin()
    }

    /// The integral since the beginning of the cell, which is the integral since any cell's.
    fn integral(self, t_s: f64) -> f64 {
        let (k, x) = cell(t_s, self.cell_s);
        self.height(k) * self.cell_s / TAU * (1.0 - (TAU * x).cos())
    }

    fn height(self, k: u64) -> f64 {
        self.amplitude * (2.0 * unit(self.seed, k) - 1.0)
    }
}

/// Bursts: some cells hold one, of the given height and share of the cell; the rest of such a cell
/// is lowered so that the mean stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    pub(crate) seed: u64,
    pub(crate) cell_s: f64,
    /// Share of cells that hold a burst.
    pub(crate) probability: f64,
    /// Height of a burst, relative to the wave's base.
    pub(crate) height: f64,
    /// Share of the cell that a burst takes.
    pub(crate) duty: f64,
}

impl Pulse {
    /// How far the rest of a cell with a burst is lowered.
    pub(crate) fn lowered(self) -> f64 {
        self.height * self.duty / (1.0 - self.duty)
    }

    /// Where in cell `k` the burst begins, if it has one.
    fn begin(self, k: u64) -> Option<f64> {
        (unit(self.seed, k) < self.probability)
            .then(|| unit(mix(self.seed, 1), k) * (1.0 - self.duty))
    }

    fn at(self, t_s: f64) -> f64 {
        let (k, x) = cell(t_s, self.cell_s);
        match self.begin(k) {
            None => 0.0,
            Some(b) if x >= b && x < b + self.duty => self.height,
            Some(_) => -self.lowered(),
        }
    }

    fn integral(self, t_s: f64) -> f64 {
        let (k, x) = cell(t_s, self.cell_s);
        let Some(b) = self.begin(k) else { return 0.0 };
        let inside = (x - b).clamp(0.0, self.duty);
        self.cell_s * (inside * self.height - (x - inside) * self.lowered())
    }
}

/// A positive rate (or level): a base with a daily wave, noise of two speeds and, maybe, bursts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wave {
    /// Mean, in the metric's unit (per second for a counter).
    pub(crate) base: f64,
    /// Height of the daily wave relative to the base.
    pub(crate) daily: f64,
    /// When in the day the wave peaks, in days.
    pub(crate) peak: f64,
    pub(crate) slow: Noise,
    pub(crate) fast: Noise,
    pub(crate) pulse: Option<Pulse>,
}

impl Wave {
    /// A wave with the usual rhythm of a service: noise of 11 minutes and of 50 seconds.
    pub(crate) fn new(seed: u64, base: f64, daily: f64) -> Self {
        Self {
            base,
            daily,
            peak: 0.58 + 0.05 * unit(seed, 3),
            slow: Noise { seed: mix(seed, 1), cell_s: 660.0, amplitude: 0.16 },
            fast: Noise { seed: mix(seed, 2), cell_s: 50.0, amplitude: 0.05 },
            pulse: None,
        }
    }

    /// The same wave with bursts.
    pub(crate) fn with_pulse(mut self, pulse: Pulse) -> Self {
        self.pulse = Some(pulse);
        self
    }

    /// The same rhythm around another base.
    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        self.base *= factor;
        self
    }

    /// The rate or level at a time.
    pub(crate) fn at(&self, t_s: f64) -> f64 {
        let daily = self.daily * (TAU * (t_s / DAY_S - self.peak)).cos();
        let noise = self.slow.at(t_s) + self.fast.at(t_s);
        self.base * (1.0 + daily + noise + self.pulse.map_or(0.0, |p| p.at(t_s)))
    }

    /// The integral between two times, in the base's unit times seconds.
    pub(crate) fn integral(&self, from_s: f64, to_s: f64) -> f64 {
        let random = |t: f64| {
            self.slow.integral(t)
                + self.fast.integral(t)
                + self.pulse.map_or(0.0, |p| p.integral(t))
        };
        let daily = |t: f64| DAY_S / TAU * (TAU * (t / DAY_S - self.peak)).sin();
        self.base
            * ((to_s - from_s)
                + self.daily * (daily(to_s) - daily(from_s))
                + (random(to_s) - random(from_s)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Wave {
        let pulse = Pulse { seed: 9, cell_s: 3600.0, probability: 0.7, height: 4.0, duty: 0.08 };
        Wave::new(7, 2.0, 0.3).with_pulse(pulse)
    }

    #[test]
    fn integral_is_the_sum_of_the_rate() {
        let (w, from, to) = (busy(), 1.7e9 + 123.0, 1.7e9 + 123.0 + 20_000.0);
        let step = 0.05;
        let n = ((to - from) / step) as usize;
        let summed: f64 = (0..n).map(|i| w.at(from + (i as f64 + 0.5) * step) * step).sum();
        let exact = w.integral(from, to);
        assert!((summed / exact - 1.0).abs() < 1e-4, "{summed} {exact}");
    }

    #[test]
    fn never_negative() {
        let w = busy();
        for i in 0..200_000 {
            assert!(w.at(1.7e9 + f64::from(i) * 3.1) > 0.0);
        }
    }
}
