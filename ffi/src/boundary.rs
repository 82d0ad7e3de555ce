//! Boundary between a foreign caller and the library. Strings are checked on their way in, no panic
//! gets out, and an error is kept for the thread on which it happened.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{c_char, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

use serde::Serialize;
use toolbox::{display_path, Error, Result};

/// Longest request in bytes. It bounds the search for the terminator in a string without one.
pub(crate) const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Runs the body of an entry point. A panic in it sets this thread's last error and returns the
/// given value.
macro_rules! boundary {
    ($on_panic:expr, $body:expr) => {
        match ::std::panic::catch_unwind(::std::panic::AssertUnwindSafe(|| $body)) {
            Ok(value) => value,
            Err(payload) => {
                $crate::boundary::record_panic(payload);
                $on_panic
            }
        }
    };
}
pub(crate) use boundary;

struct Failure {
    code: u16,
    text: CString,
    json: CString,
}

/// The parts of an error, as JSON.
#[derive(Serialize)]
struct Parts<'e> {
    code: u16,
    name: &'static str,
    message: &'e str,
    path: Option<Cow<'e, str>>,
    field: Option<&'e str>,
    offset: Option<u64>,
    found: Option<&'e str>,
    expected: Option<&'e str>,
}

thread_local! {
    static LAST_ERROR: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

fn set_last_error(failure: Option<Failure>) {
    // While the thread's locals are being destroyed, no caller is left to read an error.
    let _ = LAST_ERROR.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = failure;
        }
    });
}

/// Returns a part of this thread's last error; `None` if there is no error.
fn last_error<T>(part: impl FnOnce(&Failure) -> T) -> Option<T> {
    LAST_ERROR
        .try_with(|last| last.try_borrow().ok()?.as_ref().map(part))
        .ok()?
}

/// This thread's last error as `[E<code>] <words>`; null if there is none.
pub(crate) fn last_error_text() -> *const c_char {
    last_error(|failure| failure.text.as_ptr()).unwrap_or(ptr::null())
}

/// This thread's last error as JSON; null if there is none.
pub(crate) fn last_error_json() -> *const c_char {
    last_error(|failure| failure.json.as_ptr()).unwrap_or(ptr::null())
}

/// Code of this thread's last error; 0 if there is none.
pub(crate) fn last_error_code() -> u32 {
    last_error(|failure| u32::from(failure.code)).unwrap_or(0)
}

/// Text of an error for callers.
fn message(error: &Error) -> String {
    // A path may contain any character. A NUL would truncate the C string.
    error.to_string().replace('\0', "\\0")
}

/// Formats an error for callers: `[E<code>] <words>`.
pub(crate) fn words(error: &Error) -> CString {
    CString::new(format!("[E{}] {}", error.code(), message(error))).unwrap_or_default()
}

fn json(error: &Error) -> CString {
    let parts = Parts {
        code: error.code(),
        name: error.kind().name(),
        message: &message(error),
        // JSON cannot hold every path. One that is not UTF-8 is escaped, as in the message.
        path: error.path().map(|path| match path.to_str() {
            Some(path) => path.into(),
            None => display_path(path).to_string().into(),
        }),
        field: error.field(),
        offset: error.offset(),
        found: error.found(),
        expected: error.expected(),
    };
    // JSON escapes NUL.
    CString::new(serde_json::to_vec(&parts).unwrap_or_default()).unwrap_or_default()
}

pub(crate) fn record(error: &Error) {
    set_last_error(Some(Failure {
        code: error.code(),
        text: words(error),
        json: json(error),
    }));
}

pub(crate) fn record_panic(payload: Box<dyn Any + Send>) {
    record(&panic_error(payload));
}

/// Runs `call`, and turns a panic into an error.
pub(crate) fn caught<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(panic_error(payload)))
}

fn panic_error(payload: Box<dyn Any + Send>) -> Error {
    let message = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_string());
    // Dropping a payload may itself panic. A second payload is leaked instead of dropped.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    Error::internal(message)
}

/// Runs `call` on the request. Returns its response as a C string that the caller owns, or null
/// with this thread's last error set.
///
/// # Safety
///
/// `request` is null or points to bytes that end with a NUL and do not change during the call.
#[expect(unsafe_code, reason = "a C string in, a C string out")]
pub(crate) unsafe fn respond(
    request: *const c_char,
    call: fn(&str) -> Result<String>,
) -> *mut c_char {
    set_last_error(None);
    // SAFETY: as the caller promises.
    let response = unsafe { request_text(request) }
        .and_then(call)
        .and_then(|json| {
            CString::new(json)
                .map_err(|e| Error::internal(format!("the response cannot be a C string: {e}")))
        });
    match response {
        Ok(json) => json.into_raw(),
        Err(error) => {
            record(&error);
            ptr::null_mut()
        }
    }
}

/// Runs `call`. Its error becomes this thread's last one.
pub(crate) fn attempt<T>(call: impl FnOnce() -> Result<T>) -> Option<T> {
    set_last_error(None);
    call().map_err(|error| record(&error)).ok()
}

/// # Safety
///
/// As for [`respond`]. The text must not be used after the call returns to the foreign caller.
#[expect(unsafe_code, reason = "the string is the foreign caller's")]
pub(crate) unsafe fn request_text<'a>(request: *const c_char) -> Result<&'a str> {
    let invalid = |detail: String| Error::request(detail);
    if request.is_null() {
        return Err(invalid("found NULL, expected a JSON object".to_string()));
    }
    let start = request.cast::<u8>();
    let mut len = 0;
    // SAFETY: all bytes up to the terminator, including it, are readable, and none after it is
    // read.
    while unsafe { *start.add(len) } != 0 {
        len += 1;
        if len > MAX_REQUEST_BYTES {
            return Err(invalid(format!(
                "found more than {MAX_REQUEST_BYTES} bytes, expected at most that many"
            )));
        }
    }
    // SAFETY: these `len` bytes were just read, and do not change during the call.
    let bytes = unsafe { std::slice::from_raw_parts(start, len) };
    std::str::from_utf8(bytes).map_err(|e| {
        invalid(format!(
            "byte {}: found bytes that are not UTF-8, expected JSON in UTF-8",
            e.valid_up_to()
        ))
    })
}
