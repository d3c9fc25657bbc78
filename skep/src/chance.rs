//! Random numbers from the operating system, for ids and seeds.

/// A number from the operating system's generator.
pub fn random() -> u64 {
    u64::from_le_bytes(random_bytes())
}

/// Bytes from the operating system's generator, fit for secrets.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("the operating system gives no random numbers: {errno}"),
        }
    }
    bytes
}

/// 40 hexadecimal digits, as Redis's identifiers have.
pub fn random_hex() -> String {
    let digits = format!("{:016x}{:016x}{:016x}", random(), random(), random());
    digits[..40].to_owned()
}
