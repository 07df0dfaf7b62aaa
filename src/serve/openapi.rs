//! The description of the addresses for programs, and the page for people.

use maud::{DOCTYPE, PreEscaped, html};
use serde_json::{Value, json};

use super::engine::{Answers, Port};
use super::routes::App;

/// `/openapi.json`.
pub(super) fn document(app: &App) -> Value {
    let names: Vec<&str> = app.models.iter().map(|model| model.name.as_str()).collect();
    let error = json!({
        "description": "a sentence that says what is wrong",
        "content": { "application/json": { "schema": { "type": "object", "properties": { "error": { "type": "string" } } } } }
    });
    let binary = json!({ "schema": { "type": "string", "format": "binary" } });
    let predict = json!({
        "summary": "Run a model on images or tensors",
        "parameters": [{
            "name": "top", "in": "query", "description": "labels of each item", "schema": { "type": "integer", "default": 5 }
        }],
        "requestBody": { "required": true, "content": {
            "image/png": binary, "image/jpeg": binary, "application/x-npy": binary, "application/x-safetensors": binary,
            "multipart/form-data": { "schema": { "type": "object", "additionalProperties": { "type": "string", "format": "binary" } } },
            "application/json": { "schema": { "type": "object", "required": ["inputs"], "properties": {
                "inputs": { "description": "nested lists for a single input, or an object of them by name" } } } }
        } },
        "responses": {
            "200": { "description": "labels and probabilities, or tensors; Accept chooses application/json, \
                                     application/x-npy, application/x-safetensors or image/png",
                     "content": { "application/json": { "schema": { "type": "object" } },
                                  "application/x-npy": binary, "application/x-safetensors": binary, "image/png": binary } },
            "400": error, "401": error, "403": error, "404": error, "408": error, "413": error, "415": error, "503": error
        }
    });
    let mut named = predict.clone();
    named["parameters"].as_array_mut().into_iter().for_each(|list| {
        list.push(
            json!({ "name": "name", "in": "path", "required": true, "schema": { "type": "string", "enum": names } }),
        );
    });
    let plain =
        |summary: &str| json!({ "get": { "summary": summary, "responses": { "200": { "description": "ok" } } } });
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": "rekindle", "version": env!("CARGO_PKG_VERSION") },
        "paths": {
            "/predict": { "post": predict },
            "/models/{name}/predict": { "post": named },
            "/models": plain("The models with their inputs, outputs and classes"),
            "/healthz": plain("Whether the server lives"),
            "/readyz": plain("Whether the models are loaded"),
            "/metrics": plain("Counters in Prometheus's text format"),
            "/v2": plain("KServe's inference protocol, version 2"),
            "/v2/models/{name}": plain("A model as that protocol describes it"),
            "/v2/models/{name}/infer": { "post": {
                "summary": "Inference by that protocol, with its extension for binary tensors",
                "responses": { "200": { "description": "outputs" }, "400": error }
            } }
        }
    });
    if app.token.is_some() {
        document["components"] = json!({ "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } });
        document["security"] = json!([{ "token": [] }]);
    }
    document
}

/// The page to try a model by hand.
pub(super) fn page(app: &App) -> String {
    let models: Vec<_> = app.models.iter().map(|model| (model.name.clone(), model.description())).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { "rekindle serve" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                main {
                    h1 { "rekindle serve" }
                    p.soft {
                        "Choose an image, or drop one. Programs: " code { "POST /predict" } ", "
                        a href="openapi.json" { "openapi.json" } ", " a href="metrics" { "metrics" } "."
                    }
                    @for (name, description) in &models {
                        section data-model=(name) {
                            h2 { (name) }
                            p.soft { (description.version) }
                            dl {
                                @for port in &description.inputs {
                                    div { dt { "input " (port.name) } dd { code { (port.show()) } } }
                                }
                                @for port in &description.outputs {
                                    div { dt { "output " (port.name) } dd { code { (port.show()) } } }
                                }
                            }
                            @if description.image.is_some() {
                                label.drop {
                                    input type="file" accept="image/*";
                                    span { "Choose or drop an image" }
                                    img alt="" hidden;
                                }
                            }
                            form.tensors {
                                label { "JSON" textarea rows="3" spellcheck="false" { (example(&description.inputs)) } }
                                button { "Run" }
                            }
                            output aria-live="polite" data-images[matches!(description.answers, Answers::Images | Answers::Masks)] {}
                        }
                    }
                }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    };
    page.into_string()
}

/// The beginning of a request.
fn example(inputs: &[Port]) -> String {
    match inputs {
        [_] => "{\"inputs\": [[…]]}".to_string(),
        _ => {
            let names: Vec<String> = inputs.iter().map(|port| format!("{:?}: […]", port.name)).collect();
            format!("{{\"inputs\": {{{}}}}}", names.join(", "))
        }
    }
}
