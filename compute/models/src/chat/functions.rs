//! What a template can call: the filters, tests and methods that chat templates use, each counted.

use std::error::Error as _;
use std::{fmt, io};

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::TemplateError;
use super::budget::{Limited, charge, charge_nested, charge_slice};
use crate::limits::{TEMPLATE_DEPTH_MAX, TEMPLATE_FUEL_MAX};

/// Blanks that JSON is indented by at most; templates in use say 4.
const INDENT_MAX: usize = 8;
/// Bytes that one item of a list counts.
const ITEM_BYTES: usize = 16;

/// Filters of the engine that make something about as large as what they get.
const COUNTED: [&str; 20] = [
    "capitalize",
    "dictsort",
    "items",
    "lines",
    "list",
    "lower",
    "map",
    "reject",
    "rejectattr",
    "reverse",
    "safe",
    "select",
    "selectattr",
    "sort",
    "split",
    "sum",
    "title",
    "trim",
    "unique",
    "upper",
];

/// Filters of the engine that could make much of little, and that chat templates do not use.
const REMOVED: [&str; 12] = [
    "batch",
    "chain",
    "e",
    "escape",
    "format",
    "groupby",
    "indent",
    "pprint",
    "slice",
    "urlencode",
    "zip",
    "attr",
];

/// What a template says when it refuses a conversation.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// An environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // As the transformers library sets its own.
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(TEMPLATE_FUEL_MAX));
    environment.set_recursion_limit(TEMPLATE_DEPTH_MAX);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(method);
    environment.set_formatter(|out, _, value| {
        if value.is_undefined() || value.is_none() {
            // Python prints `None`; no template means to.
            return Ok(());
        }
        Ok(out.write_str(&Limited::text_of(value)?)?)
    });
    for name in REMOVED {
        environment.remove_filter(name);
    }
    for name in COUNTED {
        count(&mut environment, name);
    }
    environment.add_filter("__plus", plus);
    environment.add_filter("__join", |left: Value, right: Value| {
        Limited::text_of(&format_args!("{left}{right}"))
    });
    environment.add_filter("__made", |value: Value| charge_nested(&value).map(|()| value));
    environment.add_filter("__edge", |value: Value| charge_slice().map(|()| value));
    environment.add_filter("join", join);
    environment.add_filter("replace", |text: &str, from: &str, to: &str| replace(text, from, to));
    environment.add_filter("string", |value: Value| Limited::text_of(&value));
    environment.add_filter("tojson", json);
    environment.remove_global("debug");
    environment.add_function("namespace", |fields: Option<Value>| {
        if let Some(fields) = &fields {
            charge_nested(fields)?;
        }
        minijinja::functions::namespace(fields)
    });
    environment.add_function("dict", |from: Option<Value>, fields: Kwargs| {
        let dict = minijinja::functions::dict(from, fields)?;
        charge_nested(&dict).map(|()| dict)
    });
    environment.add_function("__edge", || charge_slice().map(|()| Value::from(())));
    environment.add_function("__text", |bytes: usize| charge(bytes).map(|()| ""));
    environment.add_function("raise_exception", |reason: &str| -> Result<Value, Error> {
        let error = Error::new(ErrorKind::InvalidOperation, "the template refuses");
        Err(error.with_source(Refusal(shortened(reason))))
    });
    environment
}

/// Puts a count in front of one of the engine's filters.
fn count(environment: &mut Environment<'static>, name: &'static str) {
    let own = format!("__own_{name}");
    let call = {
        let own = own.clone();
        move |state: &State<'_, '_>, value: Value, more: Rest<Value>| {
            charge(size(&value))?;
            let mut all = vec![value];
            all.extend(more.0);
            state.apply_filter(&own, &all)
        }
    };
    use minijinja::filters as own_filters;
    match name {
        "capitalize" => environment.add_filter(own, own_filters::capitalize),
        "dictsort" => environment.add_filter(own, own_filters::dictsort),
        "items" => environment.add_filter(own, own_filters::items),
        "lines" => environment.add_filter(own, own_filters::lines),
        "list" => environment.add_filter(own, own_filters::list),
        "lower" => environment.add_filter(own, own_filters::lower),
        "map" => environment.add_filter(own, own_filters::map),
        "reject" => environment.add_filter(own, own_filters::reject),
        "rejectattr" => environment.add_filter(own, own_filters::rejectattr),
        "reverse" => environment.add_filter(own, own_filters::reverse),
        "safe" => environment.add_filter(own, own_filters::safe),
        "select" => environment.add_filter(own, own_filters::select),
        "selectattr" => environment.add_filter(own, own_filters::selectattr),
        "sort" => environment.add_filter(own, own_filters::sort),
        "split" => environment.add_filter(own, own_filters::split),
        "sum" => environment.add_filter(own, own_filters::sum),
        "title" => environment.add_filter(own, own_filters::title),
        "trim" => environment.add_filter(own, own_filters::trim),
        "unique" => environment.add_filter(own, own_filters::unique),
        _ => environment.add_filter(own, own_filters::upper),
    }
    environment.add_filter(name, call);
}

/// What making another of a value counts: a text may grow threefold by a change of case, and a
/// list of its parts has an item for each.
fn size(value: &Value) -> usize {
    match value.as_str() {
        Some(text) => text.len().saturating_mul(3),
        None => value.len().unwrap_or(1).saturating_mul(ITEM_BYTES),
    }
}

/// `left + right`.
fn plus(left: Value, right: Value) -> Result<Value, Error> {
    let cannot = || {
        let (left, right) = (left.kind(), right.kind());
        Error::new(ErrorKind::InvalidOperation, format!("{left} + {right} is not possible"))
    };
    if let (Some(first), Some(second)) = (left.as_str(), right.as_str()) {
        charge(first.len().saturating_add(second.len()))?;
        return Ok(Value::from([first, second].concat()));
    }
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_list(&left) && is_list(&right) {
        charge(size(&left).saturating_add(size(&right)))?;
        return Ok(left.try_iter()?.chain(right.try_iter()?).collect());
    }
    if left.kind() != ValueKind::Number || right.kind() != ValueKind::Number {
        return Err(cannot());
    }
    match (left.as_i64(), right.as_i64()) {
        (Some(first), Some(second)) => first.checked_add(second).map(Value::from),
        _ => match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
            (Ok(first), Ok(second)) => Some(Value::from(first + second)),
            _ => None,
        },
    }
    .ok_or_else(cannot)
}

/// The items of a list as one text.
fn join(items: Value, between: Option<String>) -> Result<String, Error> {
    let between = between.unwrap_or_default();
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = Limited::text_of(&item)?;
        if index > 0 {
            charge(between.len())?;
            joined.push_str(&between);
        }
        joined.push_str(&item);
    }
    Ok(joined)
}

fn replace(text: &str, from: &str, to: &str) -> Result<String, Error> {
    let found = text.matches(from).count();
    charge(text.len().saturating_add(found.saturating_mul(to.len())))?;
    Ok(text.replace(from, to))
}

/// JSON as Python writes it by default: no escapes for HTML, spaces after commas and colons.
fn json(value: Value, options: Rest<Value>) -> Result<String, Error> {
    let options = options.0.into_iter().find_map(|option| Kwargs::try_from(option).ok());
    let indent = options.and_then(|options| options.get::<Option<usize>>("indent").ok().flatten());
    let text = python_json(&value, indent)
        .map_err(|reason| Error::new(ErrorKind::BadSerialization, reason))?;
    charge(text.len())?;
    Ok(text)
}

/// A value as Python's `json.dumps` writes it, in lines with `indent`.
pub(super) fn python_json(
    value: &impl serde::Serialize,
    indent: Option<usize>,
) -> Result<String, String> {
    let mut limited = Limited::new(crate::limits::PROMPT_BYTES_MAX);
    let written = match indent {
        Some(indent) => {
            let blanks = vec![b' '; indent.min(INDENT_MAX)];
            let lines = PrettyFormatter::with_indent(&blanks);
            value.serialize(&mut Serializer::with_formatter(&mut limited, lines))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut limited, Spaced)),
    };
    written.map_err(|error| shortened(&error.to_string()))?;
    limited.finish().ok_or_else(|| "the JSON is too long".to_owned())
}

/// One line, with a space after each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

/// Methods of Python's texts, lists and dicts.
fn method(
    state: &State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let argument = |index: usize| arguments.get(index).and_then(|value| value.as_str());
    match (value.as_str(), name) {
        (_, "format") => {
            return Err(Error::new(ErrorKind::UnknownMethod, "format is not supported"));
        }
        (Some(text), "replace") => {
            if let (Some(from), Some(to), 2) = (argument(0), argument(1), arguments.len()) {
                return replace(text, from, to).map(Value::from);
            }
            return Err(Error::new(ErrorKind::InvalidOperation, "replace takes two texts"));
        }
        (Some(text), "join") => {
            let items = arguments.first().cloned().unwrap_or_default();
            return join(items, Some(text.to_owned())).map(Value::from);
        }
        (Some(text), "split" | "splitlines") => {
            let parts = match argument(0).filter(|by| !by.is_empty()) {
                Some(by) => text.matches(by).count(),
                None => text.split_whitespace().count().max(text.lines().count()),
            };
            charge(text.len().saturating_add(parts.saturating_mul(ITEM_BYTES)))?;
        }
        _ => charge(size(value))?,
    }
    unknown_method_callback(state, value, name, arguments)
}

/// What an error of the engine means for the caller.
pub(super) fn judged(error: &Error) -> TemplateError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Refusal(reason)) = cause.downcast_ref() {
            return TemplateError::Refused { reason: reason.clone() };
        }
        source = cause.source();
    }
    TemplateError::Failed { reason: shortened(&error.to_string()) }
}

/// A stranger's text in a message: one line, not long.
pub(super) fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
