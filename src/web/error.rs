//! Errors across the border: `Error` objects with `code` and `remedy`.

use js_sys::Reflect;
use wasm_bindgen::{JsCast, JsValue};

use crate::error::{Error, ErrorKind};

const KINDS: [ErrorKind; 8] = [
    ErrorKind::NotFound,
    ErrorKind::Io,
    ErrorKind::Format,
    ErrorKind::Unsupported,
    ErrorKind::Integrity,
    ErrorKind::Invalid,
    ErrorKind::Limit,
    ErrorKind::Device,
];

/// A JavaScript `Error` whose message leaves the remedy to its own property.
pub(super) fn to_js(error: Error) -> JsValue {
    let text = error.to_string();
    let remedy = error.remedy_text();
    let message = remedy.and_then(|r| text.strip_suffix(&format!(" ({r})"))).unwrap_or(&text);
    let object = js_sys::Error::new(message);
    set(&object, "code", error.kind().code());
    if let Some(remedy) = remedy {
        set(&object, "remedy", remedy);
    }
    object.into()
}

/// What JavaScript threw, with the kind that its `code` names (else [`ErrorKind::Io`]: it is thrown by readers).
pub(super) fn from_js(thrown: &JsValue) -> Error {
    let property = |name: &str| Reflect::get(thrown, &name.into()).ok().and_then(|value| value.as_string());
    let code = property("code");
    let kind = KINDS.into_iter().find(|kind| Some(kind.code()) == code.as_deref()).unwrap_or(ErrorKind::Io);
    let message = property("message").or_else(|| thrown.as_string()).unwrap_or_else(|| format!("{thrown:?}"));
    let error = Error::new(kind, message);
    match property("remedy") {
        Some(remedy) => error.remedy(remedy),
        None => error,
    }
}

fn set(object: &js_sys::Error, name: &str, value: &str) {
    // Only a frozen object refuses, and this one is new.
    let _ = Reflect::set(object.unchecked_ref(), &name.into(), &value.into());
}
