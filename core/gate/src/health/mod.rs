//! Whether an upstream is fit: by asking it ([`Checks`]), and by what traffic meets ([`Record`]).

mod outlier;
mod probe;

pub use outlier::{Counted, Reason, Record, out_max};
pub use probe::Checks;
