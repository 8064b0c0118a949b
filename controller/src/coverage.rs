//! Every answer that the API's document names is given, and looks as the document says: one request for each operation
//! and status, against the whole controller without its sockets. `controller/api/COVERAGE.md` is made from it.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use http::StatusCode;
use krater_controller_api::{
    Healthcheck,
    openapi::{self, Answers, Operation, Sends},
};
use krater_controller_core::carried::{Carried, Feature};
use serde_json::Value;

mod generic;
mod special;
mod world;

use world::{Reply, World};

#[tokio::test]
async fn every_answer_of_every_operation_is_given() {
    let document = openapi::document();
    let mut missing = Vec::new();
    let mut shared = World::furnish(Carried::everything(), Healthcheck::Disabled).await;
    for operation in openapi::all() {
        for status in statuses(operation) {
            let checked = if changes_nothing(operation, status) {
                check(&document, operation, status, &mut shared).await
            } else {
                check_alone(&document, operation, status).await
            };
            if let Err(problem) = checked {
                missing.push(format!("{} {status}: {problem}", operation.id));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// A field is unknown exactly where the document does not have it.
#[tokio::test]
async fn bodies_have_the_fields_of_the_document_and_no_others() {
    let mut world = World::furnish(Carried::everything(), Healthcheck::Disabled).await;
    special::furnish_bare_pool(&mut world, "TCP").await;
    let mut problems = Vec::new();
    for operation in openapi::all() {
        let (resource, is_creation) = match operation.sends {
            Sends::New(resource) => (resource, true),
            Sends::Changes(resource) => (resource, false),
            Sends::Nothing | Sends::Members => continue,
        };
        let names: BTreeSet<&str> = resource.fields.iter().map(|field| field.name).collect();
        for name in names {
            let taken = resource
                .fields
                .iter()
                .filter(|field| field.name == name)
                .any(|field| {
                    if is_creation {
                        field.is_created()
                    } else {
                        field.is_changed()
                    }
                });
            let mut body = world::body_for(&world, operation).unwrap();
            // No field takes this, so nothing is changed by asking.
            body[resource.root][name] = serde_json::json!([{"nothing": {}}]);
            let reply = world.send(operation, &world::Sent::with(Some(body))).await;
            let is_unknown = reply.text.contains("Unknown attribute")
                && reply.text.contains(&format!(".{}: {name}", resource.root))
                || reply
                    .text
                    .contains("only be given when a whole load balancer is created");
            if is_unknown == taken || reply.status != StatusCode::BAD_REQUEST {
                problems.push(format!(
                    "{} {name}: {} {}",
                    operation.id, reply.status, reply.text
                ));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_committed_table_is_the_one_that_is_made() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("api/COVERAGE.md");
    let table = table();
    if std::env::var_os("KRATER_WRITE_COVERAGE").is_some() {
        fs::write(&path, &table).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|committed| committed == table),
        "set KRATER_WRITE_COVERAGE=1 and run this test once more"
    );
}

fn statuses(operation: &Operation) -> impl Iterator<Item = u16> {
    std::iter::once(operation.success).chain(operation.faults.iter().copied())
}

/// Whether the request is refused before it can change anything, so that one world serves for all of its kind.
fn changes_nothing(operation: &Operation, status: u16) -> bool {
    let stops_the_store = operation.id == "healthcheck" && status == 503;
    let renames_the_project = operation.id.contains("_quota") && status == 404;
    status != operation.success
        && !matches!(status, 409 | 410 | 422 | 501)
        && !stops_the_store
        && !renames_the_project
}

/// Has the answer given in a world of its own, so that none depends on another.
async fn check_alone(document: &Value, operation: &Operation, status: u16) -> Result<(), String> {
    // What the data plane lacks is refused last; everything before it is met where it lacks nothing.
    let carried = match (status, operation.id) {
        // The pools of the monitors that are lacking must be there.
        (501, "create_healthmonitor") => Carried::without([Feature::SctpMonitors]),
        (501, _) => Carried::release(),
        _ => Carried::everything(),
    };
    let healthcheck = if operation.id == "healthcheck" {
        Healthcheck::Enabled
    } else {
        Healthcheck::Disabled
    };
    let mut world = World::furnish(carried, healthcheck).await;
    check(document, operation, status, &mut world).await
}

async fn check(
    document: &Value,
    operation: &Operation,
    status: u16,
    world: &mut World,
) -> Result<(), String> {
    let sent = match special::request(world, operation, status).await {
        Some(sent) => sent,
        None => generic::request(world, operation, status)
            .await
            .ok_or("no request is known that leads to it")?,
    };
    let reply = world.send(operation, &sent).await;
    if reply.status != StatusCode::from_u16(status).unwrap() {
        return Err(format!("got {}: {}", reply.status, reply.text));
    }
    looks_as_described(document, operation, status, &reply)
}

fn looks_as_described(
    document: &Value,
    operation: &Operation,
    status: u16,
    reply: &Reply,
) -> Result<(), String> {
    let responses =
        &document["paths"][operation.path][operation.method.to_ascii_lowercase()]["responses"];
    let mut described = &responses[status.to_string()];
    if let Some(reference) = described["$ref"].as_str() {
        described = document.pointer(&reference[1..]).unwrap();
    }
    let schema = &described["content"]["application/json"]["schema"];
    if schema.is_null() {
        let bare = described["content"].is_null();
        return if bare && !reply.text.is_empty() {
            Err(format!("a body where there is none: {}", reply.text))
        } else {
            Ok(())
        };
    }
    let body: Value = serde_json::from_str(&reply.text).map_err(|error| error.to_string())?;
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    let validator = jsonschema::draft202012::new(&whole).map_err(|error| error.to_string())?;
    let errors: Vec<String> = validator
        .iter_errors(&body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if !errors.is_empty() {
        return Err(format!("{} in {body}", errors.join("; ")));
    }
    match operation.answers {
        Answers::One(resource) if status == operation.success => {
            shows_all(resource, &body[resource.root])
        }
        Answers::Many(resource) if status == operation.success => {
            let shown = body[resource.root_list].as_array().unwrap();
            let first = shown.first().ok_or("the list is empty")?;
            shows_all(resource, first)
        }
        _ => Ok(()),
    }
}

/// Whether the object has the keys that the table names, and no others.
fn shows_all(resource: &openapi::Resource, object: &Value) -> Result<(), String> {
    let object = object.as_object().ok_or("no object")?;
    for field in resource.fields.iter().filter(|field| field.is_shown()) {
        let may_be_missing = field.mode == openapi::Mode::SometimesShown;
        if !object.contains_key(field.name) && !may_be_missing {
            return Err(format!("{} is not shown", field.name));
        }
    }
    let known = |key: &str| {
        resource
            .fields
            .iter()
            .any(|field| field.name == key && field.is_shown())
    };
    match object.keys().find(|key| !known(key)) {
        Some(key) => Err(format!("{key} is shown and not described")),
        None => Ok(()),
    }
}

/// Which answers there are; the test above fails when one of them is not given.
fn table() -> String {
    let columns = [
        400, 401, 403, 404, 406, 409, 410, 412, 413, 415, 422, 501, 503_u16,
    ];
    let mut text = String::from(
        "# Coverage of the API\n\nEvery mark is an answer that a test asks for and compares with the document of \
         the API (`openapi.json`):\n`controller/src/coverage.rs` has a request for each, and fails when one is \
         missing. Made by the same test.\n\n| operation | success |",
    );
    for column in columns {
        write!(text, " {column} |").unwrap();
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    let mut answers = 0;
    for operation in openapi::all() {
        write!(
            text,
            "| {} `{}` | {} |",
            operation.method, operation.path, operation.success
        )
        .unwrap();
        answers += 1;
        for column in columns {
            let given = operation.faults.contains(&column);
            answers += usize::from(given);
            text.push_str(if given { " ✓ |" } else { " |" });
        }
        text.push('\n');
    }
    let operations = openapi::all().count();
    writeln!(text, "\n{operations} operations, {answers} answers.").unwrap();
    text
}
