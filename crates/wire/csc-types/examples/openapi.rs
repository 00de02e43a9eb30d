//! Writes the OpenAPI documents into `docs/api`.

use std::io;

fn main() -> io::Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/api");
    for (v1, name) in [(true, "openapi-v1.json"), (false, "openapi-v2.json")] {
        let text = serde_json::to_string_pretty(&csc_types::openapi::document(v1))?;
        std::fs::write(format!("{folder}/{name}"), text + "\n")?;
    }
    Ok(())
}
