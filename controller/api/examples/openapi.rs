//! Prints the OpenAPI document: `cargo run -p krater-controller-api --example openapi > controller/api/openapi.json`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let document = krater_controller_api::openapi::document();
    writeln!(io::stdout(), "{document:#}")
}
