//! The two shapes that all settings have: a section (an object with known keys) and a choice of backends
//! (`{"backend": key, "config": {...}}`). Both are declared as data; reading, writing, defaults and errors follow.

/// Declares a section. Each field says how it is read:
/// `required` must be there; `default` has a value when absent; `omitted` is an `Option` that is left out of what is
/// written when it is `None` (keys that MemOS does not know must not appear in its files); `group` holds the fields
/// of another section in the same object; `rest`, last, keeps all other keys.
/// `model schema` is MemOS' class path, which is written and expected; elsewhere the key is ignored.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $($(#[doc = $field_doc:literal])* $how:ident $field:ident $(as $key:literal)? : $type:ty $(= $default:expr)?),* $(,)?
        }
        $(model schema: $schema:expr;)?
        $(unknown keys: $unknown:ident;)?
        $(check: $check:path;)?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type),*
        }

        impl $name {
            pub(crate) fn read_fields(fields: &mut $crate::read::Fields<'_, '_>) -> Option<Self> {
                let _ = &fields;
                $(let $field = section!(@read $how, fields, section!(@key $field $($key)?), $type $(, $default)?);)*
                let section = Self { $($field: $field?),* };
                $($check(&section, fields);)?
                Some(section)
            }

            pub(crate) fn write_fields(
                &self,
                out: &mut serde_json::Map<String, serde_json::Value>,
                secrets: $crate::secret::Secrets,
            ) {
                let _ = (&out, secrets);
                $(section!(@write $how, self.$field, section!(@key $field $($key)?), out, secrets);)*
            }

            pub(crate) fn schema_fields(
                listed: &mut $crate::schema::Section,
                definitions: &mut $crate::schema::Definitions,
            ) {
                let _ = (&listed, &definitions);
                $(section!(
                    @schema $how, listed, definitions, section!(@key $field $($key)?), [$($field_doc),*], $type $(, $default)?
                );)*
            }
        }

        impl $crate::read::Setting for $name {
            fn read(
                reader: &mut $crate::read::Reader<'_>,
                value: &serde_json::Value,
                at: &str,
            ) -> Option<Self> {
                let mut fields = $crate::read::Fields::open(reader, value, at)?;
                $(fields.expect_schema($schema);)?
                let section = Self::read_fields(&mut fields);
                $(section!(@unknown $unknown, fields);)?
                if fields.close() { section } else { None }
            }

            fn write(&self, secrets: $crate::secret::Secrets) -> serde_json::Value {
                let mut out = serde_json::Map::new();
                $(out.insert("model_schema".to_owned(), serde_json::Value::from($schema));)?
                self.write_fields(&mut out, secrets);
                serde_json::Value::Object(out)
            }

            fn schema(definitions: &mut $crate::schema::Definitions) -> serde_json::Value {
                definitions.refer(stringify!($name), |definitions| {
                    let mut listed = $crate::schema::Section::new(&[$($doc),*]);
                    Self::schema_fields(&mut listed, definitions);
                    $(section!(@open $unknown, listed);)?
                    listed.finish()
                })
            }
        }

        /// Secrets are masked; [`Setting::to_json`](crate::Setting::to_json) can show them.
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::read::Setting::write(self, $crate::secret::Secrets::Masked).serialize(serializer)
            }
        }
    };

    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };

    (@read required, $fields:ident, $key:expr, $type:ty) => { $fields.required::<$type>($key) };
    (@read default, $fields:ident, $key:expr, $type:ty, $default:expr) => {
        $fields.default::<$type>($key, || $default)
    };
    (@read omitted, $fields:ident, $key:expr, $type:ty) => { $fields.default::<$type>($key, || None) };
    (@read group, $fields:ident, $key:expr, $type:ty) => { <$type>::read_fields($fields) };
    (@read rest, $fields:ident, $key:expr, $type:ty) => { Some($fields.rest()) };

    (@write omitted, $value:expr, $key:expr, $out:ident, $secrets:ident) => {
        if let Some(value) = &$value {
            $out.insert($key.to_owned(), $crate::read::Setting::write(value, $secrets));
        }
    };
    (@write group, $value:expr, $key:expr, $out:ident, $secrets:ident) => { $value.write_fields($out, $secrets) };
    (@write rest, $value:expr, $key:expr, $out:ident, $secrets:ident) => {
        if let serde_json::Value::Object(rest) = $crate::read::Setting::write(&$value, $secrets) {
            $out.extend(rest);
        }
    };
    (@write $how:ident, $value:expr, $key:expr, $out:ident, $secrets:ident) => {
        $out.insert($key.to_owned(), $crate::read::Setting::write(&$value, $secrets));
    };

    (@unknown ignored, $fields:ident) => { $fields.ignore_rest() };
    (@open ignored, $listed:ident) => { $listed.open() };

    (@schema required, $listed:ident, $definitions:ident, $key:expr, [$($doc:literal),*], $type:ty) => {
        $listed.required::<$type>($key, &[$($doc),*], $definitions)
    };
    (@schema default, $listed:ident, $definitions:ident, $key:expr, [$($doc:literal),*], $type:ty, $default:expr) => {{
        let default: $type = $default;
        let default = $crate::read::Setting::write(&default, $crate::secret::Secrets::Plain);
        $listed.optional::<$type>($key, &[$($doc),*], Some(default), $definitions)
    }};
    (@schema omitted, $listed:ident, $definitions:ident, $key:expr, [$($doc:literal),*], $type:ty) => {
        $listed.optional::<$type>($key, &[$($doc),*], None, $definitions)
    };
    (@schema group, $listed:ident, $definitions:ident, $key:expr, [$($doc:literal),*], $type:ty) => {
        <$type>::schema_fields($listed, $definitions)
    };
    (@schema rest, $listed:ident, $definitions:ident, $key:expr, [$($doc:literal),*], $type:ty) => {
        $listed.open()
    };
}

/// Declares a choice of backends. Keys are what stands in files; the first key of a backend is written.
/// `absent backend: KEY` names the backend that is meant when none is given.
macro_rules! backends {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $($(#[doc = $variant_doc:literal])* $variant:ident($config:ty) = $key:literal),* $(,)?
        }
        $(absent backend: $absent:literal;)?
        $(null backend: $null:ident;)?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name {
            $($(#[doc = $variant_doc])* $variant(Box<$config>)),*
        }

        impl $name {
            /// Every backend key that parses.
            pub const KEYS: &'static [&'static str] = &[$($key),*];

            /// Returns the backend's key.
            pub fn backend(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $key),*
                }
            }
        }

        impl $crate::read::Setting for $name {
            fn read(
                reader: &mut $crate::read::Reader<'_>,
                value: &serde_json::Value,
                at: &str,
            ) -> Option<Self> {
                #[allow(unused_mut, unused_assignments, reason = "only some choices have a default backend")]
                let mut absent: Option<&'static str> = None;
                $(absent = Some($absent);)?
                let (backend, config) = $crate::read::backend_and_config(reader, value, at, absent, Self::KEYS)?;
                let at = $crate::read::join(at, "config");
                match backend.as_str() {
                    $($key => <$config as $crate::read::Setting>::read(reader, &config, &at)
                        .map(|config| Self::$variant(Box::new(config))),)*
                    _ => unreachable!("`backend_and_config` returns only known keys"),
                }
            }

            fn write(&self, secrets: $crate::secret::Secrets) -> serde_json::Value {
                let config = match self {
                    $(Self::$variant(config) => $crate::read::Setting::write(config.as_ref(), secrets)),*
                };
                serde_json::json!({"backend": self.backend(), "config": config})
            }

            fn schema(definitions: &mut $crate::schema::Definitions) -> serde_json::Value {
                definitions.refer(stringify!($name), |definitions| {
                    let backends = vec![$({
                        let config = <$config as $crate::read::Setting>::schema(definitions);
                        $crate::schema::backend($key, &[$($variant_doc),*], config)
                    }),*];
                    $crate::schema::choice(&[$($doc),*], backends)
                })
            }

            $(fn is_absent(value: &serde_json::Value) -> bool {
                // MemOS writes an unused $null as an object whose backend is null.
                let _ = stringify!($null);
                value.is_null() || value.get("backend").is_some_and(serde_json::Value::is_null)
            })?
        }

        /// Secrets are masked; [`Setting::to_json`](crate::Setting::to_json) can show them.
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::read::Setting::write(self, $crate::secret::Secrets::Masked).serialize(serializer)
            }
        }
    };
}
