//! Times and durations as Go prints them.

/// The parts of a UTC time.
struct Parts {
    year: i64,
    month: usize,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
    weekday: usize,
    year_day: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn parts(ns: i128) -> Parts {
    let seconds = i64::try_from(ns.div_euclid(1_000_000_000)).unwrap_or(0);
    let nanos = i64::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0);
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let first = days_before(year, 1, 1);
    Parts {
        year,
        month: usize::try_from(month).unwrap_or(1),
        day,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
        nanos,
        weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
        year_day: days - first + 1,
    }
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years counted from March on, so that the leap day is the last; eras of 400 years.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * of_year + 2) / 153;
    let day = of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from 1970 to a date of the Gregorian calendar.
pub(in crate::ruler) fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `time.Time.String` of a UTC time.
pub(super) fn print(ns: i128) -> String {
    format(ns, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// `time.Time.Format` of a UTC time.
pub(super) fn format(ns: i128, layout: &str) -> String {
    let p = parts(ns);
    let mut out = String::new();
    let mut rest = layout;
    while !rest.is_empty() {
        let Some((word, text)) = element(rest, &p) else {
            let c = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(rest.get(..c).unwrap_or(""));
            rest = rest.get(c..).unwrap_or("");
            continue;
        };
        out.push_str(&text);
        rest = rest.get(word..).unwrap_or("");
    }
    out
}

/// The element of a layout that `rest` begins with: its length and what it becomes.
fn element(rest: &str, p: &Parts) -> Option<(usize, String)> {
    let twelve = if p.hour % 12 == 0 { 12 } else { p.hour % 12 };
    let month = MONTHS.get(p.month.saturating_sub(1)).copied().unwrap_or("");
    let day = DAYS.get(p.weekday).copied().unwrap_or("");
    let short = |s: &str| s.get(..3).unwrap_or("").to_owned();
    let simple: [(&str, String); 27] = [
        ("2006", format!("{:04}", p.year)),
        ("January", month.to_owned()),
        ("Monday", day.to_owned()),
        ("-07:00:00", "+00:00:00".to_owned()),
        ("Z07:00", "Z".to_owned()),
        ("-07:00", "+00:00".to_owned()),
        ("-0700", "+0000".to_owned()),
        ("Z0700", "Z".to_owned()),
        ("Z07", "Z".to_owned()),
        ("-07", "+00".to_owned()),
        ("Jan", short(month)),
        ("Mon", short(day)),
        ("MST", "UTC".to_owned()),
        ("002", format!("{:03}", p.year_day)),
        ("01", format!("{:02}", p.month)),
        ("02", format!("{:02}", p.day)),
        ("03", format!("{twelve:02}")),
        ("04", format!("{:02}", p.minute)),
        ("05", format!("{:02}", p.second)),
        ("06", format!("{:02}", p.year.rem_euclid(100))),
        ("15", format!("{:02}", p.hour)),
        ("PM", if p.hour >= 12 { "PM" } else { "AM" }.to_owned()),
        ("pm", if p.hour >= 12 { "pm" } else { "am" }.to_owned()),
        ("_2", format!("{:2}", p.day)),
        ("1", p.month.to_string()),
        ("2", p.day.to_string()),
        ("3", twelve.to_string()),
    ];
    if let Some((word, text)) = simple.iter().find(|(w, _)| rest.starts_with(w)) {
        return Some((word.len(), text.clone()));
    }
    if rest.starts_with('4') {
        return Some((1, p.minute.to_string()));
    }
    if rest.starts_with('5') {
        return Some((1, p.second.to_string()));
    }
    fraction(rest, p.nanos)
}

/// `.000`, `,000`, `.999`: as many digits of the second, nines without trailing zeros.
fn fraction(rest: &str, nanos: i64) -> Option<(usize, String)> {
    let point = rest.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = rest.chars().nth(1).filter(|c| matches!(c, '0' | '9'))?;
    let n = rest.chars().skip(1).take_while(|c| *c == digit).count();
    if rest.chars().nth(1 + n).is_some_and(|c| c.is_ascii_digit()) {
        return None;
    }
    let all = format!("{nanos:09}");
    let digits = all.get(..n.min(9))?;
    let digits = if digit == '9' { digits.trim_end_matches('0') } else { digits };
    let text = if digits.is_empty() { String::new() } else { format!("{point}{digits}") };
    Some((1 + n, text))
}

/// A number that a method of a time gives.
pub(super) fn number(ns: i128, method: &str) -> Option<i64> {
    let p = parts(ns);
    Some(match method {
        "Year" => p.year,
        "Day" => p.day,
        "Hour" => p.hour,
        "Minute" => p.minute,
        "Second" => p.second,
        "Nanosecond" => p.nanos,
        "YearDay" => p.year_day,
        "Unix" => i64::try_from(ns.div_euclid(1_000_000_000)).unwrap_or(0),
        "UnixMilli" => i64::try_from(ns.div_euclid(1_000_000)).unwrap_or(0),
        "UnixNano" => i64::try_from(ns).unwrap_or(0),
        _ => return None,
    })
}

/// The name that `Month` or `Weekday` gives.
pub(super) fn name(ns: i128, method: &str) -> Option<&'static str> {
    let p = parts(ns);
    match method {
        "Month" => MONTHS.get(p.month.saturating_sub(1)).copied(),
        "Weekday" => DAYS.get(p.weekday).copied(),
        _ => None,
    }
}

/// `time.Duration.String`.
pub(in crate::ruler) fn duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let n = ns.unsigned_abs();
    let decimal = |whole: u64, part: u64, width: usize| {
        let digits = format!("{part:0width$}");
        match digits.trim_end_matches('0') {
            "" => whole.to_string(),
            rest => format!("{whole}.{rest}"),
        }
    };
    match n {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{n}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(n / 1_000, n % 1_000, 3)),
        1_000_000..1_000_000_000 => {
            format!("{sign}{}ms", decimal(n / 1_000_000, n % 1_000_000, 6))
        }
        _ => {
            let seconds = n / 1_000_000_000;
            let rest = decimal(seconds % 60, n % 1_000_000_000, 9);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{sign}{rest}s"),
                (0, m) => format!("{sign}{m}m{rest}s"),
                (h, m) => format!("{sign}{h}h{m}m{rest}s"),
            }
        }
    }
}
