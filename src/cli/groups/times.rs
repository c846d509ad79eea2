//! Points in time and spans of it, as `--to-datetime` and `--by-duration` take them.

use anyhow::anyhow;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Milliseconds since 1970 of `YYYY-MM-DDTHH:mm:SS.sss` with `Z`, `+HH`, `+HHMM` or `+HH:MM` behind it; without, it is UTC.
///
/// # Errors
/// If it is not of that form.
pub fn date_time(text: &str) -> anyhow::Result<i64> {
    parse_date_time(text.trim()).ok_or_else(|| anyhow!("'{text}' is not of the form YYYY-MM-DDTHH:mm:SS.sss"))
}

fn parse_date_time(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once('T')?;
    let (time, zone) = match rest.find(['Z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, "Z"),
    };
    let [year, month, day] = numbers(date.split('-'))?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(clock.split(':'))?;
    let fraction: i64 = fraction.parse().ok().filter(|f| (0..1000).contains(f))?;
    let fits = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let at = days_since_1970(year, month, day) * DAY + hour * HOUR + minute * MINUTE + second * SECOND + fraction;
    fits.then_some(at - zone_offset(zone)?)
}

fn numbers<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<[i64; 3]> {
    let mut next = || parts.next()?.parse::<u32>().ok().map(i64::from);
    let all = [next()?, next()?, next()?];
    parts.next().is_none().then_some(all)
}

fn zone_offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone[1..].replace(':', "");
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    Some(sign * (i64::from(hours.parse::<u8>().ok()?) * HOUR + i64::from(minutes.parse::<u8>().ok()?) * MINUTE))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    years + (1..month).map(|month| days_in(year, month)).sum::<i64>() + day - 1
}

/// Milliseconds of an ISO 8601 span, `PnDTnHnMnS` (`java.time.Duration.parse`).
///
/// # Errors
/// If it is not of that form.
pub fn duration_ms(text: &str) -> anyhow::Result<i64> {
    parse_duration(text.trim()).ok_or_else(|| anyhow!("'{text}' is not of the form PnDTnHnMnS"))
}

fn parse_duration(text: &str) -> Option<i64> {
    let upper = text.to_uppercase();
    let (sign, upper) = match upper.strip_prefix('-') {
        Some(rest) => (-1, rest.to_owned()),
        None => (1, upper),
    };
    let (days, time) = match upper.strip_prefix('P')?.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days.to_owned(), time.to_owned()),
        Some(_) => return None,
        None => (upper[1..].to_owned(), String::new()),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    Some(sign * (spans(&days, &[('D', DAY)])? + spans(&time, &[('H', HOUR), ('M', MINUTE), ('S', SECOND)])?))
}

/// Adds up numbers with their units, which must come in the order given.
fn spans(text: &str, units: &[(char, i64)]) -> Option<i64> {
    let (mut rest, mut total) = (text, 0i64);
    for (unit, ms) in units {
        if let Some((number, behind)) = rest.split_once(*unit) {
            let number: f64 = number.parse().ok()?;
            let whole = *unit == 'S' || number.fract() == 0.0;
            total = total.checked_add((whole && number.is_finite()).then_some((number * *ms as f64) as i64)?)?;
            rest = behind;
        }
    }
    rest.is_empty().then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn points_in_time_are_read() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000", 0),
            ("2000-02-29T12:30:15.250Z", 951_827_415_250),
            ("2024-07-01T02:00:00.000+02:00", 1_719_792_000_000),
            ("2024-06-30T20:00:00.000-0400", 1_719_792_000_000),
            ("2024-07-01T02:00:00+02", 1_719_792_000_000),
        ] {
            assert_eq!(date_time(text).expect(text), ms, "{text}");
        }
        for text in
            ["2024-07-01", "2023-02-29T00:00:00.000", "2024-13-01T00:00:00.000", "2024-07-01T24:00:00.000", "T", "-T+"]
        {
            assert!(date_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_of_time_are_read() {
        for (text, ms) in [("PT1H", HOUR), ("P1DT2H3M4.5S", DAY + 2 * HOUR + 3 * MINUTE + 4500), ("p2d", 2 * DAY)] {
            assert_eq!(duration_ms(text).expect(text), ms, "{text}");
        }
        for text in ["P", "PT", "1H", "PT1D", "PT5", "P1H", "PT1M1H"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn days_follow_one_another(day in 0i64..40_000) {
            // Walks from 1970 and must meet the formula.
            let (mut year, mut month, mut left) = (1970, 1, day);
            while left >= days_in(year, month) {
                left -= days_in(year, month);
                (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            }
            prop_assert_eq!(days_since_1970(year, month, left + 1), day);
        }

        #[test]
        fn no_text_panics(text in ".{0,30}") {
            let _ = (date_time(&text), duration_ms(&text));
        }
    }
}
