//! A package whose files a JavaScript function gives.

use js_sys::{Function, Promise, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::error::from_js;
use crate::error::{Error, ErrorKind, Result};
use crate::weights::package::PackageSource;

/// Calls `read(file, limit)`, which promises a `Uint8Array` of at most `limit` bytes.
pub(super) struct CallbackSource {
    pub(super) name: String,
    pub(super) read: Function,
}

impl PackageSource for CallbackSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn read(&self, file: &str, limit: usize) -> Result<Vec<u8>> {
        let answer = self.read.call2(&JsValue::NULL, &file.into(), &(limit as f64).into()).map_err(|e| from_js(&e))?;
        let bytes = JsFuture::from(Promise::resolve(&answer)).await.map_err(|e| from_js(&e))?;
        let bytes: Uint8Array = bytes.dyn_into().map_err(|_| {
            Error::new(ErrorKind::Invalid, format!("the reader gave no Uint8Array for {file}"))
                .remedy("let the function resolve to the file's bytes")
        })?;
        if bytes.length() as usize > limit {
            let message = format!("{file} has {} bytes, expected at most {limit}", bytes.length());
            return Err(Error::new(ErrorKind::Integrity, message)
                .remedy("the file is damaged or from another package: copy or download it again"));
        }
        Ok(bytes.to_vec())
    }
}
