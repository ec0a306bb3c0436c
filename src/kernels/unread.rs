//! The error of a device that gives no result.

use crate::error::{Error, ErrorKind};

/// The error of a device that gives no result.
pub fn unread(why: impl std::fmt::Debug) -> Error {
    Error::new(ErrorKind::Device, "reading a result back failed").source(format!("{why:?}"))
}
