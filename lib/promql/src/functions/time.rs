//! Calendar functions: days, hours, months of Unix times in UTC.

/// A time in the proleptic Gregorian calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1..=12
    pub(crate) month: u32,
    /// 1..=31
    pub(crate) day: u32,
    /// 0..=23
    pub(crate) hour: u32,
    /// 0..=59
    pub(crate) minute: u32,
    /// 0..=59
    pub(crate) second: u32,
    /// 0 is Sunday
    pub(crate) weekday: u32,
    /// 1..=366
    pub(crate) year_day: u32,
}

/// The calendar of Unix seconds. Years run in eras of 400 (146,097 days) that begin on a 1st of
/// March, so that the leap day comes last.
pub(crate) fn civil(unix_s: i64) -> Civil {
    let (days, of_day) = days(unix_s);
    let z = days.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let march_day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * march_day + 2) / 153;
    let day = (march_day - (153 * march_month + 2) / 5 + 1) as u32;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let before: u32 = (1..month).map(|m| days_in_month(year, m)).sum();
    Civil {
        year,
        month,
        day,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
        weekday: (days.saturating_add(4)).rem_euclid(7) as u32,
        year_day: before + day,
    }
}

/// The first second that Prometheus's clock can count from; what lies before it is met again after
/// 2^64 seconds.
const FIRST_SECOND: i64 = -9_223_372_028_715_321_600;

/// Days since 1970, and the second of the day.
fn days(unix_s: i64) -> (i64, u32) {
    if unix_s >= FIRST_SECOND {
        return (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400) as u32);
    }
    let around = i128::from(unix_s) + (1 << 64);
    ((around / 86_400) as i64, (around % 86_400) as u32)
}

/// Days of a month, 28..=31.
pub(crate) fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The calendar function of that name, of Unix seconds.
pub(crate) fn calendar(name: &str) -> Option<fn(f64) -> f64> {
    fn at(v: f64) -> Civil {
        // A float out of range becomes the smallest integer, as on the machines Prometheus runs on.
        let in_range = v.abs() < 9_223_372_036_854_775_808.0;
        civil(if in_range { v as i64 } else { i64::MIN })
    }
    Some(match name {
        "minute" => |v| f64::from(at(v).minute),
        "hour" => |v| f64::from(at(v).hour),
        "day_of_week" => |v| f64::from(at(v).weekday),
        "day_of_month" => |v| f64::from(at(v).day),
        "day_of_year" => |v| f64::from(at(v).year_day),
        "days_in_month" => |v| {
            let c = at(v);
            f64::from(days_in_month(c.year, c.month))
        },
        "month" => |v| f64::from(at(v).month),
        "year" => |v| at(v).year as f64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        let day = |s| {
            let c = civil(s);
            (c.year, c.month, c.day, c.weekday, c.year_day)
        };
        assert_eq!(day(0), (1970, 1, 1, 4, 1));
        assert_eq!(day(951_782_400), (2000, 2, 29, 2, 60));
        assert_eq!(day(-1), (1969, 12, 31, 3, 365));
        assert_eq!(day(1_735_603_200), (2024, 12, 31, 2, 366));
        // The smallest integer, which is what floats out of range become.
        let last = civil(i64::MIN);
        assert_eq!((last.day, last.minute, last.second), (4, 30, 8));
    }
}
