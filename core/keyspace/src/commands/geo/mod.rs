//! Commands on geo sets, which are sorted sets whose scores are geohashes, and the arguments they share.
//!
//! The errors and the order of the checks are those of Redis 7.4.

mod members;
mod request;
mod search;

use skep_base::{Refusal, number};
use skep_resp::Reply;

use super::Group;
use crate::dispatch::Handler::{Read, Write};
use crate::geohash::Point;

pub const COMMANDS: Group = &[
    ("geoadd", Write(members::geoadd)),
    ("geodist", Read(members::geodist)),
    ("geohash", Read(members::geohash)),
    ("geopos", Read(members::geopos)),
    ("georadius", Write(search::georadius)),
    ("georadius_ro", Read(search::georadius_ro)),
    ("georadiusbymember", Write(search::georadiusbymember)),
    ("georadiusbymember_ro", Read(search::georadiusbymember_ro)),
    ("geosearch", Read(search::geosearch)),
    ("geosearchstore", Write(search::geosearchstore)),
];

/// A place given as longitude and latitude.
fn place(longitude: &[u8], latitude: &[u8]) -> Result<Point, Refusal> {
    let degrees = |arg| number::parse_f64(arg).ok_or(Refusal::NotFloat);
    let (longitude, latitude) = (degrees(longitude)?, degrees(latitude)?);
    Point::new(longitude, latitude).ok_or_else(|| {
        Refusal::format(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"))
    })
}

/// Metres in a unit.
fn unit(arg: &[u8]) -> Result<f64, Refusal> {
    const UNITS: [(&[u8], f64); 4] = [(b"m", 1.0), (b"km", 1000.0), (b"ft", 0.3048), (b"mi", 1609.34)];
    let found = UNITS.iter().find(|(name, _)| arg.eq_ignore_ascii_case(name));
    found
        .map(|(_, metres)| *metres)
        .ok_or(Refusal::text("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// Writes a distance: four digits behind the point, whatever the unit.
fn write_distance(reply: &mut Reply, distance: f64) {
    reply.bulk(format!("{distance:.4}").as_bytes());
}

fn write_place(reply: &mut Reply, point: Point) {
    reply.array(2);
    reply.double_plain(point.longitude);
    reply.double_plain(point.latitude);
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Bench;

    #[test]
    fn replies_are_those_of_redis() {
        Bench::new().script(include_str!("../../../testdata/geo.txt"));
    }
}
