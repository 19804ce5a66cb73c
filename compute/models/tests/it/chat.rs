//! Chat templates: those of well-known models, and hostile ones.

use openledger_models::{ChatTemplate, Gguf, GgufWriter, Message, TemplateError, ToolForm};

fn messages() -> Vec<Message> {
    vec![
        Message::new("system", "Be brief."),
        Message::new("user", " Hi! "),
        Message::new("assistant", "Hello."),
        Message::new("user", "Bye?"),
    ]
}

fn render(source: &str, messages: &[Message]) -> Result<String, TemplateError> {
    ChatTemplate::new(source, "<s>", "</s>").render(messages, true)
}

/// The manner of ChatML.
const CHATML: &str = "{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}";

#[test]
fn chatml_is_rendered() {
    let prompt = render(CHATML, &messages()).unwrap();
    assert_eq!(
        prompt,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n\
         <|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye?<|im_end|>\n\
         <|im_start|>assistant\n"
    );
}

#[test]
fn slices_namespaces_alternation_and_macros_are_rendered() {
    let source = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
        {% set loop_messages = messages[1:] %}{% set system = messages[0].content.strip() + '\\n\\n' %}\
        {% else %}{% set loop_messages = messages %}{% set system = '' %}{% endif %}\
        {% set ns = namespace(count=0, text='') %}\
        {% macro mark(role) %}[{{ role | upper }}]{% endmacro %}\
        {% for message in loop_messages %}\
        {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
        {{ raise_exception('Roles must alternate') }}{% endif %}\
        {% if loop.first %}{% set content = system + message['content'] %}\
        {% else %}{% set content = message['content'] %}{% endif %}\
        {% set ns.count = ns.count + 1 %}\
        {{ mark(message.role) ~ content.strip() ~ (eos_token if message.role == 'assistant' else '') }}\
        {% endfor %}({{ ns.count }}) {{ messages[-1].content[:2] }} {{ {'a': [1, none]} | tojson }}";
    let prompt = render(source, &messages()).unwrap();
    assert_eq!(
        prompt,
        "<s>[USER]Be brief.\n\n Hi![ASSISTANT]Hello.</s>[USER]Bye?(3) By {\"a\": [1, null]}"
    );
    let twice = [messages(), vec![Message::new("user", "again")]].concat();
    let error = render(source, &twice).unwrap_err();
    assert_eq!(error, TemplateError::Refused { reason: "Roles must alternate".to_owned() });
    assert!(error.to_string().contains("refuses it: Roles must alternate"), "{error}");
}

#[test]
fn blocks_are_trimmed_as_transformers_does_it() {
    let source = "{% for m in messages[:1] %}\n  {% if true %}\nText: {{ m.role }}\n  {% endif %}\n{% endfor %}\nEnd";
    assert_eq!(render(source, &messages()).unwrap(), "Text: system\nEnd");
}

#[test]
fn a_model_without_a_template_says_so() {
    let bytes = GgufWriter::new().finish();
    let template = ChatTemplate::from_gguf(&Gguf::parse(&bytes).unwrap());
    assert!(!template.is_usable());
    let says = template.render(&messages(), true).unwrap_err().to_string();
    assert!(says.contains("no chat template; use plain completions"), "{says}");
}

#[test]
fn broken_templates_are_reported() {
    for source in ["{{ x", "{% for %}", "{% unknown %}", "{{ 'a' * 9 }}", "{% raw %}{% endraw %}"] {
        let error = render(source, &messages()).unwrap_err();
        assert!(matches!(error, TemplateError::Unsupported { .. }), "{source}: {error}");
    }
    for source in [
        "{{ nothing.at.all }}",
        "{{ 'x' | format }}",
        "{{ '{}'.format(1) }}",
        "{% include 'other' %}",
        "{{ 1 + 'x' }}",
        "{{ debug() }}",
        "{{ 9223372036854775807 + 1 }}",
    ] {
        assert!(render(source, &messages()).is_err(), "{source}");
    }
}

#[test]
fn templates_cannot_fill_time_memory_or_the_stack() {
    let x60 = |step: &str| format!("{{% set x = 'abcdefgh' %}}{}{{{{ x }}}}", step.repeat(60));
    let looped = |step: &str| {
        format!(
            "{{% set ns = namespace(x='abcdefgh', y=[]) %}}\
             {{% for a in range(1000) %}}{{% for b in range(1000) %}}{step}{{% endfor %}}{{% endfor %}}"
        )
    };
    let hostile = [
        x60("{% set x = x ~ x %}"),
        x60("{% set x = x + x %}"),
        x60("{% set x = [x, x] | join %}"),
        x60("{% set x = x.replace('a', x) %}"),
        x60("{% set x = x | replace('a', x) %}"),
        x60("{% set x %}{{ x }}{{ x }}{% endset %}"),
        x60("{% set x = [x, x] %}"),
        x60("{% set x = [x, x] | tojson %}"),
        x60("{% set x = [x, x] | string %}"),
        x60("{% set x = x.join([x, x]) %}"),
        x60("{% set x = {'a': x, 'b': x} %}"),
        looped("{% set ns.x = ns.x ~ 'aaaaaaaaaaaaaaaa' %}"),
        looped("{% set ns.y = ns.y + [1] %}"),
        looped("{% set ns.y = [ns.y, ns.x.split('')] %}"),
        looped("some text"),
        looped("{{ 'some text' }}"),
        looped("{% set x %}some text{% endset %}"),
        looped("{% set ns.y = [ns.y, messages[1].content[1:]] %}"),
        "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('a') }}".to_owned(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
            .to_owned(),
        "{{ range(100000) | map('string') | list | join(range(100000) | list | string) }}"
            .to_owned(),
    ];
    let long = vec![Message::new("user", "x"), Message::new("user", "y".repeat(100_000))];
    for source in hostile {
        let error = render(&source, &long).unwrap_err();
        assert!(error.to_string().len() < 1_000, "{error}");
    }
}

#[test]
fn values_within_values_are_bounded() {
    let kept = |step: &str, then: &str| {
        format!(
            "{{% set ns = namespace(x=[]) %}}{{% set other = namespace(x=ns.x) %}}\
             {{% for a in range(20000) %}}{step}{{% endfor %}}{then}"
        )
    };
    for (step, then) in [
        ("{% set ns.x = [ns.x] %}", "{{ ns.x }}"),
        ("{% set ns.x = (ns.x, 1) %}", "{{ ns.x == other.x }}"),
        ("{% set ns.x = {'a': ns.x} %}", "{{ ns.x | tojson }}"),
        ("{% set ns.x = dict(a=ns.x) %}", "{{ ns.x | string }}"),
        ("{% set ns.x = ns %}", "{{ ns }}"),
        ("{% set ns.x = [other] %}{% set other.x = [ns] %}", "{{ ns == other }}"),
    ] {
        let error = render(&kept(step, then), &messages()).unwrap_err();
        assert!(matches!(error, TemplateError::Failed { .. }), "{step}: {error}");
    }
    let grown = kept("{% set ns.x = ns.x + [a] %}", "").replace("20000", "200");
    assert_eq!(render(&(grown + "{{ ns.x | length }}"), &messages()).unwrap(), "200");
}

#[test]
fn conversations_are_bounded() {
    let many = vec![Message::new("user", ""); 5_000];
    let error = render(CHATML, &many).unwrap_err();
    assert!(matches!(error, TemplateError::TooLong { messages: 5_000, .. }), "{error}");
    let long = [Message::new("user", "x".repeat(5 << 20))];
    assert!(render(CHATML, &long).unwrap_err().to_string().contains("leave out the oldest"));
    let some = vec![Message::new("user", "some words of a long conversation"); 2_000];
    assert!(render(CHATML, &some).unwrap().len() > 100_000);
}

/// As the templates of Qwen 2.5 show tools, shortened.
const WITH_TOOLS: &str = "{%- if tools %}\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>\n{% endif %}\
    {%- for m in messages %}{{ m.role }}: {{ m.content }}\
    {%- for call in m.tool_calls %}<tool_call>{{ call.function.name }}{{ call.function.arguments | tojson }}</tool_call>{% endfor %}\
    {%- if m.tool_call_id %}({{ m.tool_call_id }}){% endif %}\n{% endfor %}";

#[test]
fn tools_calls_and_results_are_passed_to_a_template_that_shows_them() {
    let tools = [serde_json::json!({"type": "function", "function": {
        "name": "weather", "description": "Tells it.", "parameters": {"type": "object"},
    }})];
    let mut asked = Message::new("assistant", "");
    asked.tool_calls = vec![serde_json::json!({"id": "c1", "type": "function", "function": {
        "name": "weather", "arguments": {"city": "Rome", "days": 2},
    }})];
    let mut told = Message::new("tool", "sunny");
    told.tool_call_id = Some("c1".to_owned());
    let messages = [Message::new("user", "Rain?"), asked, told];
    let template = ChatTemplate::new(WITH_TOOLS, "<s>", "</s>");
    assert_eq!(template.tool_form(), ToolForm::Hermes);
    let prompt = template.render_with(&messages, &tools, true).unwrap();
    assert_eq!(
        prompt,
        "<tools>{\"type\": \"function\", \"function\": {\"name\": \"weather\", \"description\": \"Tells it.\", \
         \"parameters\": {\"type\": \"object\"}}}</tools>\nuser: Rain?\
         assistant: <tool_call>weather{\"city\": \"Rome\", \"days\": 2}</tool_call>tool: sunny(c1)"
    );
    // Without tools nothing of them is shown.
    assert_eq!(template.render(&messages[..1], true).unwrap(), "user: Rain?");
    // A template that knows nothing of tools gets them in words.
    let plain = ChatTemplate::new(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}",
        "",
        "",
    );
    let prompt = plain.render_with(&messages, &tools, true).unwrap();
    assert!(
        prompt.starts_with("[system]You can call these functions:\n{\"name\": \"weather\""),
        "{prompt}"
    );
    assert!(prompt.ends_with("[user]<tool_response>\nsunny\n</tool_response>"), "{prompt}");
}

#[test]
fn json_is_indented_where_a_template_asks_for_it() {
    let source = "{{ {'a': [1, 'x'], 'b': {}} | tojson(indent=4) }}";
    let prompt = render(source, &messages()).unwrap();
    assert_eq!(prompt, "{\n    \"a\": [\n        1,\n        \"x\"\n    ],\n    \"b\": {}\n}");
}
