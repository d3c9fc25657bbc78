//! Random numbers from the operating system, for ids and seeds.

/// A number from the operating system's generator.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("the operating system gives no random numbers: {errno}"),
        }
    }
    u64::from_le_bytes(bytes)
}

/// 40 hexadecimal digits, as Redis's identifiers have.
pub fn random_hex() -> String {
    let digits = format!("{:016x}{:016x}{:016x}", random(), random(), random());
    digits[..40].to_owned()
}
