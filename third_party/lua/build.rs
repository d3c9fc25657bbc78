//! Compiles the interpreter and its libraries. No file, clock, locale or environment is in them.

const FILES: &[&str] = &[
    "lapi", "lauxlib", "lbaselib", "lcode", "ldebug", "ldo", "lfunc", "lgc", "llex", "lmathlib", "lmem",
    "lobject", "lopcodes", "lparser", "lstate", "lstring", "lstrlib", "ltable", "ltablib", "ltm", "lvm",
    "lzio",
];

fn main() {
    println!("cargo::rerun-if-changed=src");
    cc::Build::new()
        .files(FILES.iter().map(|name| format!("src/{name}.c")))
        .warnings(false)
        .opt_level(2)
        // The same numbers on every processor: no fused multiply-add where the source says two operations.
        .flag("-ffp-contract=off")
        .define("LUA_USE_ULONGJMP", None)
        .compile("skep_lua51");
}
