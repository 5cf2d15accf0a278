//! Numbers with units a person reads.

use super::questions::What;

/// The value of a row in its unit.
pub(crate) fn human(what: What, v: f64) -> String {
    match what {
        What::Cpu if v < 0.1 => format!("{:.1} millicores", v * 1e3),
        What::Cpu => format!("{v:.2} cores"),
        What::Memory => bytes(v),
        What::Network => format!("{}/s", bytes(v)),
        What::Restarts => format!("{v:.1}"),
    }
}

/// Bytes in powers of 1024, three digits or so.
fn bytes(v: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut v = v;
    let mut unit = 0;
    while v.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        v /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || v >= 100.0 { 0 } else { 1 };
    format!("{v:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let check = |what, v, text: &str| assert_eq!(human(what, v), text);
        check(What::Cpu, 1.234, "1.23 cores");
        check(What::Cpu, 0.0123, "12.3 millicores");
        check(What::Memory, 512.0, "512 B");
        check(What::Memory, 1_610_612_736.0, "1.5 GiB");
        check(What::Network, 150_000.0, "146 KiB/s");
        check(What::Restarts, 3.04, "3.0");
        check(What::Memory, f64::NAN, "NaN B");
    }
}
