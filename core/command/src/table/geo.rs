//! Commands on sorted sets whose scores are positions on Earth.

use super::prelude::*;

pub(super) const COMMANDS: &[CommandSpec] = &[
    command("geoadd", -5, WRITE | DENYOOM, GEO, "3.2.0")
        .keys_at(&[key(1, RW | UPDATE)])
        .syntax("key [NX | XX] [CH] (longitude latitude member)...")
        .docs("O(log(N)) a member", "Adds members with their positions on Earth."),
    command("geodist", -4, READONLY, GEO, "3.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key member1 member2 [M | KM | FT | MI]")
        .docs("O(1)", "Gives the distance between two members."),
    command("geohash", -2, READONLY, GEO, "3.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key [member...]")
        .docs("O(1) a member", "Gives the standard geohash texts of members."),
    command("geopos", -2, READONLY, GEO, "3.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax("key [member...]")
        .docs("O(1) a member", "Gives the longitudes and latitudes of members."),
    command("georadius", -6, WRITE | DENYOOM | MOVABLEKEYS, GEO, "3.2.0")
        .keys_at(&[
            key(1, RO | ACCESS),
            keyword("STORE", 6, OW | UPDATE),
            keyword("STOREDIST", 6, OW | UPDATE),
        ])
        .special(Special::GeoStore)
        .deprecated("6.2.0", "GEOSEARCH or GEOSEARCHSTORE with BYRADIUS")
        .syntax(
            "key longitude latitude radius (M | KM | FT | MI) [WITHCOORD] [WITHDIST] [WITHHASH] \
             [COUNT count [ANY]] [ASC | DESC] [STORE key] [STOREDIST key]",
        )
        .docs(
            "O(N+log(M)) in the members near the circle and of all",
            "Finds the members within a circle, and may store them.",
        ),
    command("georadius_ro", -6, READONLY, GEO, "3.2.10")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("6.2.0", "GEOSEARCH with BYRADIUS")
        .syntax(
            "key longitude latitude radius (M | KM | FT | MI) [WITHCOORD] [WITHDIST] [WITHHASH] \
             [COUNT count [ANY]] [ASC | DESC]",
        )
        .docs("O(N+log(M)) in the members near the circle and of all", "Finds the members within a circle."),
    command("georadiusbymember", -5, WRITE | DENYOOM | MOVABLEKEYS, GEO, "3.2.0")
        .keys_at(&[
            key(1, RO | ACCESS),
            keyword("STORE", 5, OW | UPDATE),
            keyword("STOREDIST", 5, OW | UPDATE),
        ])
        .special(Special::GeoStore)
        .deprecated("6.2.0", "GEOSEARCH or GEOSEARCHSTORE with FROMMEMBER BYRADIUS")
        .syntax(
            "key member radius (M | KM | FT | MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count \
             [ANY]] [ASC | DESC] [STORE key] [STOREDIST key]",
        )
        .docs(
            "O(N+log(M)) in the members near the circle and of all",
            "Finds the members around another one, and may store them.",
        ),
    command("georadiusbymember_ro", -5, READONLY, GEO, "3.2.10")
        .keys_at(&[key(1, RO | ACCESS)])
        .deprecated("6.2.0", "GEOSEARCH with FROMMEMBER BYRADIUS")
        .syntax(
            "key member radius (M | KM | FT | MI) [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count \
             [ANY]] [ASC | DESC]",
        )
        .docs(
            "O(N+log(M)) in the members near the circle and of all",
            "Finds the members around another one.",
        ),
    command("geosearch", -7, READONLY, GEO, "6.2.0")
        .keys_at(&[key(1, RO | ACCESS)])
        .syntax(
            "key (FROMMEMBER member | FROMLONLAT longitude latitude) (BYRADIUS radius (M | KM | \
             FT | MI) | BYBOX width height (M | KM | FT | MI)) [ASC | DESC] [COUNT count [ANY]] \
             [WITHCOORD] [WITHDIST] [WITHHASH]",
        )
        .docs(
            "O(N+log(M)) in the members near the shape and of all",
            "Finds the members within a circle or a box.",
        ),
    command("geosearchstore", -8, WRITE | DENYOOM, GEO, "6.2.0")
        .keys_at(&[key(1, OW | UPDATE), key(2, RO | ACCESS)])
        .syntax(
            "destination source (FROMMEMBER member | FROMLONLAT longitude latitude) (BYRADIUS \
             radius (M | KM | FT | MI) | BYBOX width height (M | KM | FT | MI)) [ASC | DESC] \
             [COUNT count [ANY]] [STOREDIST]",
        )
        .docs(
            "O(N+log(M)) in the members near the shape and of all",
            "Stores the members within a circle or a box.",
        ),
];
