//! The API as OpenAPI 3.1 documents, one for each version: for tools that read such, and compared with what the service names.

mod methods;

use serde_json::{Map, Value, json};

use methods::methods;

/// How a method is authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Auth {
    Nobody,
    Basic,
    Token,
}

/// A member of an object.
struct Member(&'static str, Kind, bool);

enum Kind {
    Text,
    Date,
    /// Base64 of anything.
    Bytes,
    Number,
    Flag,
    Word(&'static [&'static str]),
    Texts,
    AllBytes,
    Words(&'static [&'static str]),
    Free,
    Objects(Vec<Member>),
    Object(Vec<Member>),
}

struct Method {
    name: &'static str,
    summary: &'static str,
    /// Of version 2.2; empty if it has none.
    clause: &'static str,
    auth: Auth,
    request: Vec<Member>,
    /// Statuses of good answers with what is in them.
    answers: Vec<(u16, Vec<Member>)>,
    /// What is in them stands elsewhere.
    free: bool,
}

const fn must(name: &'static str, kind: Kind) -> Member {
    Member(name, kind, true)
}

const fn may(name: &'static str, kind: Kind) -> Member {
    Member(name, kind, false)
}

/// The document of version 1 or 2.
pub fn document(v1: bool) -> Value {
    let mut paths = Map::new();
    for method in methods(v1) {
        let mut path = json!({ "post": operation(&method) });
        if method.name == "info" && !v1 {
            // Some drafts have it so.
            let mut get = operation(&method);
            get["operationId"] = json!("info-get");
            if let Some(members) = get.as_object_mut() {
                members.remove("requestBody");
            }
            path["get"] = get;
        }
        paths.insert(format!("/{}", method.name), path);
    }
    let (title, version, base) = match v1 {
        true => ("CSC API 1.0.4 as served by Natsuin", "1.0.4", "/csc/v1"),
        false => ("CSC API 2.2 as served by Natsuin", "2.2.0", "/csc/v2"),
    };
    json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": version,
            "description": "Names, types and statuses. Meaning, order of checks and wording are the specification's." },
        "servers": [{ "url": base }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "login": { "type": "http", "scheme": "basic" },
            },
            "schemas": { "Error": {
                "type": "object",
                "required": ["error"],
                "properties": { "error": { "type": "string" }, "error_description": { "type": "string" } },
            } },
            "responses": { "Refused": {
                "description": "Refused; nothing was done",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            } },
        },
    })
}

fn operation(method: &Method) -> Value {
    let mut responses = Map::new();
    for (status, members) in &method.answers {
        let mut answer = json!({ "description": "Done" });
        if method.free {
            answer["content"] = json!({ "application/json": { "schema": schema(&Kind::Free) } });
        } else if !members.is_empty() {
            answer["content"] = json!({ "application/json": { "schema": object(members) } });
        }
        responses.insert(status.to_string(), answer);
    }
    // Not 500: that is a fault of ours, which whoever tests by these documents shall find.
    let refused = match method.auth {
        Auth::Nobody => &[400, 405, 413, 429, 503][..],
        Auth::Basic => &[400, 401, 405, 413, 429, 501, 503],
        Auth::Token => &[400, 401, 403, 405, 413, 429, 501, 503],
    };
    for status in refused {
        let refused = json!({ "$ref": "#/components/responses/Refused" });
        responses.insert(status.to_string(), refused);
    }
    let mut operation = json!({
        "operationId": method.name.replace('/', "-"),
        "summary": method.summary,
        "description": match method.clause {
            "" => "Natsuin's own: the specification has no such method.".to_owned(),
            clause => format!("Clause {clause} of CSC API 2.2."),
        },
        "requestBody": { "required": false,
            "content": { "application/json": { "schema": object(&method.request) } } },
        "responses": responses,
    });
    match method.auth {
        Auth::Nobody => {}
        Auth::Basic => operation["security"] = json!([{ "login": [] }, {}]),
        Auth::Token => operation["security"] = json!([{ "token": [] }]),
    }
    operation
}

fn object(members: &[Member]) -> Value {
    let properties: Map<String, Value> = members
        .iter()
        .map(|Member(name, kind, _)| ((*name).to_owned(), schema(kind)))
        .collect();
    let required: Vec<&str> = members
        .iter()
        .filter(|Member(_, _, required)| *required)
        .map(|Member(name, _, _)| *name)
        .collect();
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn schema(kind: &Kind) -> Value {
    let text = json!({ "type": "string" });
    let bytes = json!({ "type": "string", "contentEncoding": "base64" });
    match kind {
        Kind::Text => text,
        Kind::Date => json!({ "type": "string", "pattern": "^[0-9]{14}Z$" }),
        Kind::Bytes => bytes,
        Kind::Number => json!({ "type": "integer", "minimum": 0 }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Texts => json!({ "type": "array", "items": text }),
        Kind::AllBytes => json!({ "type": "array", "items": bytes }),
        Kind::Words(words) => {
            json!({ "type": "array", "items": { "type": "string", "enum": words } })
        }
        Kind::Free => json!({}),
        Kind::Objects(members) => json!({ "type": "array", "items": object(members) }),
        Kind::Object(members) => object(members),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_documents_are_what_is_generated() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/api");
        for (v1, name) in [(true, "openapi-v1.json"), (false, "openapi-v2.json")] {
            let text = std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
            let committed: Value = serde_json::from_str(&text).unwrap_or_default();
            assert!(
                committed == document(v1),
                "{name} is old: cargo run -p csc-types --example openapi"
            );
        }
    }
}
