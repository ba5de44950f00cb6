//! The admin API described for machines: an `OpenAPI` 3.1 document, made from the types that the daemon writes and reads.
//! What a call means stands in `api`; this file must name each of them, and a test holds it to that.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::wire::{
    Apply, BulkAdded, Counters, Done, EditList, ExplainedRequest, Fault, History, ListEdited, Lists, LogFilter,
    NewLogFilter, NewVerdict, NewVerdicts, PoliciesApplied, Question, Reloaded, RevisionTexts, Rollback, Rules, Status,
    Verdicts, Workers,
};

/// Where the daemon serves it.
pub const PATH: &str = "/v1/openapi.json";

/// Makes the schema of a type.
type Shape = fn(&mut SchemaGenerator) -> Schema;

/// One call.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// Parameters of the query: name and what it is.
    query: &'static [(&'static str, &'static str)],
    body: Option<Shape>,
    /// Type of the answer and its schema.
    answer: (&'static str, Shape),
}

const JSON: &str = "application/json";

const fn get(path: &'static str, summary: &'static str, answer: Shape) -> Operation {
    Operation { method: "get", path, summary, query: &[], body: None, answer: (JSON, answer) }
}

const fn post(path: &'static str, summary: &'static str, body: Option<Shape>, answer: Shape) -> Operation {
    Operation { method: "post", path, summary, query: &[], body, answer: (JSON, answer) }
}

/// All calls, by path.
const OPERATIONS: &[Operation] = &[
    get("/v1/status", "What the daemon does", of::<Status>),
    Operation {
        query: &[("limit", "Most verdicts to list")],
        ..get("/v1/verdicts", "Sources that are dropped at the gate", of::<Verdicts>)
    },
    post("/v1/verdicts", "Drop a source for a time", Some(of::<NewVerdict>), of::<Done>),
    post("/v1/verdicts/load", "Drop many sources", Some(of::<NewVerdicts>), of::<BulkAdded>),
    Operation { method: "delete", ..get("/v1/verdicts/{source}", "Let a source in again", of::<Done>) },
    get("/v1/counters", "Packets by reason and by rule", of::<Counters>),
    Operation {
        query: &[
            ("reason", "Only these reasons, with commas between"),
            ("rule", "Only this rule, as policy/rule"),
            ("source", "Only sources in this network"),
            ("sample", "One packet in how many"),
            ("packets", "The packets' first bytes, too"),
        ],
        answer: ("application/x-ndjson", of::<Value>),
        ..get("/v1/events", "Packets that the gate dropped, a JSON object a line, without end", of::<Value>)
    },
    post("/v1/explain", "What the gate would do with a packet, step by step", Some(of::<Question>), of::<Value>),
    post("/v1/reload", "Read config and policies again", None, of::<Reloaded>),
    get("/v1/rules", "What rules that are not wholly enforced did and would have done", of::<Rules>),
    get("/v1/requests/{id}", "Why a request was judged as it was", of::<ExplainedRequest>),
    get("/v1/lists", "The lists of the policies in force", of::<Lists>),
    get("/v1/lists/{list}", "One list with its edits", of::<Lists>),
    post("/v1/lists/{list}", "Edit a list", Some(of::<EditList>), of::<ListEdited>),
    post("/v1/policies/apply", "Load policies, all or nothing", Some(of::<Apply>), of::<PoliciesApplied>),
    post("/v1/policies/rollback", "Load a kept revision", Some(of::<Rollback>), of::<PoliciesApplied>),
    get("/v1/policies/revisions", "Which revisions are kept", of::<History>),
    get("/v1/policies/revisions/{number}", "Texts of a revision, or of `current`", of::<RevisionTexts>),
    get("/v1/log", "What the daemon logs", of::<LogFilter>),
    post("/v1/log", "Log by another filter", Some(of::<NewLogFilter>), of::<LogFilter>),
    get("/v1/workers", "What each worker does", of::<Workers>),
    post("/v1/workers/{number}/stop", "Take a worker out", None, of::<Done>),
    post("/v1/workers/{number}/start", "Bring a worker back", None, of::<Done>),
    get(PATH, "This document", of::<Value>),
];

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let described = describe(operation, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(operation.method.to_owned(), described);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Served over HTTP/1.1 on the Unix socket that the config names in `admin.socket`. Fields are only ever added.",
        },
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let (kind, answer) = operation.answer;
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .chain(operation.query.iter().map(
            |(name, what)| json!({ "name": name, "in": "query", "description": what, "schema": { "type": "string" } }),
        ));
    let mut described = json!({
        "summary": operation.summary,
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": {
            "200": { "description": "Done", "content": { kind: { "schema": answer(generator) } } },
            "default": {
                "description": "Why it was not done, and what to do next",
                "content": { JSON: { "schema": generator.subschema_for::<Fault>() } },
            },
        },
    });
    if let (Some(body), Some(fields)) = (operation.body, described.as_object_mut()) {
        fields.insert("requestBody".to_owned(), json!({ "content": { JSON: { "schema": body(generator) } } }));
    }
    described
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::super::api::Call;
    use super::*;

    #[test]
    fn each_operation_is_a_call_and_each_reference_leads_somewhere() {
        for operation in OPERATIONS {
            let method = Method::from_bytes(operation.method.to_uppercase().as_bytes()).unwrap();
            let path = operation
                .path
                .replace("{source}", "192.0.2.1")
                .replace("{list}", "edge%2Fbad")
                .replace("{id}", "0a")
                .replace("{number}", "1");
            let refused = Call::parse(&method, &path, None, b"{}").err().map(|refusal| refusal.status);
            let known = refused.is_none_or(|status| status == StatusCode::BAD_REQUEST);
            assert!(known, "{method} {path}: {refused:?}");
        }
        let document = document();
        let text = document.to_string();
        let mut references = 0;
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            references += 1;
        }
        assert!(references > OPERATIONS.len(), "{references}");
    }
}
