//! Whether an upstream is fit: by asking it ([`Checks`]) under its name ([`Authority`]), and by what traffic meets ([`Record`]).

mod authority;
mod outlier;
mod probe;

pub use authority::{Authority, KnownBy};
pub use outlier::{Counted, Reason, Record, out_max};
pub use probe::Checks;
