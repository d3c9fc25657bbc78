//! Commands on sorted sets whose scores are positions on Earth.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("geoadd", -5, WRITE | DENYOOM, GEO, "3.2.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .docs("O(log(N)) a member", "Adds members with their positions on Earth."),
    command("geodist", -4, READONLY, GEO, "3.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .docs("O(1)", "Gives the distance between two members."),
    command("geohash", -2, READONLY, GEO, "3.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .docs("O(1) a member", "Gives the standard geohash texts of members."),
    command("geopos", -2, READONLY, GEO, "3.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .docs("O(1) a member", "Gives the longitudes and latitudes of members."),
    command("georadius", -6, WRITE | DENYOOM | MOVABLEKEYS, GEO, "3.2.0")
        .keys_at(&[
            key(1, RO | ACCESS),
            keyword("STORE", 6, OW | UPDATE),
            keyword("STOREDIST", 6, OW | UPDATE),
        ])
        .deprecated("6.2.0", "GEOSEARCH or GEOSEARCHSTORE with BYRADIUS")
        .docs(
            "O(N+log(M)) in the members near the circle and of all",
            "Finds the members within a circle, and may store them.",
        ),
    command("georadius_ro", -6, READONLY, GEO, "3.2.10")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("6.2.0", "GEOSEARCH with BYRADIUS")
        .docs("O(N+log(M)) in the members near the circle and of all", "Finds the members within a circle."),
    command("georadiusbymember", -5, WRITE | DENYOOM | MOVABLEKEYS, GEO, "3.2.0")
        .keys_at(&[
            key(1, RO | ACCESS),
            keyword("STORE", 5, OW | UPDATE),
            keyword("STOREDIST", 5, OW | UPDATE),
        ])
        .deprecated("6.2.0", "GEOSEARCH or GEOSEARCHSTORE with FROMMEMBER BYRADIUS")
        .docs(
            "O(N+log(M)) in the members near the circle and of all",
            "Finds the members around another one, and may store them.",
        ),
    command("georadiusbymember_ro", -5, READONLY, GEO, "3.2.10")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("6.2.0", "GEOSEARCH with FROMMEMBER BYRADIUS")
        .docs(
            "O(N+log(M)) in the members near the circle and of all",
            "Finds the members around another one.",
        ),
    command("geosearch", -7, READONLY, GEO, "6.2.0").keys_at(&[key(1, RO | ACCESS)]).docs(
        "O(N+log(M)) in the members near the shape and of all",
        "Finds the members within a circle or a box.",
    ),
    command("geosearchstore", -8, WRITE | DENYOOM, GEO, "6.2.0")
        .keys_at(&[key(1, OW | UPDATE), key(2, RO | ACCESS)])
        .docs(
            "O(N+log(M)) in the members near the shape and of all",
            "Stores the members within a circle or a box.",
        ),
];
