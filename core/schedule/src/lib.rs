//! When a cron expression comes true next, in any time zone.
//!
//! Pure: the time-zone database is part of the binary, and the time is an argument. It is a crate of its own so that the
//! keyspace cannot use it: what follows from a database that changes several times a year must not be found while the log is
//! applied, or replicas of two versions would differ. The leader asks here and logs the answer (decision 9).

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use skep_base::Millis;

/// Ticks missed within this time are made up for one by one: a change of leaders must not lose any.
pub const CATCH_UP_MS: u64 = 60_000;

/// Why there is no next tick.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScheduleError {
    /// The expression does not parse.
    Expression(String),
    /// There is no such time zone in this version's database.
    Zone(String),
    /// The expression is never true again, within what is searched.
    NoTick,
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScheduleError::Expression(why) => write!(f, "invalid cron expression: {why}"),
            ScheduleError::Zone(name) => write!(f, "unknown time zone '{name}'"),
            ScheduleError::NoTick => f.write_str("the expression is never true"),
        }
    }
}

impl std::error::Error for ScheduleError {}

/// An expression in a time zone.
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads `[second] minute hour day-of-month month day-of-week` or a nickname (`@daily`), and the name of a time zone
    /// (`Europe/Berlin`; empty for UTC).
    ///
    /// # Errors
    /// [`ScheduleError::Expression`], [`ScheduleError::Zone`].
    pub fn parse(cron: &[u8], zone: &[u8]) -> Result<Schedule, ScheduleError> {
        let text =
            std::str::from_utf8(cron).map_err(|_| ScheduleError::Expression("it is not text".into()))?;
        // Ranges without a start and years are no part of what crontab files have.
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|why| ScheduleError::Expression(why.to_string()))?;
        let unknown = || ScheduleError::Zone(String::from_utf8_lossy(zone).into_owned());
        let name = std::str::from_utf8(zone).map_err(|_| unknown())?;
        let zone = match name {
            "" => TimeZone::UTC,
            name => TimeZoneDatabase::bundled().get(name).map_err(|_| unknown())?,
        };
        Ok(Schedule { cron, zone })
    }

    /// The first tick behind `after`, if that is not long ago at `now`; else the first behind `now`. So all ticks missed in the
    /// last minute are made up for, of those before only the one that was known already.
    ///
    /// Where a clock is put forward, a time that is left out counts as the first instant behind the gap; where it is put
    /// back, a fixed time comes once.
    ///
    /// # Errors
    /// [`ScheduleError::NoTick`].
    pub fn next(&self, after: Millis, now: Millis) -> Result<Millis, ScheduleError> {
        let next = self.behind(after)?;
        if next.plus(CATCH_UP_MS) < now { self.behind(now) } else { Ok(next) }
    }

    fn behind(&self, instant: Millis) -> Result<Millis, ScheduleError> {
        let ms = i64::try_from(instant.0).map_err(|_| ScheduleError::NoTick)?;
        let start = Timestamp::from_millisecond(ms).map_err(|_| ScheduleError::NoTick)?;
        let start = start.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&start, false).map_err(|_| ScheduleError::NoTick)?;
        match u64::try_from(next.timestamp().as_millisecond()) {
            Ok(next) if next > instant.0 => Ok(Millis(next)),
            _ => Err(ScheduleError::NoTick),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Millis {
        Millis(text.parse::<Timestamp>().unwrap().as_millisecond() as u64)
    }

    /// The next `count` ticks behind an instant.
    fn ticks(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(cron.as_bytes(), zone.as_bytes()).unwrap();
        let mut at = instant(after);
        let mut next = || {
            at = schedule.next(at, at).unwrap();
            Timestamp::from_millisecond(at.0 as i64).unwrap().to_string()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn expressions_come_true_where_crontab_says() {
        let table: [(&str, &str, &str, &[&str]); 9] = [
            ("*/15 * * * *", "", "2026-11-21T18:46:00Z", &["2026-11-21T19:00:00Z", "2026-11-21T19:15:00Z"]),
            ("* * * * * *", "", "2026-11-21T18:46:00.5Z", &["2026-11-21T18:46:01Z", "2026-11-21T18:46:02Z"]),
            ("@daily", "", "2026-11-21T18:46:00Z", &["2026-11-22T00:00:00Z"]),
            ("0 9 * * MON-FRI", "Europe/Berlin", "2026-11-20T09:00:00Z", &["2026-11-23T08:00:00Z"]),
            ("0 0 29 2 *", "", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]),
            ("0 0 1 1 *", "Asia/Tokyo", "2026-06-01T00:00:00Z", &["2026-12-31T15:00:00Z"]),
            // Behind a tick, not on it.
            ("0 0 * * *", "", "2026-11-22T00:00:00Z", &["2026-11-23T00:00:00Z"]),
            // Put forward on 2027-03-28: half past two is left out, and put back on 2026-10-25: it comes once.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2027-03-27T12:00:00Z",
                &["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"],
            ),
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
            ),
        ];
        for (cron, zone, after, expected) in table {
            assert_eq!(ticks(cron, zone, after, expected.len()), expected, "{cron} in {zone} after {after}");
        }
    }

    #[test]
    fn ticks_of_the_last_minute_are_made_up_for_and_older_ones_are_not() {
        let each_second = Schedule::parse(b"* * * * * *", b"").unwrap();
        let last = Millis(1_000_000_000);
        for (late, expected) in
            [(500, 1_000), (30_000, 1_000), (61_000, 1_000), (61_001, 62_000), (7_200_500, 7_201_000)]
        {
            assert_eq!(each_second.next(last, last.plus(late)), Ok(last.plus(expected)), "{late} ms late");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let refused = |cron: &[u8], zone: &[u8]| Schedule::parse(cron, zone).err().map(|e| e.to_string());
        assert_eq!(refused(b"0 0 * * *", b"Mars/Olympus"), Some("unknown time zone 'Mars/Olympus'".into()));
        for cron in
            ["", "x", "60 * * * *", "* * * *", "* * * * * * 2026", "0 0 0 0 0", "*/0 * * * *", "5-1 * * * *"]
        {
            let why = refused(cron.as_bytes(), b"").unwrap_or_else(|| panic!("{cron} was taken"));
            assert!(why.starts_with("invalid cron expression: "), "{cron}: {why}");
        }
        assert!(refused(&[0xff], b"").is_some() && refused(b"@daily", &[0xff]).is_some());
        let never = Schedule::parse(b"0 0 30 2 *", b"").unwrap();
        assert_eq!(never.next(Millis(0), Millis(0)), Err(ScheduleError::NoTick));
        assert_eq!(never.next(Millis(u64::MAX), Millis(0)), Err(ScheduleError::NoTick));
    }
}
