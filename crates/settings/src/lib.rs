#![doc = include_str!("../README.md")]

mod mistake;
mod read;
mod show;
mod value;
mod yaml;

pub use mistake::{Mistake, did_you_mean, not_quoted, one_of, quotable, quoted};
pub use read::{Document, Place, Reader, short_or_long, with_common};
pub use show::{MASK, complete_schema, show};
pub use value::{
    Count, Duration, FilePath, Hidden, Period, Secret, SecretText, YEAR, days, hours, in_words,
    milliseconds, minutes, not, seconds,
};

#[doc(hidden)]
pub mod private {
    pub use schemars;
    pub use serde;
}
