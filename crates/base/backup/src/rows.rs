//! Rows as lines of JSON, the same whichever database they come from.

use core_types::bytes::{b64u, from_b64u};
use serde_json::{Value, json};
use store_kit::{Cell, Table};

use crate::BackupError;

/// The first line of each file: which table, and its columns in the order of the values that follow.
pub(crate) fn head(table: &Table) -> String {
    let columns: Vec<_> = table.columns.iter().map(|(name, _)| name).collect();
    json!({"table": table.name, "columns": columns}).to_string()
}

/// A row: numbers, texts, `null`, and bytes as an object with base64url.
pub(crate) fn line(row: &[Cell]) -> String {
    let value = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Int(n) => json!(n),
        Cell::Text(text) => json!(text),
        Cell::Blob(bytes) => json!({"b64u": b64u(bytes)}),
    };
    Value::Array(row.iter().map(value).collect()).to_string()
}

/// Rows of a table.
pub(crate) struct Part {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// Reads a file of rows.
pub(crate) fn parse(text: &[u8]) -> Result<Part, BackupError> {
    let bad = || BackupError::Damaged("a file of rows has another form".to_owned());
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    let mut lines = text.lines();
    let head: Value = serde_json::from_str(lines.next().ok_or_else(bad)?).map_err(|_| bad())?;
    let table = head["table"].as_str().ok_or_else(bad)?.to_owned();
    let columns = head["columns"].as_array().ok_or_else(bad)?.iter();
    let columns: Option<Vec<String>> = columns.map(|c| c.as_str().map(str::to_owned)).collect();
    let cell = |value: Value| match value {
        Value::Null => Some(Cell::Null),
        Value::Number(n) => n.as_i64().map(Cell::Int),
        Value::String(text) => Some(Cell::Text(text)),
        Value::Object(object) => match object.get("b64u") {
            Some(Value::String(text)) => from_b64u(text).ok().map(Cell::Blob),
            _ => None,
        },
        _ => None,
    };
    let mut rows = Vec::new();
    for line in lines {
        let Ok(Value::Array(values)) = serde_json::from_str(line) else {
            return Err(bad());
        };
        let row: Option<Vec<Cell>> = values.into_iter().map(cell).collect();
        rows.push(row.ok_or_else(bad)?);
    }
    let columns = columns.ok_or_else(bad)?;
    Ok(Part {
        table,
        columns,
        rows,
    })
}
