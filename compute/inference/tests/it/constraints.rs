//! Answers that must look like something: on a real model, hot, and checked afterwards.

use openledger_inference::{
    BackendKind, CallForm, CallRule, Constraint, ConstraintError, Constraints, Engine,
    EngineOptions, FinishReason, Request, Sampling, SubmitError, Tolerance, Tool, ToolCalls,
};
use openledger_models::{Message, SpecialTokens};
use serde_json::{Value, json};

use crate::support::{Answer, alone, real_model, together};

fn engine() -> Engine {
    let options = EngineOptions { backend: BackendKind::Int12, ..EngineOptions::default() };
    Engine::new(real_model(), options).unwrap()
}

fn request(question: &str, constraint: Constraint, sampling: Sampling) -> Request {
    let model = real_model();
    let text = model.chat_template().render(&[Message::new("user", question)], true).unwrap();
    let prompt = model.tokenizer().encode(&text, SpecialTokens::Parse);
    Request { sampling, constraint: Some(constraint), ..Request::greedy(prompt, 160) }
}

fn hot(seed: u8) -> Sampling {
    Sampling::seeded(1.5, [seed; 32])
}

fn schema(value: &Value) -> Constraint {
    Constraint::JsonSchema(value.to_string())
}

/// A person: nested objects, enums, numbers, arrays, strings with escapes and other alphabets.
fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 20 },
            "kind": { "enum": ["w\u{e4}hler", "\u{7f8e}", "a \"b\" \\ c", "line\nbreak"] },
            "age": { "type": "integer", "minimum": 0, "maximum": 120 },
            "height": { "type": "number", "minimum": 0.5, "maximum": 2.5 },
            "tags": {
                "type": "array", "minItems": 1, "maxItems": 3,
                "items": { "type": "string", "pattern": "^[a-z]{1,8}$" },
            },
            "home": {
                "type": "object",
                "properties": { "city": { "type": "string", "maxLength": 12 }, "zip": { "type": ["integer", "null"], "maximum": 99999, "minimum": 0 } },
                "required": ["city", "zip"], "additionalProperties": false,
            },
            "alive": { "type": "boolean" },
        },
        "required": ["name", "kind", "age", "height", "tags", "home", "alive"],
        "additionalProperties": false,
    })
}

fn check_person(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let fields = value.as_object().unwrap();
    assert_eq!(fields.len(), 7, "{text}");
    assert!(fields["name"].as_str().unwrap().chars().count() <= 20, "{text}");
    let kind = fields["kind"].as_str().unwrap();
    assert!(["w\u{e4}hler", "\u{7f8e}", "a \"b\" \\ c", "line\nbreak"].contains(&kind), "{text}");
    assert!(fields["age"].as_u64().unwrap() <= 120, "{text}");
    assert!((0.5..=2.5).contains(&fields["height"].as_f64().unwrap()), "{text}");
    let tags = fields["tags"].as_array().unwrap();
    assert!((1..=3).contains(&tags.len()), "{text}");
    for tag in tags {
        let tag = tag.as_str().unwrap();
        assert!((1..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_lowercase()));
    }
    let home = fields["home"].as_object().unwrap();
    assert!(home.len() == 2 && home["city"].is_string(), "{text}");
    assert!(home["zip"].is_null() || home["zip"].as_u64().unwrap() <= 99_999, "{text}");
    assert!(fields["alive"].is_boolean(), "{text}");
}

fn is_whole(answer: &Answer) -> bool {
    matches!(answer.end, Some((FinishReason::Stop, _)))
}

#[test]
fn hot_answers_follow_a_schema_and_verify_and_edited_ones_do_not() {
    let mut engine = engine();
    let mut whole = 0;
    let asked = |seed| request("Describe a person as JSON.", schema(&person()), hot(seed));
    let all: Vec<Request> = (1..=3).map(asked).collect();
    for (asked, answer) in all.iter().zip(together(&mut engine, &all)) {
        assert_eq!(answer.failure, None);
        if is_whole(&answer) {
            check_person(&answer.text);
            whole += 1;
        }
        let found = engine.verify(asked, &answer.tokens, Tolerance::REFERENCE).unwrap();
        assert!(found.accepted, "{found:?}");
        // Without the constraint the same tokens are not what the seed draws.
        let free = Request { constraint: None, ..asked.clone() };
        let found = engine.verify(&free, &answer.tokens, Tolerance::REFERENCE).unwrap();
        assert!(!found.accepted);
        for at in [0, answer.tokens.len() / 2] {
            let mut edited = answer.tokens.clone();
            edited[at] = if edited[at] == 451 { 452 } else { 451 };
            let found = engine.verify(asked, &edited, Tolerance::REFERENCE).unwrap();
            assert!(found.first_mismatch.is_some_and(|first| first <= at + 1), "{found:?}");
        }
        let cut = &answer.tokens[..answer.tokens.len() - 1];
        assert!(!engine.verify(asked, cut, Tolerance::REFERENCE).unwrap().accepted);
    }
    assert!(whole >= 2, "only {whole} of 3 came to an end");
}

#[test]
fn what_is_claimed_against_the_constraint_fails_even_if_the_seed_draws_it() {
    let mut engine = engine();
    let digits = request("Say a number.", Constraint::Regex("[0-9]{3}".to_owned()), hot(9));
    let free = Request { constraint: None, ..digits.clone() };
    let answer = alone(&mut engine, &free);
    let found = engine.verify(&digits, &answer.tokens, Tolerance::REFERENCE).unwrap();
    assert_eq!((found.accepted, found.first_mismatch), (false, Some(0)));
    let answer = alone(&mut engine, &digits);
    assert!(answer.text.len() == 3 && answer.text.bytes().all(|b| b.is_ascii_digit()));
    assert!(is_whole(&answer), "{answer:?}");
    // Another end than the grammar's.
    let early = [&answer.tokens[..1], &[real_model().tokenizer().eos().unwrap()]].concat();
    let found = engine.verify(&digits, &early, Tolerance::REFERENCE).unwrap();
    assert_eq!((found.accepted, found.first_mismatch), (false, Some(1)));
}

#[test]
fn choices_objects_and_grammars_are_kept_to() {
    let mut engine = engine();
    let choices = ["yes", "no", "a.b*c", "\u{4f60}\u{597d}"].map(str::to_owned).to_vec();
    let grammar = "start: sum\nsum: NUM (\"+\" NUM){1,3}\nNUM: /[1-9][0-9]{0,2}/".to_owned();
    let all: Vec<Request> = (1..=4)
        .flat_map(|seed| {
            [
                request("Well?", Constraint::Choice(choices.clone()), hot(seed)),
                request("An object.", Constraint::JsonObject, hot(seed)),
                request("Add.", Constraint::Grammar(grammar.clone()), hot(seed)),
            ]
        })
        .map(|asked| Request { tokens_max: 60, ..asked })
        .collect();
    let answers = together(&mut engine, &all);
    for some in answers.chunks(3) {
        let [choice, object, sum] = some else { panic!("three of each") };
        assert!(choices.contains(&choice.text) && is_whole(choice), "{choice:?}");
        assert!(object.text.starts_with('{'), "{object:?}");
        if is_whole(object) {
            assert!(serde_json::from_str::<Value>(&object.text).unwrap().is_object());
        }
        let parts: Vec<_> = sum.text.split('+').collect();
        assert!((2..=4).contains(&parts.len()), "{sum:?}");
        assert!(parts.iter().all(|part| part.parse::<u32>().is_ok_and(|n| n < 1_000)));
    }
}

#[test]
fn sixteen_together_are_the_same_as_each_alone_also_after_losing_their_places() {
    let asked: Vec<Request> = (0..16)
        .map(|number| {
            let constraint = match number % 3 {
                0 => schema(&person()),
                1 => Constraint::Regex("(ab|cd){2,6} [0-9]+".to_owned()),
                _ => Constraint::JsonObject,
            };
            let asked = request("Go on.", constraint, hot(number));
            Request { tokens_max: 40, ..asked }
        })
        .collect();
    let mut wide = engine();
    let all = together(&mut wide, &asked);
    for (number, (asked, answer)) in asked.iter().zip(&all).enumerate() {
        assert_eq!(answer.failure, None);
        if number % 5 == 0 {
            assert_eq!(alone(&mut wide, asked), *answer);
        }
        assert!(wide.verify(asked, &answer.tokens, Tolerance::REFERENCE).unwrap().accepted);
    }
    // So few pages that they push each other out.
    let options = EngineOptions {
        backend: BackendKind::Int12,
        pages_max: 14,
        page_tokens: 16,
        ..EngineOptions::default()
    };
    let mut narrow = Engine::new(real_model(), options).unwrap();
    let few = together(&mut narrow, &asked[..6]);
    assert!(narrow.figures().preempted > 0);
    assert_eq!(few, all[..6]);
}

#[test]
fn an_answer_goes_on_elsewhere_and_one_that_does_not_fit_is_refused() {
    let mut engine = engine();
    let asked = request("Describe a person as JSON.", schema(&person()), hot(3));
    let answer = alone(&mut engine, &asked);
    let (begun, rest) = answer.tokens.split_at(answer.tokens.len() / 2);
    let id = engine.resume(asked.clone(), begun).unwrap();
    let resumed = &crate::support::finish(&mut engine)[&id];
    assert_eq!(resumed.tokens, rest);
    let mut misfit = begun.to_vec();
    misfit[1] = 451;
    let error = engine.resume(asked.clone(), &misfit).unwrap_err();
    assert_eq!(error, SubmitError::Constraint(ConstraintError::Begun { index: 1 }));
    let endless = Request { ignore_end: true, ..asked };
    assert_eq!(
        engine.submit(endless).unwrap_err(),
        SubmitError::Constraint(ConstraintError::IgnoresEnd)
    );
}

fn weather(form: CallForm, rule: CallRule, parallel: bool) -> Constraint {
    let tool = |name: &str, parameters: Value| Tool {
        name: name.to_owned(),
        parameters: parameters.to_string(),
    };
    let city = json!({ "$defs": { "place": { "type": "string", "maxLength": 10 } }, "type": "object",
        "properties": { "city": { "$ref": "#/$defs/place" } }, "required": ["city"], "additionalProperties": false });
    let none = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let tools = vec![tool("get_weather", city), tool("get", none)];
    Constraint::Tools(ToolCalls { tools, form, rule, parallel })
}

/// The calls in a text of the Hermes form.
fn hermes(text: &str) -> Vec<Value> {
    let bodies = text.split("<tool_call>").skip(1);
    bodies
        .map(|body| serde_json::from_str(body.split("</tool_call>").next().unwrap()).unwrap())
        .collect()
}

fn check_call(call: &Value, field: &str) {
    let arguments = call[field].as_object().unwrap();
    match call["name"].as_str().unwrap() {
        "get_weather" => assert!(arguments.len() == 1 && arguments["city"].is_string(), "{call}"),
        "get" => assert!(arguments.is_empty(), "{call}"),
        other => panic!("{other}"),
    }
}

#[test]
fn calls_of_tools_are_forced_in_each_form() {
    let mut engine = engine();
    for seed in 1..=3 {
        let asked = weather(CallForm::Hermes, CallRule::Must, seed == 3);
        let answer = alone(&mut engine, &request("How is the weather in Rome?", asked, hot(seed)));
        let calls = hermes(&answer.text);
        assert!(!calls.is_empty() && answer.text.starts_with("<tool_call>\n{\"name\": \"get"));
        assert!(seed == 3 || (calls.len() == 1 && is_whole(&answer)), "{answer:?}");
        calls.iter().take(1).for_each(|call| check_call(call, "arguments"));
        let asked = weather(CallForm::Llama { before: None }, CallRule::Must, false);
        let answer = alone(&mut engine, &request("How is the weather in Rome?", asked, hot(seed)));
        check_call(&serde_json::from_str(&answer.text).unwrap(), "parameters");
        // A control token of this model stands in for the one that Mistral's have.
        let mark = real_model().tokenizer().token_of_text("<|im_start|>").unwrap();
        let form = CallForm::Mistral { before: Some(mark) };
        let asked = request("How is the weather?", weather(form, CallRule::Must, false), hot(seed));
        let answer = alone(&mut engine, &asked);
        assert_eq!(answer.tokens[0], mark);
        let calls: Vec<Value> = serde_json::from_str(&answer.text).unwrap();
        calls.iter().for_each(|call| check_call(call, "arguments"));
        assert!(engine.verify(&asked, &answer.tokens, Tolerance::REFERENCE).unwrap().accepted);
    }
}

#[test]
fn text_is_free_until_a_call_begins() {
    let mut engine = engine();
    let model = real_model();
    let free = |form| weather(form, CallRule::Free, false);
    for form in [
        CallForm::Hermes,
        CallForm::Llama { before: model.tokenizer().token_of_text("<|im_start|>") },
        CallForm::Mistral { before: model.tokenizer().token_of_text("<|im_start|>") },
        CallForm::Mistral { before: None },
    ] {
        let asked = request("Say hello.", free(form.clone()), Sampling::greedy());
        let answer = alone(&mut engine, &Request { tokens_max: 30, ..asked.clone() });
        assert!(answer.text.starts_with("Hello"), "{form:?}: {answer:?}");
        let plain = Request { constraint: None, tokens_max: 30, ..asked };
        assert_eq!(alone(&mut engine, &plain).tokens, answer.tokens, "{form:?}");
    }
    // Once it has begun, nothing but a call comes, and then text again.
    let begun = model.tokenizer().encode("Let me see. <tool_call>", SpecialTokens::AsText);
    let asked = request("How is the weather in Rome?", free(CallForm::Hermes), hot(7));
    let id = engine.resume(Request { tokens_max: 120, ..asked }, &begun).unwrap();
    let answer = &crate::support::finish(&mut engine)[&id];
    let calls = hermes(&format!("<tool_call>{}", answer.text));
    check_call(&calls[0], "arguments");
    assert_eq!(calls.len(), 1, "{answer:?}");
}

/// Schemas, patterns and grammars that were made to take time or memory.
fn hostile() -> Vec<(&'static str, Constraint)> {
    let nested = (0..60).fold(
        json!({"type": "integer"}),
        |inner, _| json!({"type": "object", "properties": {"a": inner}, "required": ["a"]}),
    );
    let either = json!({"anyOf": [{"maximum": 5}, {"minimum": 7}]});
    let product = json!({"type": "number", "allOf": vec![either; 40]});
    let texts: Vec<String> =
        (0..4_000).map(|n: u64| format!("{:x}", n.wrapping_mul(0x9E37_79B9))).collect();
    let doubling: serde_json::Map<String, Value> = (0..60)
        .map(|n| {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            (format!("d{n}"), json!({"allOf": [next, next], "properties": {"x": next}}))
        })
        .chain([("d60".to_owned(), json!({"type": "object"}))])
        .collect();
    let keys: serde_json::Map<String, Value> = (0..600)
        .map(|n| (format!("key{n}"), json!({"type": "string", "pattern": "(a|b)*c{9}"})))
        .collect();
    let patterns: serde_json::Map<String, Value> =
        (0..120).map(|n| (format!("^(a|b)*{n}(c|d)*$"), json!({}))).collect();
    vec![
        ("nested", schema(&nested)),
        (
            "recursive",
            schema(
                &json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}),
            ),
        ),
        ("self", schema(&json!({"$ref": "#"}))),
        ("loop", schema(&json!({"allOf": [{"$ref": "#"}], "type": "object"}))),
        ("product", schema(&product)),
        ("doubling", schema(&json!({"$ref": "#/$defs/d0", "$defs": doubling}))),
        ("enum", schema(&json!({ "enum": texts }))),
        (
            "items",
            schema(
                &json!({"type": "array", "minItems": 1_000_000_000, "items": {"minItems": 1_000_000, "type": "array"}}),
            ),
        ),
        ("length", schema(&json!({"type": "string", "minLength": 1_000_000_000}))),
        ("keys", schema(&json!({"type": "object", "properties": keys}))),
        ("patterns", schema(&json!({"type": "object", "patternProperties": patterns}))),
        ("multiple", schema(&json!({"type": "integer", "multipleOf": 999_999_937}))),
        ("one of", schema(&json!({"oneOf": vec![json!({"type": "string"}); 64]}))),
        ("remote", schema(&json!({"$ref": "https://example.org/schema.json"}))),
        ("negation", schema(&json!({"not": {"type": "string"}}))),
        ("backtracking", Constraint::Regex("(a+)+(b+)+(a*)*$".to_owned())),
        ("repeats", Constraint::Regex("((a{1,999}){1,999}){1,999}".to_owned())),
        ("window", Constraint::Regex("(.|\n)*a(.|\n){200}b(.|\n){300}".to_owned())),
        ("classes", Constraint::Regex("[\\p{L}\\p{N}]{1,5000}".to_owned())),
        ("look", Constraint::Regex("(?=a)b".to_owned())),
        ("ambiguous", Constraint::Grammar("start: a\na: a a | \"x\" | a a a |".to_owned())),
        ("epsilon", Constraint::Grammar("start: a*\na: b*\nb: \"\"".to_owned())),
        ("endless", Constraint::Grammar("start: a\na: \"x\" a".to_owned())),
        ("nonsense", Constraint::Grammar("start: (((".to_owned())),
        ("huge", Constraint::Regex("a".repeat(70_000))),
    ]
}

#[test]
fn hostile_constraints_are_refused_or_served_within_bounds() {
    let constraints = Constraints::new(real_model());
    constraints.prepare(&Constraint::JsonObject).unwrap();
    let mut served = Vec::new();
    for (name, constraint) in hostile() {
        match constraints.prepare(&constraint) {
            Err(error) => {
                let said = error.to_string();
                assert!(said.len() < 600 && !said.contains('\n'), "{name}: {said}");
            }
            Ok(()) => {
                let asked = request("Go.", constraint, hot(1));
                served.push(Request { tokens_max: 10, ..asked });
            }
        }
    }
    assert!((8..=hostile().len() - 8).contains(&served.len()), "{}", served.len());
    for answer in together(&mut engine(), &served) {
        // Some are given up when they get too large; none takes the others with it.
        let failure = answer.failure.unwrap_or_default();
        let stated = failure.contains("follow the constraint");
        assert!(failure.is_empty() || stated, "{failure}");
    }
    assert!(constraints.kept() <= openledger_inference::limits::CONSTRAINTS_KEPT_MAX);
}

#[test]
fn what_is_not_supported_is_said_before_anything_is_drawn() {
    let mut engine = engine();
    let refused = |engine: &mut Engine, constraint| {
        engine.submit(request("?", constraint, hot(1))).unwrap_err().to_string()
    };
    let said = refused(&mut engine, schema(&json!({"not": {"type": "string"}})));
    assert!(said.contains("Unimplemented keys: [\"not\"]"), "{said}");
    let said = refused(&mut engine, Constraint::JsonSchema("{\"type\":".to_owned()));
    assert!(said.contains("line 1, column 8"), "{said}");
    let said = refused(&mut engine, Constraint::Choice(Vec::new()));
    assert!(said.contains("it lists 0 texts"), "{said}");
    assert!(engine.is_idle());
}
