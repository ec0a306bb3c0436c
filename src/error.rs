//! The one error type: what went wrong, where, and what to do about it.

use std::fmt;

/// Result alias used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of thing went wrong; stable, and the `code` of the JavaScript error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file, tile, tensor or class that was asked for does not exist.
    NotFound,
    /// Reading or writing failed: permissions, a full disk, a broken connection.
    Io,
    /// Bytes are not what their format promises: truncated, corrupt, misshapen.
    Format,
    /// Well-formed, but this program does not handle it.
    Unsupported,
    /// A hash or checksum does not match.
    Integrity,
    /// An argument or setting is out of its range.
    Invalid,
    /// Larger than a stated limit.
    Limit,
    /// The compute device is missing, was lost, or lacks what the model needs.
    Device,
}

impl ErrorKind {
    /// The kind's stable name: `not_found`, `io`, `format`, `unsupported`, `integrity`, `invalid`, `limit` or `device`.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Io => "io",
            Self::Format => "format",
            Self::Unsupported => "unsupported",
            Self::Integrity => "integrity",
            Self::Invalid => "invalid",
            Self::Limit => "limit",
            Self::Device => "device",
        }
    }
}

/// An error with its place and its remedy, printed as `place: message (remedy)`.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    place: Option<String>,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message` (lower case, no full stop).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), place: None, remedy: None, source: None }))
    }

    /// Names the place: a file, a tensor, an option. Outer places are put before inner ones, unless the inner one begins with
    /// the outer: a file's name is said once, and a folder's not beside that of a file in it.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        let place = place.to_string();
        self.0.place = Some(match self.0.place.take() {
            Some(inner) => match inner.strip_prefix(place.trim_end_matches('/')) {
                Some(rest) if rest.is_empty() || rest.starts_with(':') || rest.starts_with('/') => inner,
                _ => format!("{place}: {inner}"),
            },
            None => place,
        });
        self
    }

    /// Says what the user can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the user can do about it, if the error says.
    pub fn remedy_text(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.0.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        if let Some(remedy) = &self.0.remedy {
            write!(f, " ({remedy})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// An input or output error of the operating system; add the file with [`Error::at`]. An [`Error`] that went through
/// [`std::io::Error::other`] comes out as it was.
impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let e = match e.downcast::<Self>() {
            Ok(own) => return own,
            Err(e) => e,
        };
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::UnexpectedEof => ErrorKind::Format,
            _ => ErrorKind::Io,
        };
        Self::new(kind, e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_from_the_outside_in_and_once() {
        let at = |places: &[&str]| {
            let error = places.iter().fold(Error::new(ErrorKind::Io, "broken"), |e, place| e.at(place));
            error.to_string()
        };
        assert_eq!(at(&["tensor a", "model.pth"]), "model.pth: tensor a: broken");
        assert_eq!(at(&["tensor a", "model.pth", "model.pth"]), "model.pth: tensor a: broken");
        assert_eq!(at(&["chips/images/a.png", "chips"]), "chips/images/a.png: broken");
        assert_eq!(at(&["chips/images/a.png", "chips/"]), "chips/images/a.png: broken");
        assert_eq!(at(&["chips2/a.png", "chips"]), "chips: chips2/a.png: broken");
    }
}
