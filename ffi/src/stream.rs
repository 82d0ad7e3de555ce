//! Arrow C streams of record batches: the standard's structs and the implementation behind them.
//!
//! <https://arrow.apache.org/docs/format/CStreamInterface.html>

#![allow(unsafe_code)] // The consumer's structs.

use std::ffi::{c_char, c_int, c_void, CString};
use std::ptr;

use arrow2::array::StructArray;
use arrow2::datatypes::{DataType, Field, Schema};
use arrow2::ffi::{export_array_to_c, export_field_to_c, ArrowArray, ArrowSchema};
use toolbox::wire::BatchStream;
use toolbox::{Error, Result};

use crate::boundary::{self, boundary};

/// Error numbers that the callbacks return. Their values are the same on every supported system.
mod errno {
    use std::ffi::c_int;

    pub(super) const EIO: c_int = 5;
    pub(super) const ENOMEM: c_int = 12;
    pub(super) const EINVAL: c_int = 22;
}

/// The standard's struct. The header declares it in the standard's wording.
#[repr(C)]
#[derive(Debug)]
pub struct ArrowArrayStream {
    pub(crate) get_schema: Option<unsafe extern "C" fn(*mut Self, *mut ArrowSchema) -> c_int>,
    pub(crate) get_next: Option<unsafe extern "C" fn(*mut Self, *mut ArrowArray) -> c_int>,
    pub(crate) get_last_error: Option<unsafe extern "C" fn(*mut Self) -> *const c_char>,
    pub(crate) release: Option<unsafe extern "C" fn(*mut Self)>,
    private_data: *mut c_void,
}

/// Target of `private_data`.
struct Private {
    batches: BatchStream,
    /// Type of every batch: a struct of the columns.
    field: Field,
    /// Text of the last error.
    failure: Option<CString>,
}

impl ArrowArrayStream {
    /// A released stream.
    pub(crate) const RELEASED: Self = Self {
        get_schema: None,
        get_next: None,
        get_last_error: None,
        release: None,
        private_data: ptr::null_mut(),
    };

    pub(crate) fn new(batches: BatchStream) -> Self {
        let Schema {
            mut fields,
            metadata,
        } = batches.schema().clone();
        // Column names are C strings in this interface.
        for field in &mut fields {
            field.name = field.name.replace('\0', "\\0");
        }
        let field = Field::new("", DataType::Struct(fields), false).with_metadata(metadata);
        let private = Box::new(Private {
            batches,
            field,
            failure: None,
        });
        Self {
            get_schema: Some(get_schema),
            get_next: Some(get_next),
            get_last_error: Some(get_last_error),
            release: Some(release),
            private_data: Box::into_raw(private).cast(),
        }
    }
}

impl Private {
    /// Returns the next batch. After the last one, returns an array that is marked as released, as
    /// the standard requires.
    fn next(&mut self) -> Result<ArrowArray> {
        let Some(batch) = self.batches.next().transpose()? else {
            return Ok(ArrowArray::empty());
        };
        let columns = batch.into_arrays();
        let batch = StructArray::try_new(self.field.data_type.clone(), columns, None);
        Ok(export_array_to_c(batch.map_err(internal)?.boxed()))
    }

    fn fail(&mut self, error: &Error) -> c_int {
        // The Arrow interface has only a text. The parts of the error are the thread's last one.
        boundary::record(error);
        self.failure = Some(boundary::words(error));
        match error.code() {
            302 => errno::ENOMEM,
            100..=199 => errno::EINVAL,
            _ => errno::EIO,
        }
    }
}

fn internal(error: arrow2::error::Error) -> Error {
    Error::internal(error)
}

/// Returns the private data of a stream that has not been released.
///
/// # Safety
///
/// `stream` is null or a stream of this library that nothing else uses during the result's
/// lifetime.
unsafe fn private<'a>(stream: *mut ArrowArrayStream) -> Option<&'a mut Private> {
    // SAFETY: as the caller promises.
    let stream = unsafe { stream.as_ref() }?;
    stream.release?;
    // SAFETY: `new` stored it, and only `release` removes it.
    unsafe { stream.private_data.cast::<Private>().as_mut() }
}

/// Runs a callback of a stream and writes its result. An error or a panic is kept for
/// `get_last_error`.
///
/// # Safety
///
/// As for [`private`]. `out` is null or writable.
unsafe fn call<T>(
    stream: *mut ArrowArrayStream,
    out: *mut T,
    body: impl FnOnce(&mut Private) -> Result<T>,
) -> c_int {
    boundary!(errno::EIO, {
        // SAFETY: as the caller promises.
        let Some(private) = (unsafe { private(stream) }) else {
            return errno::EINVAL;
        };
        if out.is_null() {
            return private.fail(&no_place());
        }
        match boundary::caught(|| body(private)) {
            Ok(value) => {
                // SAFETY: as the caller promises. The old content is not dropped, because it is not
                // a value.
                unsafe { out.write_unaligned(value) };
                0
            }
            Err(error) => private.fail(&error),
        }
    })
}

unsafe extern "C" fn get_schema(stream: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
    // SAFETY: the consumer passes the callback's own stream, and writable memory for a schema.
    unsafe { call(stream, out, |private| Ok(export_field_to_c(&private.field))) }
}

unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
    // SAFETY: the consumer passes the callback's own stream, and writable memory for an array.
    unsafe { call(stream, out, Private::next) }
}

unsafe extern "C" fn get_last_error(stream: *mut ArrowArrayStream) -> *const c_char {
    boundary!(ptr::null(), {
        // SAFETY: the consumer passes the callback's own stream.
        let private = unsafe { private(stream) };
        private
            .and_then(|private| private.failure.as_ref())
            .map_or(ptr::null(), |words| words.as_ptr())
    })
}

unsafe extern "C" fn release(stream: *mut ArrowArrayStream) {
    boundary!((), {
        // SAFETY: the consumer passes the callback's own stream.
        let Some(stream) = (unsafe { stream.as_mut() }) else {
            return;
        };
        if stream.release.is_some() {
            let released = std::mem::replace(stream, ArrowArrayStream::RELEASED);
            // SAFETY: `new` created it, and no other pointer to it is left.
            drop(unsafe { Box::from_raw(released.private_data.cast::<Private>()) });
        }
    });
}

pub(crate) fn no_place() -> Error {
    Error::request("found NULL, expected a pointer to writable memory for the result")
}
