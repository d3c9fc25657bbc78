//! Deadlines that are carried on: by what time an answer is worth something to who asked.

use skep_base::Micros;

/// The header by which gateways of skep tell the time that is left, in milliseconds.
pub const HEADER: &str = "x-skep-timeout-ms";
/// gRPC's header for it.
pub const GRPC_HEADER: &str = "grpc-timeout";

/// The time left by a `x-skep-timeout-ms` header, or `None` if it is no number.
pub fn parse(value: &[u8]) -> Option<Micros> {
    digits(value, 12).map(Micros::from_millis)
}

/// The time left by a `grpc-timeout` header: up to 8 digits and a unit (gRPC over HTTP/2, "Timeout").
pub fn parse_grpc(value: &[u8]) -> Option<Micros> {
    let (unit, number) = value.split_last()?;
    let number = digits(number, 8)?;
    match unit {
        b'H' => Some(Micros::from_secs(number * 3_600)),
        b'M' => Some(Micros::from_secs(number * 60)),
        b'S' => Some(Micros::from_secs(number)),
        b'm' => Some(Micros::from_millis(number)),
        b'u' => Some(Micros(number)),
        b'n' => Some(Micros(number / 1_000)),
        _ => None,
    }
}

fn digits(text: &[u8], max: usize) -> Option<u64> {
    let good = (1..=max).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    good.then(|| text.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}

/// `left` as a `x-skep-timeout-ms` header, rounded down, so that nobody works for an answer that comes too late.
pub fn format(left: Micros) -> String {
    (left.0 / 1_000).to_string()
}

/// `left` as a `grpc-timeout` header, rounded down to the finest unit that 8 digits hold.
pub fn format_grpc(left: Micros) -> String {
    const MAX: u64 = 99_999_999;
    let units = [(1, 'u'), (1_000, 'm'), (1_000_000, 'S'), (60_000_000, 'M'), (3_600_000_000, 'H')];
    let fits = units.iter().find(|(size, _)| left.0 / size <= MAX).unwrap_or(&units[4]);
    format!("{}{}", (left.0 / fits.0).min(MAX), fits.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_read_written_and_never_longer_than_it_was() {
        for (text, expected) in [
            ("100m", Some(100_000)),
            ("1H", Some(3_600_000_000)),
            ("2M", Some(120_000_000)),
            ("3S", Some(3_000_000)),
            ("5u", Some(5)),
            ("99999999n", Some(99_999)),
            ("100000000m", None),
            ("m", None),
            ("1", None),
            ("-1m", None),
            ("", None),
        ] {
            assert_eq!(parse_grpc(text.as_bytes()), expected.map(Micros), "{text}");
        }
        assert_eq!(parse(b"250"), Some(Micros(250_000)));
        assert_eq!(parse(b"2 50"), None);
        for left in [0, 1, 999, 99_999_999, 100_000_000, 123_456_789_012, u64::MAX] {
            let back = parse_grpc(format_grpc(Micros(left)).as_bytes()).unwrap();
            assert!(
                back.0 <= left && (back.0 as f64 >= left as f64 * 0.999 || left > 1 << 58),
                "{left} {back:?}"
            );
            assert!(left > 1 << 58 || parse(format(Micros(left)).as_bytes()).unwrap().0 <= left);
        }
    }
}
