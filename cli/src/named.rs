//! Arguments with a fixed set of values, which a shell can complete.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};
use hnsw_toolbox::{
    ColumnarFormat, Compression, Engine, Error, IoMode, Metric, RepairLinks, Space, VectorForm,
};
#[cfg(feature = "database")]
use hnsw_toolbox::{ListForm, MetadataForm, OnConflict};

/// A value with a name.
pub(super) trait Named: FromStr<Err = Error> + Copy + Send + Sync + 'static {
    const ALL: &'static [Self];

    fn name(self) -> &'static str;
}

macro_rules! named {
    ($($(#[$attribute:meta])* $type:ident,)+) => {
        $(
            $(#[$attribute])*
            impl Named for $type {
                const ALL: &'static [Self] = Self::ALL;

                fn name(self) -> &'static str {
                    Self::name(self)
                }
            }
        )+
    };
}

named! {
    ColumnarFormat,
    Compression,
    Engine,
    IoMode,
    #[cfg(feature = "database")]
    ListForm,
    #[cfg(feature = "database")]
    MetadataForm,
    #[cfg(feature = "database")]
    OnConflict,
    Metric,
    RepairLinks,
    Space,
    VectorForm,
}

/// Parses a name. Aliases are also parsed, but not completed.
pub(super) fn named<T: Named>() -> NameParser<T> {
    NameParser(PhantomData)
}

#[derive(Clone)]
pub(super) struct NameParser<T>(PhantomData<T>);

impl<T: Named> TypedValueParser for NameParser<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        // clap adds the argument's name to the library's error.
        T::from_str.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = T::ALL.iter().map(|value| value.name());
        Some(Box::new(names.map(PossibleValue::new)))
    }
}
