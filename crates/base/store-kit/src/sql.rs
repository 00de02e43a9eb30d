//! Statements, their parameters, and the rows they yield: the same for both databases.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AssertSqlSafe, Decode, Row as _, Type, ValueRef as _};

use crate::error::StoreError;

/// A statement with its parameters: `sql("… $1 …").bind(value)`, for `i64`, `&str`, `String`, `&[u8]`, `Vec<u8>`
/// and `Option`s of them. The first bound value is `$1`.
#[derive(Debug)]
pub struct Sql<'q> {
    text: Cow<'static, str>,
    values: Vec<Value<'q>>,
}

/// Starts a statement from a constant text.
pub fn sql<'q>(text: &'static str) -> Sql<'q> {
    Sql {
        text: Cow::Borrowed(text),
        values: Vec::new(),
    }
}

/// A statement that was put together, of nothing but names that were looked at.
pub(crate) fn sql_of<'q>(text: String) -> Sql<'q> {
    Sql {
        text: Cow::Owned(text),
        values: Vec::new(),
    }
}

impl<'q> Sql<'q> {
    /// Binds the next parameter.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The values as SQLite takes them.
    pub(crate) fn values(&self) -> impl Iterator<Item = ValueRef<'_>> {
        self.values.iter().map(|value| match value {
            Value::Int(n) => ValueRef::Integer(*n),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
            Value::NoInt | Value::NoText | Value::NoBlob => ValueRef::Null,
        })
    }

    pub(crate) fn into_postgres(self) -> sqlx::query::Query<'q, Any, AnyArguments> {
        let query = match self.text {
            Cow::Borrowed(text) => sqlx::query(text),
            Cow::Owned(text) => sqlx::query(AssertSqlSafe(text)),
        };
        self.values
            .into_iter()
            .fold(query, |query, value| match value {
                Value::Int(n) => query.bind(n),
                Value::Text(text) => query.bind(text.into_owned()),
                Value::Blob(bytes) => query.bind(bytes.into_owned()),
                Value::NoInt => query.bind(None::<i64>),
                Value::NoText => query.bind(None::<String>),
                Value::NoBlob => query.bind(None::<Vec<u8>>),
            })
    }
}

/// A parameter. `NULL` has a type too: PostgreSQL wants to know it.
#[derive(Debug)]
#[doc(hidden)]
pub enum Value<'q> {
    Int(i64),
    Text(Cow<'q, str>),
    Blob(Cow<'q, [u8]>),
    NoInt,
    NoText,
    NoBlob,
}

macro_rules! values {
    ($($type:ty, $null:ident, |$given:ident| $value:expr;)*) => {$(
        impl<'q> From<$type> for Value<'q> {
            fn from($given: $type) -> Self {
                $value
            }
        }

        impl<'q> From<Option<$type>> for Value<'q> {
            fn from(given: Option<$type>) -> Self {
                given.map_or(Self::$null, Self::from)
            }
        }
    )*};
}

values! {
    i64, NoInt, |n| Self::Int(n);
    &'q str, NoText, |text| Self::Text(Cow::Borrowed(text));
    &'q String, NoText, |text| Self::Text(Cow::Borrowed(text));
    String, NoText, |text| Self::Text(Cow::Owned(text));
    &'q [u8], NoBlob, |bytes| Self::Blob(Cow::Borrowed(bytes));
    &'q Vec<u8>, NoBlob, |bytes| Self::Blob(Cow::Borrowed(bytes));
    Vec<u8>, NoBlob, |bytes| Self::Blob(Cow::Owned(bytes));
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// None.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers.
    Int,
    /// Texts.
    Text,
    /// Bytes.
    Blob,
}

impl From<Cell> for Value<'_> {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Null => Self::NoInt,
            Cell::Int(n) => Self::Int(n),
            Cell::Text(text) => Self::Text(Cow::Owned(text)),
            Cell::Blob(bytes) => Self::Blob(Cow::Owned(bytes)),
        }
    }
}

/// A row; columns are read by name. A value that is `NULL` or of another type is an error, never a default.
pub struct Row(Cells);

enum Cells {
    Sqlite {
        names: Arc<[String]>,
        values: Vec<rusqlite::types::Value>,
    },
    Postgres(AnyRow),
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = match &self.0 {
            Cells::Sqlite { values, .. } => values.len(),
            Cells::Postgres(row) => row.len(),
        };
        write!(f, "Row({columns} columns)")
    }
}

impl Row {
    pub(crate) fn sqlite(names: Arc<[String]>, values: Vec<rusqlite::types::Value>) -> Self {
        Self(Cells::Sqlite { names, values })
    }

    pub(crate) fn postgres(row: AnyRow) -> Self {
        Self(Cells::Postgres(row))
    }

    /// A text column.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.maybe_text(column)?.ok_or(StoreError::Column(column))
    }

    /// An integer column.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        self.maybe_int(column)?.ok_or(StoreError::Column(column))
    }

    /// A column of bytes.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn blob(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.maybe_blob(column)?.ok_or(StoreError::Column(column))
    }

    /// A text column that may be `NULL`.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn maybe_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.maybe(column, |value| match value {
            rusqlite::types::Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// An integer column that may be `NULL`.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn maybe_int(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.maybe(column, |value| match value {
            rusqlite::types::Value::Integer(n) => Some(*n),
            _ => None,
        })
    }

    /// A column of bytes that may be `NULL`.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn maybe_blob(&self, column: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        self.maybe(column, |value| match value {
            rusqlite::types::Value::Blob(bytes) => Some(bytes.clone()),
            _ => None,
        })
    }

    /// All its values, in the order of the statement.
    pub(crate) fn cells(&self, kinds: &[Kind]) -> Result<Vec<Cell>, StoreError> {
        const FAULT: StoreError = StoreError::Column("of a table");
        match &self.0 {
            Cells::Sqlite { values, .. } => {
                let each = values
                    .iter()
                    .zip(kinds)
                    .map(|(value, kind)| match (value, kind) {
                        (rusqlite::types::Value::Null, _) => Ok(Cell::Null),
                        (rusqlite::types::Value::Integer(n), Kind::Int) => Ok(Cell::Int(*n)),
                        (rusqlite::types::Value::Text(text), Kind::Text) => {
                            Ok(Cell::Text(text.clone()))
                        }
                        (rusqlite::types::Value::Blob(bytes), Kind::Blob) => {
                            Ok(Cell::Blob(bytes.clone()))
                        }
                        _ => Err(FAULT),
                    });
                each.collect()
            }
            Cells::Postgres(row) => {
                let each = kinds.iter().enumerate().map(|(at, kind)| {
                    let value = row.try_get_raw(at).map_err(|_| FAULT)?;
                    if value.is_null() {
                        return Ok(Cell::Null);
                    }
                    match kind {
                        Kind::Int => <i64 as Decode<Any>>::decode(value).map(Cell::Int),
                        Kind::Text => <String as Decode<Any>>::decode(value).map(Cell::Text),
                        Kind::Blob => <Vec<u8> as Decode<Any>>::decode(value).map(Cell::Blob),
                    }
                    .map_err(|_| FAULT)
                });
                each.collect()
            }
        }
    }

    fn maybe<T: for<'r> Decode<'r, Any> + Type<Any>>(
        &self,
        column: &'static str,
        read: impl FnOnce(&rusqlite::types::Value) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let fault = || StoreError::Column(column);
        match &self.0 {
            Cells::Sqlite { names, values } => {
                let at = names.iter().position(|name| name == column);
                match at.and_then(|at| values.get(at)).ok_or_else(fault)? {
                    rusqlite::types::Value::Null => Ok(None),
                    value => read(value).map(Some).ok_or_else(fault),
                }
            }
            Cells::Postgres(row) => {
                let value = row.try_get_raw(column).map_err(|_| fault())?;
                if value.is_null() {
                    return Ok(None);
                }
                T::decode(value).map(Some).map_err(|_| fault())
            }
        }
    }
}
