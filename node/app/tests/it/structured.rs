//! Answers of a given form, and calls of tools, through the API: framed by a server that says what it
//! is told, and drawn by a real model.

use std::sync::Arc;

use openledger_wire::call::{CallConstraint, Prompt, ToolChoice, ToolPart};
use serde_json::{Value, json};

use crate::api::{Served, error, served};
use crate::fake_serve::{FakeServe, base};
use crate::serving::desk;

fn weather() -> Value {
    json!([
        {"type": "function", "function": {
            "name": "get_weather", "description": "Tells the weather of a city.",
            "parameters": {
                "type": "object", "required": ["city", "days"], "additionalProperties": false,
                "properties": {
                    "city": {"type": "string", "maxLength": 12},
                    "days": {"type": "integer", "minimum": 1, "maximum": 7},
                },
            },
        }},
        {"type": "function", "function": {"name": "get_time"}},
    ])
}

fn says(text: &str, more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": format!("say {}", json!(text))}],
        "tools": weather(), "max_tokens": 400,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn json_of(response: reqwest::Response) -> Value {
    let status = response.status();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert!(status.is_success(), "{body}");
    body
}

/// The chunks of a stream.
async fn chunks_of(response: reqwest::Response) -> Vec<Value> {
    let text = response.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    events
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

/// Text, calls (name, id, arguments) and the reason, put together from chunks as clients do.
fn together(chunks: &[Value]) -> (String, Vec<(String, String, String)>, String) {
    let (mut text, mut calls, mut reason) = (String::new(), Vec::new(), String::new());
    for chunk in chunks {
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        text += delta["content"].as_str().unwrap_or_default();
        for call in delta["tool_calls"].as_array().unwrap_or(&Vec::new()) {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            let function = &call["function"];
            if let Some(name) = function["name"].as_str() {
                assert_eq!((calls.len(), &call["type"]), (index, &json!("function")));
                calls.push((
                    name.to_owned(),
                    call["id"].as_str().unwrap().to_owned(),
                    String::new(),
                ));
            }
            calls[index].2 += function["arguments"].as_str().unwrap_or_default();
        }
        if let Some(why) = choice["finish_reason"].as_str() {
            why.clone_into(&mut reason);
        }
    }
    (text, calls, reason)
}

const TWO_CALLS: &str = "Let me see.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Z\u{fc}rich\", \"days\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>";

#[tokio::test]
async fn calls_are_found_in_what_is_said_whole_and_streamed() {
    let served = served(FakeServe::new(&[base("base")], None)).await;
    let answer = json_of(served.chat(says(TWO_CALLS, json!({}))).await).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let message = &choice["message"];
    assert_eq!(message["content"], "Let me see.\n");
    let calls = message["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(
        (&calls[0]["type"], &calls[0]["function"]["name"]),
        (&json!("function"), &json!("get_weather"))
    );
    let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert_eq!(arguments, json!({"city": "Z\u{fc}rich", "days": 2}));
    assert_ne!(calls[0]["id"], calls[1]["id"]);

    let chunks = chunks_of(served.chat(says(TWO_CALLS, json!({"stream": true}))).await).await;
    let (text, calls, reason) = together(&chunks);
    assert_eq!((text.as_str(), reason.as_str()), ("Let me see.\n", "tool_calls"));
    assert_eq!(calls[0].2, "{\"city\": \"Z\u{fc}rich\", \"days\": 2}");
    assert_eq!((calls[1].0.as_str(), calls[1].2.as_str()), ("get_time", "{}"));
    assert!(chunks.len() > 15, "arguments come while they are said");

    // Llama's form; text that only looks like a call; no tools, no calls.
    let llama = "{\"name\": \"get_time\", \"parameters\": {}}";
    let answer = json_of(served.chat(says(llama, json!({}))).await).await;
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "get_time");
    assert_eq!(answer["choices"][0]["message"]["content"], Value::Null);
    let other = "{\"name\": \"launch\", \"parameters\": {}}";
    for (text, more) in [(other, json!({})), (TWO_CALLS, json!({"tool_choice": "none"}))] {
        let answer = json_of(served.chat(says(text, more)).await).await;
        let choice = &answer["choices"][0];
        assert_eq!(
            (&choice["message"]["content"], &choice["finish_reason"]),
            (&json!(text), &json!("stop"))
        );
        assert!(choice["message"].get("tool_calls").is_none());
    }
    // Probabilities of all tokens, also of those that show nothing yet.
    let asked = says(llama, json!({"stream": true, "logprobs": true}));
    let chunks = chunks_of(served.chat(asked).await).await;
    let known = chunks.iter().filter(|chunk| !chunk["choices"][0]["logprobs"].is_null()).count();
    assert_eq!(known, llama.len().div_ceil(3));
}

#[tokio::test]
async fn forms_and_tools_reach_the_server() {
    let fake = FakeServe::new(&[base("base")], None);
    let served = served(Arc::clone(&fake) as _).await;
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "strict": true, "schema": {"type": "object"},
    }}});
    let asked = json!({"tools": weather(), "parallel_tool_calls": false, "messages": [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]});
    let forced = json!({"tools": weather(), "tool_choice": "required"});
    let named = json!({"tools": weather(), "tool_choice": {"type": "function", "function": {"name": "get_time"}}});
    for more in [format, asked, forced, named] {
        json_of(served.chat(more).await).await;
    }
    let body = json!({"model": "base", "prompt": "x", "max_tokens": 2, "structured_outputs": {"choice": ["a", "b"]}});
    json_of(served.post("completions", &body).await).await;
    let calls = fake.calls.lock().unwrap();
    assert!(
        matches!(calls[0].constraint.as_deref(), Some(CallConstraint::JsonSchema(schema)) if &**schema == "{\"type\":\"object\"}")
    );
    let tools = calls[1].tools.as_ref().unwrap();
    assert_eq!((tools.tools.len(), &tools.choice, tools.parallel), (2, &ToolChoice::Auto, false));
    let Prompt::Chat(messages) = &calls[1].prompt else { panic!() };
    assert!(matches!(&messages[1].tool, Some(ToolPart::Calls(calls)) if &*calls[0].id == "c1"));
    assert!(matches!(&messages[2].tool, Some(ToolPart::Result { call, .. }) if &**call == "c1"));
    assert_eq!(calls[2].tools.as_ref().unwrap().choice, ToolChoice::Required);
    assert!(
        matches!(&calls[3].tools.as_ref().unwrap().choice, ToolChoice::Named(name) if &**name == "get_time")
    );
    assert!(
        matches!(calls[4].constraint.as_deref(), Some(CallConstraint::Choice(texts)) if texts.len() == 2)
    );
}

#[tokio::test]
async fn refusals_name_the_field_that_is_to_blame() {
    let served = served(FakeServe::new(&[base("base")], None)).await;
    let failing = |more: Value| {
        let mut body =
            json!({"messages": [{"role": "user", "content": "fail invalid-constraint"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        served.chat(body)
    };
    for (more, code, param) in [
        (json!({"guided_regex": "(?=a)"}), "invalid_constraint", "guided_regex"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "invalid_constraint",
            "response_format",
        ),
        (json!({"tools": weather(), "tool_choice": "required"}), "invalid_constraint", "tools"),
        (
            json!({"tools": weather(), "tool_choice": "required", "response_format": {"type": "json_object"}}),
            "invalid_value",
            "response_format",
        ),
        (json!({"functions": [{}]}), "unsupported_parameter", "functions"),
    ] {
        let (status, failed) = error(failing(more.clone()).await).await;
        assert_eq!(
            (status, &failed["code"], &failed["param"]),
            (400, &json!(code), &json!(param)),
            "{more}"
        );
    }
}

/// The API over a real model in a real worker.
async fn real() -> (Served, String, tempfile::TempDir) {
    let desk = desk(0);
    let name = desk.base.blob.to_string();
    (served(Arc::new(desk.serve)).await, name, desk.folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_model_keeps_to_schemas_and_calls_tools() {
    let (served, model, _folder) = real().await;
    let ask = |more: Value| {
        let mut body = json!({
            "model": model, "max_tokens": 160, "temperature": 1.4,
            "messages": [{"role": "user", "content": "What is the weather in Rome for three days?"}],
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let served = &served;
        async move { served.post("chat/completions", &body).await }
    };
    let schema = json!({
        "type": "object", "required": ["place", "mood"], "additionalProperties": false,
        "properties": {"place": {"type": "string", "maxLength": 10}, "mood": {"enum": ["good", "bad"]}},
    });
    for seed in 1..=3 {
        let format = json!({"seed": seed, "response_format": {
            "type": "json_schema", "json_schema": {"name": "x", "schema": schema},
        }});
        let answer = json_of(ask(format).await).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "stop", "{answer}");
        let said: Value =
            serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
        assert!(said["place"].as_str().unwrap().chars().count() <= 10, "{said}");
        assert!(["good", "bad"].contains(&said["mood"].as_str().unwrap()), "{said}");
    }
    // A call is forced, whole and streamed: the same one by the same seed.
    let forced = json!({"seed": 5, "tools": weather(), "parallel_tool_calls": false,
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}}});
    let answer = json_of(ask(forced.clone()).await).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let call = &choice["message"]["tool_calls"][0]["function"];
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(call["name"], "get_weather");
    assert!(
        arguments["city"].is_string() && (1..=7).contains(&arguments["days"].as_u64().unwrap())
    );
    let mut streamed = forced;
    streamed["stream"] = json!(true);
    let (text, calls, reason) = together(&chunks_of(ask(streamed).await).await);
    assert_eq!((text.as_str(), reason.as_str(), calls.len()), ("", "tool_calls", 1));
    assert_eq!(calls[0].2, call["arguments"].as_str().unwrap());
    // The result is told, and the model goes on.
    let told = json!({"tools": weather(), "max_tokens": 12, "messages": [
        {"role": "user", "content": "What is the weather in Rome?"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": calls[0].1, "type": "function", "function": {"name": "get_weather", "arguments": calls[0].2}},
        ]},
        {"role": "tool", "tool_call_id": calls[0].1, "content": "sunny"},
    ]});
    let answer = json_of(ask(told).await).await;
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 60, "{answer}");
    // What is not supported is refused before anything is drawn, and names its field.
    for (more, param) in [
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}}),
            "response_format",
        ),
        (json!({"structured_outputs": {"regex": "(?=a)b"}, "stream": true}), "structured_outputs"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]}),
            "tools",
        ),
    ] {
        let (status, failed) = error(ask(more).await).await;
        assert_eq!(
            (status, &failed["code"], &failed["param"]),
            (400, &json!("invalid_constraint"), &json!(param)),
            "{failed}"
        );
    }
    let body = json!({"model": model, "prompt": "Yes or no?", "guided_choice": ["yes", "no"]});
    let answer = json_of(served.post("completions", &body).await).await;
    let said = answer["choices"][0]["text"].as_str().unwrap();
    assert!(["yes", "no"].contains(&said), "{answer}");
}
