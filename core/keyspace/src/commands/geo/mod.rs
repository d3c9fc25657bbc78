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
    use skep_base::Rng;

    use crate::commands::testing::Bench;
    use crate::geohash::{Point, Shape};

    #[test]
    fn replies_are_those_of_redis() {
        Bench::new().script(include_str!("../../../testdata/geo.txt"));
    }

    /// Names in a reply without details.
    fn names(reply: &str) -> Vec<String> {
        let mut names: Vec<String> =
            reply.split('|').skip(1).filter(|w| !w.starts_with('$')).map(str::to_string).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn searches_find_what_looking_at_every_member_finds() {
        let mut bench = Bench::new();
        let mut rng = Rng::new(7);
        let mut degree =
            |from: f64, to: f64| from + (to - from) * rng.below(1 << 20) as f64 / f64::from(1 << 20);
        let mut points = Vec::new();
        for at in 0..400 {
            // Half of them close together, so that small shapes have something to find.
            let (x, y) = if at % 2 == 0 {
                (degree(-180.0, 180.0), degree(-60.0, 60.0))
            } else {
                (degree(9.0, 11.0), degree(44.0, 46.0))
            };
            bench.run(&format!("GEOADD s {x} {y} m{at}"));
            points.push((format!("m{at}"), Point::from_score(Point::new(x, y).unwrap().score())));
        }
        for round in 0..200 {
            let (x, y) = (degree(9.0, 11.0), degree(44.0, 46.0));
            let centre = Point::new(x, y).unwrap();
            let (a, b) = (10f64.powf(degree(2.0, 6.3)), 10f64.powf(degree(2.0, 6.3)));
            let (shape, words) = if round % 2 == 0 {
                (Shape::Circle { radius: a }, format!("BYRADIUS {a} m"))
            } else {
                (Shape::Rectangle { width: a, height: b }, format!("BYBOX {a} {b} m"))
            };
            let mut expected: Vec<String> = points
                .iter()
                .filter(|(_, p)| shape.distance_within(centre, *p).is_some())
                .map(|(name, _)| name.clone())
                .collect();
            expected.sort_unstable();
            let reply = bench.run(&format!("GEOSEARCH s FROMLONLAT {x} {y} {words}"));
            assert_eq!(names(&reply), expected, "{words} around {x} {y}");
        }
    }
}
