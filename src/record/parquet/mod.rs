//! Records as Parquet: a column for each field, named with underscores, of the physical type that AWS gives it.
//!
//! INT32 for small numbers, INT64 for large ones, strings for all else, addresses too. All columns are optional: a dash is null.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io;

pub use read::{Fault, Reader};
pub use write::{from_lines, salvage};

fn other(error: ::parquet::errors::ParquetError) -> io::Error {
    match error {
        ::parquet::errors::ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(inner) => io::Error::other(inner),
        },
        error => io::Error::other(error),
    }
}
