//! A JSON request body, read member by member so that each fault gets the error the specification names.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::CscError;

pub(crate) struct Body(Map<String, Value>);

impl Body {
    /// Reads a JSON object; an empty body counts as `{}`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CscError> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(Map::new()));
        }
        let unique: Unique = serde_json::from_slice(bytes).map_err(|_| CscError::Malformed)?;
        Ok(Self(unique.0))
    }

    /// Members that were read already.
    pub(crate) fn of(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// A member that is neither `null` nor `""`.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .get(name)
            .filter(|v| !v.is_null() && v.as_str() != Some(""))
    }

    /// A member that is there and empty.
    pub(crate) fn is_empty_text(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_str) == Some("")
    }

    pub(crate) fn string(&self, name: &'static str) -> Result<String, CscError> {
        let text = self.get(name).and_then(Value::as_str);
        text.map(str::to_owned).ok_or(CscError::MissingString(name))
    }

    pub(crate) fn opt_string(&self, name: &'static str) -> Result<Option<String>, CscError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(CscError::InvalidParameter(name)),
        }
    }

    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, CscError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(CscError::InvalidParameter(name)),
        }
    }

    /// All members.
    pub(crate) fn into_members(self) -> Map<String, Value> {
        self.0
    }

    pub(crate) fn array(&self, name: &'static str) -> Option<&[Value]> {
        self.get(name).and_then(Value::as_array).map(Vec::as_slice)
    }
}

/// An object whose members are all different: two readers of one body must not see two values.
struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(A::Error::custom("repeated member"));
                    }
                }
                Ok(Unique(map))
            }
        }
        d.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_objects_without_repeats() {
        assert!(Body::parse(b"").is_ok());
        assert!(Body::parse(b" {} ").is_ok());
        for bad in [
            &b"[]"[..],
            b"1",
            b"{",
            b"{\"a\":1}x",
            b"{\"a\":1,\"a\":2}",
            b"\xff",
        ] {
            assert_eq!(Body::parse(bad).err(), Some(CscError::Malformed));
        }
    }

    #[test]
    fn null_and_empty_mean_absent() {
        let body = Body::parse(br#"{"a":null,"b":"","c":"x","d":1}"#).unwrap();
        assert_eq!(body.opt_string("a"), Ok(None));
        assert_eq!(body.opt_string("b"), Ok(None));
        assert_eq!(body.string("b"), Err(CscError::MissingString("b")));
        assert_eq!(body.string("c").as_deref(), Ok("x"));
        assert_eq!(body.opt_string("d"), Err(CscError::InvalidParameter("d")));
        assert_eq!(body.flag("c"), Err(CscError::InvalidParameter("c")));
    }
}
