//! A JSON request body, read member by member so that each fault gets the error the specification names.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::CscError;

pub(crate) struct Body(Map<String, Value>);

impl Body {
    /// Reads a JSON object; an empty body counts as `{}`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CscError> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(Map::new()));
        }
        match strict(bytes) {
            Some(Value::Object(members)) => Ok(Self(members)),
            _ => Err(CscError::Malformed),
        }
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

/// Reads JSON in which no object names a member twice, at any depth: two readers of one text must not see two values.
pub(crate) fn strict(text: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Unique>(text)
        .ok()
        .map(|read| read.0)
}

/// A value all of whose objects have different members.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Unique(value))) = access.next_entry::<String, Unique>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("repeated member"));
            }
        }
        Ok(Value::Object(map))
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
            b"{\"a\":[{\"b\":{\"c\":1,\"c\":2}}]}",
            b"\xff",
        ] {
            assert_eq!(Body::parse(bad).err(), Some(CscError::Malformed));
        }
    }

    #[test]
    fn every_kind_of_value_is_read_as_it_stands() {
        let text = r#"{"a":[null,true,-1,18446744073709551615,1.5e3,"\u0000捺"],"b":{"b":{}}}"#;
        let plain: Value = serde_json::from_str(text).unwrap();
        assert_eq!(strict(text.as_bytes()), Some(plain));
        let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(strict(deep(100).as_bytes()).is_some());
        assert_eq!(strict(deep(200).as_bytes()), None);
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
