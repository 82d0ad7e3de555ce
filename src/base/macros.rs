//! Macros for the repetitive parts of options structs and enums of names.

/// Defines an enum whose variants have the names that requests, the command line and JSON use.
///
/// `field` is the field that the error for an unknown name reports. An accepted alias follows `or`.
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $type:ident for $field:literal {
            $($(#[$variant_meta:meta])* $variant:ident = $name:literal $(or $alias:literal)?,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        #[non_exhaustive]
        $vis enum $type {
            $($(#[$variant_meta])* #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in requests, in responses and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                // `pad`, unlike `write_str`, applies the width in tables.
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::Error;

            fn from_str(name: &str) -> $crate::error::Result<Self> {
                match name {
                    $($name $(| $alias)? => Ok(Self::$variant),)+
                    _ => Err($crate::error::Error::unknown_name(
                        $field,
                        name,
                        [$($name $(, $alias)?),+],
                    )),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(name: D) -> Result<Self, D::Error> {
                let name = <String as serde::Deserialize>::deserialize(name)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Defines a consuming setter for each field of an options struct.
///
/// An optional field takes `impl Into<Option<T>>`: a value, or an `Option` of one.
macro_rules! setters {
    ($type:ident { $($setter:ident($field:ident: $value:ty),)+ }) => {
        impl $type {
            $(
                #[doc = concat!("Sets `", stringify!($field), "`.")]
                #[must_use]
                pub fn $setter(mut self, $field: $value) -> Self {
                    // Identity for a plain field, `Some` for an optional one.
                    self.$field = $field.into();
                    self
                }
            )+
        }
    };
}
