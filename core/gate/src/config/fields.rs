//! How a part of the configuration declares its keys: once, for reading, checking, showing and documenting alike.
//!
//! A [`Section`] names its keys in [`Section::fields`]; a [`Fields`] visits them. The reader fills them from TOML, the
//! writer turns them back into text. So a key that is read is also shown, compared and known to the nearest-name hint,
//! and the two forms cannot drift apart (INV-GATE-1).

use std::fmt::Debug;
use std::ops::RangeInclusive;

use toml::de::DeValue;

/// A value that has one text form.
pub trait Scalar: Clone + PartialEq + Debug {
    /// Whether the value is left out of errors and differences: of a hash, or what stands in its place, they say its length
    /// and a few digits of its own hash.
    const IS_SECRET: bool = false;

    /// What it must be, for an error: `a time such as 250ms`.
    fn form() -> String;
    /// The value of one TOML value, or `None` if it is not of this form.
    fn read(value: &DeValue<'_>) -> Option<Self>;
    /// The text that TOML reads back, quotes included.
    fn show(&self) -> String;
}

/// A table of the configuration. [`Default`] holds the defaults.
pub trait Section: Clone + PartialEq + Debug + Default {
    /// The key that a bare string sets, where a table is expected (`"10.0.0.1:80"` for an upstream).
    const SHORTHAND: Option<&'static str> = None;

    /// Visits each key once, in the order in which it is documented.
    fn fields<F: Fields>(&mut self, f: &mut F);

    /// Says what is wrong between keys that are each well formed: pairs of a key and a sentence.
    fn check(&self, _wrong: &mut Vec<(&'static str, String)>) {}
}

/// A table with a name of its own, such as a route.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Named<S> {
    pub name: String,
    pub it: S,
}

/// A visitor of a section's keys.
pub trait Fields {
    /// A value that has a default.
    fn one<T: Scalar>(&mut self, key: &'static str, value: &mut T);
    /// A number or time with a default and a range.
    fn ranged<T: Scalar + PartialOrd>(&mut self, key: &'static str, value: &mut T, range: RangeInclusive<T>);
    /// A value that may be absent.
    fn maybe<T: Scalar>(&mut self, key: &'static str, value: &mut Option<T>);
    /// A list of at most `max` values. One value alone is a list of one.
    fn list<T: Scalar>(&mut self, key: &'static str, value: &mut Vec<T>, max: usize);
    /// A table of at most `max` names with a value each, in the order of the file.
    fn map<K: Scalar, T: Scalar>(&mut self, key: &'static str, value: &mut Vec<(K, T)>, max: usize);
    /// A table whose keys have defaults.
    fn section<S: Section>(&mut self, key: &'static str, value: &mut S);
    /// A table that is off when absent; `false` turns one off that is on by default.
    fn maybe_section<S: Section>(&mut self, key: &'static str, value: &mut Option<S>);
    /// A list of at most `max` tables. One alone is a list of one.
    fn sections<S: Section>(&mut self, key: &'static str, value: &mut Vec<S>, max: usize);
    /// Tables by name, in the order of the file.
    fn named<S: Section>(&mut self, key: &'static str, value: &mut Vec<Named<S>>, max: usize);
}
