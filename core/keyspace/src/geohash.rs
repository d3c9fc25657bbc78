//! Places on the globe as 52-bit geohashes, which are the scores of geo sets: encoding, distances, and the cells that
//! cover an area.
//!
//! The grid is that of Redis (facts from its geohash.c and geohash_helper.c): 26 bits of latitude and of longitude,
//! interleaved with latitude in the even bits, over the square that Mercator maps can show. Which members a search finds
//! is replicated by the `*STORE` commands, so sines come from `libm`, not from the machine.

use std::f64::consts::PI;
use std::ops::Range;

pub const LONGITUDE_MAX: f64 = 180.0;
/// Where the Mercator projection becomes a square (EPSG:3857).
pub const LATITUDE_MAX: f64 = 85.051_128_78;
/// Bits of latitude, and of longitude, in a score.
const STEP_MAX: u32 = 26;
/// Mean radius in the sense of WGS84, in metres.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the equator on a Mercator map, in metres.
const MERCATOR_MAX: f64 = 20_037_726.37;
const BASE32: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
/// Characters of a geohash as text.
const TEXT_LEN: usize = 11;

/// A place, in degrees.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

/// An area around its centre; lengths in metres.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Circle { radius: f64 },
    Rectangle { width: f64, height: f64 },
}

impl Point {
    /// The place, if the grid has it.
    pub fn new(longitude: f64, latitude: f64) -> Option<Point> {
        let inside = longitude.abs() <= LONGITUDE_MAX && latitude.abs() <= LATITUDE_MAX;
        inside.then_some(Point { longitude, latitude })
    }

    /// The score that stands for this place. Rounds down to the grid.
    pub fn score(self) -> f64 {
        Cell::of(self, STEP_MAX, LATITUDE_MAX).interleaved() as f64
    }

    /// The middle of the cell that a score stands for. Any number is some place.
    pub fn from_score(score: f64) -> Point {
        // Negative scores are no geohashes; they are taken as two's complement, as common machines do for Redis.
        let bits = if score < 0.0 { score as i64 as u64 } else { score as u64 };
        let area = Cell { row: even_bits(bits), column: even_bits(bits >> 1), step: STEP_MAX }.area();
        Point {
            longitude: ((area.west + area.east) / 2.0).clamp(-LONGITUDE_MAX, LONGITUDE_MAX),
            latitude: ((area.south + area.north) / 2.0).clamp(-LATITUDE_MAX, LATITUDE_MAX),
        }
    }

    /// The geohash as everyone but Redis writes it: over latitudes up to the poles. The last of the characters would need
    /// more bits than there are and is always `0`.
    pub fn text(self) -> [u8; TEXT_LEN] {
        let bits = Cell::of(self, STEP_MAX, 90.0).interleaved();
        let mut text = [b'0'; TEXT_LEN];
        for (at, character) in text[..TEXT_LEN - 1].iter_mut().enumerate() {
            *character = BASE32[(bits >> (47 - 5 * at)) as usize & 31];
        }
        text
    }

    /// Metres to `other` along a great circle, by the haversine formula.
    pub fn distance(self, other: Point) -> f64 {
        let v = libm::sin((radians(other.longitude) - radians(self.longitude)) / 2.0);
        if v == 0.0 {
            return meridian_distance(self.latitude, other.latitude);
        }
        let (from, to) = (radians(self.latitude), radians(other.latitude));
        let u = libm::sin((to - from) / 2.0);
        let a = u * u + libm::cos(from) * libm::cos(to) * v * v;
        // Rounding may carry antipodes past 1, whose arc sine would be no number.
        2.0 * EARTH_RADIUS * libm::asin(libm::sqrt(a.min(1.0)))
    }
}

impl Shape {
    /// The distance from `centre` to `point`, if the shape around the one covers the other.
    pub fn distance_within(self, centre: Point, point: Point) -> Option<f64> {
        match self {
            Shape::Circle { radius } => Some(centre.distance(point)).filter(|d| *d <= radius),
            Shape::Rectangle { width, height } => {
                // The width is measured on the point's own parallel.
                let beside = Point { longitude: centre.longitude, latitude: point.latitude };
                let within = meridian_distance(point.latitude, centre.latitude) <= height / 2.0
                    && point.distance(beside) <= width / 2.0;
                within.then(|| centre.distance(point))
            }
        }
    }

    /// Ranges of scores that together hold every place of the shape around `centre`, in the order in which Redis looks
    /// through them: the centre's cell, then its neighbours.
    ///
    /// Cells are about as large as the shape. Near the poles, where one cell is narrower than the next, Redis may miss
    /// places beyond the neighbours; the same ones are missed here.
    pub fn cover(self, centre: Point) -> impl Iterator<Item = Range<f64>> {
        let bounds = self.bounds(centre);
        let mut step = self.step(centre);
        let mut cell = Cell::of(centre, step, LATITUDE_MAX);
        let enough = cell.moved(0, 1).area().north >= bounds.north
            && cell.moved(0, -1).area().south <= bounds.south
            && cell.moved(1, 0).area().east >= bounds.east
            && cell.moved(-1, 0).area().west <= bounds.west;
        // Bounds may be no numbers if a length is infinite, but the cells are the largest then.
        if step > 1 && !enough {
            step -= 1;
            cell = Cell::of(centre, step, LATITUDE_MAX);
        }
        let area = cell.area();
        let needed = move |(east, north): (i32, i32)| {
            step < 2
                || !(north < 0 && area.south < bounds.south
                    || north > 0 && area.north > bounds.north
                    || east < 0 && area.west < bounds.west
                    || east > 0 && area.east > bounds.east)
        };
        let mut last = None;
        const AROUND: [(i32, i32); 9] =
            [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        AROUND.into_iter().filter(move |way| needed(*way)).filter_map(move |(east, north)| {
            let next = cell.moved(east, north);
            // Four cells make the world at the first step, so going round it meets some of them twice.
            let new = last != Some(next);
            last = Some(next);
            new.then(|| next.scores())
        })
    }

    /// The bits at which the centre's cell and its eight neighbours should hold the shape.
    fn step(self, centre: Point) -> u32 {
        let mut reach = match self {
            Shape::Circle { radius } => radius,
            Shape::Rectangle { width, height } => {
                libm::sqrt((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0))
            }
        };
        if reach == 0.0 {
            return STEP_MAX;
        }
        let mut step = 1i32;
        // At most 1,100 rounds: a double cannot be doubled more often.
        while reach < MERCATOR_MAX {
            reach *= 2.0;
            step += 1;
        }
        step -= 2;
        // Cells are narrow near the poles.
        step -= i32::from(centre.latitude.abs() > 66.0) + i32::from(centre.latitude.abs() > 80.0);
        step.clamp(1, STEP_MAX as i32) as u32
    }

    fn bounds(self, centre: Point) -> Area {
        let (east, north) = match self {
            Shape::Circle { radius } => (radius, radius),
            Shape::Rectangle { width, height } => (width / 2.0, height / 2.0),
        };
        let latitude_delta = degrees(north / EARTH_RADIUS);
        // Meridians are closest at the edge nearer to the pole.
        let narrow = if centre.latitude < 0.0 {
            centre.latitude - latitude_delta
        } else {
            centre.latitude + latitude_delta
        };
        let longitude_delta = degrees(east / EARTH_RADIUS / libm::cos(radians(narrow)));
        Area {
            west: centre.longitude - longitude_delta,
            east: centre.longitude + longitude_delta,
            south: centre.latitude - latitude_delta,
            north: centre.latitude + latitude_delta,
        }
    }
}

/// Degrees on each side.
#[derive(Clone, Copy)]
struct Area {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

/// A field of the grid that has `2^step` rows and columns. Places on the north and east edge of the world lie one past the
/// last: Redis keeps them there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    row: u32,
    column: u32,
    step: u32,
}

impl Cell {
    fn of(point: Point, step: u32, latitude_max: f64) -> Cell {
        let size = f64::from(1u32 << step);
        let part = |value: f64, max: f64| ((value + max) / (max + max) * size) as u32;
        Cell { row: part(point.latitude, latitude_max), column: part(point.longitude, LONGITUDE_MAX), step }
    }

    fn interleaved(self) -> u64 {
        spread(self.row) | spread(self.column) << 1
    }

    /// The scores of the places within; the end is excluded.
    fn scores(self) -> Range<f64> {
        let below = 2 * (STEP_MAX - self.step);
        let bits = self.interleaved();
        (bits << below) as f64..((bits + 1) << below) as f64
    }

    fn area(self) -> Area {
        let size = f64::from(1u32 << self.step);
        let at = |line: u32, max: f64| -max + f64::from(line) / size * (max + max);
        Area {
            west: at(self.column, LONGITUDE_MAX),
            east: at(self.column.wrapping_add(1), LONGITUDE_MAX),
            south: at(self.row, LATITUDE_MAX),
            north: at(self.row.wrapping_add(1), LATITUDE_MAX),
        }
    }

    /// The neighbour so many cells east and north, around the world's edges.
    fn moved(self, east: i32, north: i32) -> Cell {
        let last = (1 << self.step) - 1;
        let go = |from: u32, by: i32| if by == 0 { from } else { from.wrapping_add_signed(by) & last };
        Cell { row: go(self.row, north), column: go(self.column, east), ..self }
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

fn meridian_distance(from: f64, to: f64) -> f64 {
    EARTH_RADIUS * (radians(to) - radians(from)).abs()
}

/// Puts a zero above each bit. (S. E. Anderson, Bit Twiddling Hacks: interleave by binary magic numbers.)
fn spread(bits: u32) -> u64 {
    let mut spread = u64::from(bits);
    for (shift, mask) in [(16, 0x0000_ffff_0000_ffff), (8, 0x00ff_00ff_00ff_00ff), (4, 0x0f0f_0f0f_0f0f_0f0f)]
    {
        spread = (spread | spread << shift) & mask;
    }
    spread = (spread | spread << 2) & 0x3333_3333_3333_3333;
    (spread | spread << 1) & 0x5555_5555_5555_5555
}

/// The reverse of [`spread`].
fn even_bits(bits: u64) -> u32 {
    let mut even = bits & 0x5555_5555_5555_5555;
    even = (even | even >> 1) & 0x3333_3333_3333_3333;
    even = (even | even >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    even = (even | even >> 4) & 0x00ff_00ff_00ff_00ff;
    even = (even | even >> 8) & 0x0000_ffff_0000_ffff;
    (even | even >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scores_and_texts_are_those_of_redis() {
        // Observed on redis-server 7.0.15.
        for (longitude, latitude, score, text) in [
            (13.361_389, 38.115_556, 3_479_099_956_230_698.0, "sqc8b49rny0"),
            (15.087_269, 37.502_669, 3_479_447_370_796_909.0, "sqdtr74hyu0"),
        ] {
            let point = Point::new(longitude, latitude).unwrap();
            assert_eq!(point.score(), score);
            assert_eq!(Point::from_score(score).text(), text.as_bytes());
        }
        assert!(Point::new(180.1, 0.0).is_none() && Point::new(0.0, -85.06).is_none());
        assert!(Point::new(f64::INFINITY, 0.0).is_none());
    }

    #[test]
    fn any_score_is_a_place_of_the_grid() {
        for score in [-1.0, -1e300, 0.0, 1e300, f64::INFINITY, f64::NEG_INFINITY, 4.5e15, 1.3e19] {
            let point = Point::from_score(score);
            assert!(Point::new(point.longitude, point.latitude).is_some(), "{score}: {point:?}");
        }
    }

    fn point(latitude_max: f64) -> impl Strategy<Value = Point> {
        (-180.0..180.0, -latitude_max..latitude_max).prop_map(|(x, y)| Point { longitude: x, latitude: y })
    }

    proptest! {
        #[test]
        fn decoding_stays_within_the_cell(at in point(LATITUDE_MAX)) {
            let back = Point::from_score(at.score());
            prop_assert!((back.longitude - at.longitude).abs() < 3e-6, "{back:?}");
            prop_assert!((back.latitude - at.latitude).abs() < 2e-6, "{back:?}");
            prop_assert_eq!(back.score(), at.score());
        }

        #[test]
        fn bits_spread_and_come_back(bits: u32) {
            prop_assert_eq!(even_bits(spread(bits)), bits);
            prop_assert_eq!(spread(bits).count_ones(), bits.count_ones());
        }

        #[test]
        fn shapes_are_covered(centre in point(60.0), east in 0.0..1.0f64, north in -1.0..1.0f64, size in 1.0..6.0f64) {
            let size = 10f64.powf(size);
            let point = Point { longitude: centre.longitude + degrees(east * size / EARTH_RADIUS), latitude: centre.latitude + degrees(north * size / EARTH_RADIUS) };
            prop_assume!(point.longitude < 180.0 && point.latitude.abs() < LATITUDE_MAX);
            for shape in [Shape::Circle { radius: size }, Shape::Rectangle { width: size, height: 2.0 * size }] {
                let found = shape.cover(centre).any(|scores| scores.contains(&point.score()));
                prop_assert!(found || shape.distance_within(centre, point).is_none(), "{point:?} in {shape:?}");
            }
        }
    }
}
