//! Prompts from conversations, by the Jinja template in the model's file.
//!
//! A template is a program by a stranger. It runs with a bounded number of steps, and everything
//! that it makes (texts, lists, its output) counts against one budget of bytes; see `budget` for
//! how each way of growing is counted. It can reach nothing but the messages.

mod budget;
mod expression;
mod functions;
mod operators;
mod tools;

use std::thread;

use minijinja::{Environment, context};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::gguf::Gguf;
use crate::limits::{MESSAGES_MAX, PROMPT_BYTES_MAX, TEMPLATE_BYTES_MAX};

pub use tools::ToolForm;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or `tool` in most templates.
    pub role: String,
    /// What is said.
    pub content: String,
    /// Calls of tools that an assistant made, as OpenAI has them but with the arguments as an object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// Which call a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The name of the tool that speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it holds results of tools in a user's words.
    #[serde(skip)]
    is_result: bool,
}

impl Message {
    /// A message.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
            is_result: false,
        }
    }
}

/// Why a conversation could not be made a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The file has no template.
    #[error(
        "render the conversation: the model has no chat template; use plain completions, or an instruct model"
    )]
    Absent,
    /// The template uses what is not supported, or is broken.
    #[error(
        "render the conversation: the model's chat template is not supported ({reason}); use plain completions, or another file of the model"
    )]
    Unsupported {
        /// What is wrong with it.
        reason: String,
    },
    /// The template refused the conversation.
    #[error("render the conversation: the model's chat template refuses it: {reason}")]
    Refused {
        /// What the template says.
        reason: String,
    },
    /// Running the template failed, or passed its bounds.
    #[error("render the conversation: the model's chat template fails on it ({reason})")]
    Failed {
        /// Why.
        reason: String,
    },
    /// Too many or too long messages.
    #[error(
        "render the conversation: it has {messages} messages with {bytes} bytes, {MESSAGES_MAX} with {PROMPT_BYTES_MAX} at most are accepted; leave out the oldest"
    )]
    TooLong {
        /// Messages.
        messages: usize,
        /// Their bytes.
        bytes: usize,
    },
}

/// The template of a model.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    state: State,
    form: ToolForm,
    shows_tools: bool,
    bos: String,
    eos: String,
}

#[derive(Clone, Debug)]
enum State {
    Ready(Box<Environment<'static>>),
    Not(TemplateError),
}

/// The name under which the one template is known.
const NAME: &str = "chat_template";
/// Stack of the thread that renders: the engine works by recursion, as deep as values and macros
/// are nested, and their depths are bounded for less than this. Only what is used takes memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;

impl ChatTemplate {
    /// The template of a file. One that is missing or not supported says so when it is to render,
    /// because the model can still complete plain text.
    #[must_use]
    pub fn from_gguf(gguf: &Gguf) -> Self {
        let token = |name: &str| -> Option<String> {
            let id = gguf.unsigned(&format!("tokenizer.ggml.{name}_token_id")).ok()??;
            let tokens = gguf.texts("tokenizer.ggml.tokens").ok()??;
            tokens.get(usize::try_from(id).ok()?).map(str::to_owned)
        };
        let (bos, eos) = (token("bos").unwrap_or_default(), token("eos").unwrap_or_default());
        match gguf.text("tokenizer.chat_template") {
            Ok(Some(source)) => Self::new(source, &bos, &eos),
            Ok(None) => Self::without(TemplateError::Absent, &bos, &eos),
            Err(e) => {
                Self::without(TemplateError::Unsupported { reason: e.to_string() }, &bos, &eos)
            }
        }
    }

    /// A template from its source, if there is one.
    pub(crate) fn of(source: Option<&str>, bos: &str, eos: &str) -> Self {
        let absent = || Self::without(TemplateError::Absent, bos, eos);
        source.map_or_else(absent, |source| Self::new(source, bos, eos))
    }

    fn without(error: TemplateError, bos: &str, eos: &str) -> Self {
        let (bos, eos) = (bos.to_owned(), eos.to_owned());
        Self { state: State::Not(error), form: ToolForm::Hermes, shows_tools: false, bos, eos }
    }

    /// A template from its source, with the texts of the tokens that start and end a text.
    #[must_use]
    pub fn new(source: &str, bos: &str, eos: &str) -> Self {
        let state = match environment(source) {
            Ok(environment) => State::Ready(Box::new(environment)),
            Err(reason) => State::Not(TemplateError::Unsupported { reason }),
        };
        let (form, shows_tools) = (ToolForm::of(source), tools::shows_tools(source));
        Self { state, form, shows_tools, bos: bos.to_owned(), eos: eos.to_owned() }
    }

    /// Whether there is a template that can be used.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// How the model writes calls of tools.
    #[must_use]
    pub const fn tool_form(&self) -> ToolForm {
        self.form
    }

    /// The prompt of a conversation; with `add_generation_prompt` it ends where the model is to
    /// answer.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        self.render_with(messages, &[], add_generation_prompt)
    }

    /// The same with tools that the model may call, each as OpenAI has them: an object with `type`
    /// and `function`. A template that shows no tools gets them, and calls and results in the
    /// conversation, in words of ours.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn render_with(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let has_calls = messages.iter().any(|m| m.role == "tool" || !m.tool_calls.is_empty());
        if !self.shows_tools && (has_calls || !tools.is_empty()) {
            let spelled = tools::spelled_out(messages, tools);
            return self.render_shown(&spelled, &[], add_generation_prompt);
        }
        self.render_shown(messages, tools, add_generation_prompt)
    }

    fn render_shown(
        &self,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let environment = match &self.state {
            State::Ready(environment) => environment,
            State::Not(error) => return Err(error.clone()),
        };
        let bytes = messages.iter().map(bytes_of).sum::<usize>()
            + tools.iter().map(|tool| tool.to_string().len()).sum::<usize>();
        if messages.len() > MESSAGES_MAX || bytes > PROMPT_BYTES_MAX {
            return Err(TemplateError::TooLong { messages: messages.len(), bytes });
        }
        let failed = |reason: String| TemplateError::Failed { reason };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("chat template".to_owned());
            let run = || self.run(environment, messages, tools, add_generation_prompt, bytes);
            let thread = thread.stack_size(STACK_BYTES).spawn_scoped(scope, run);
            let thread = thread.map_err(|e| failed(format!("no thread could be started: {e}")))?;
            thread.join().unwrap_or_else(|_| Err(failed("it made the renderer panic".to_owned())))
        })
    }

    fn run(
        &self,
        environment: &Environment<'_>,
        messages: &[Message],
        tools: &[Value],
        add_generation_prompt: bool,
        bytes: usize,
    ) -> Result<String, TemplateError> {
        budget::begin(bytes);
        // Templates ask whether there are tools, not how many.
        let tools = (!tools.is_empty()).then_some(tools);
        let values = context! {
            messages => messages,
            tools => tools,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
        };
        let mut prompt = budget::Limited::new(PROMPT_BYTES_MAX);
        let result = environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(values, &mut prompt));
        match result {
            Ok(_) => prompt.finish().ok_or_else(|| TemplateError::Failed {
                reason: format!("the prompt has more than {PROMPT_BYTES_MAX} bytes"),
            }),
            Err(error) => Err(functions::judged(&error)),
        }
    }
}

fn bytes_of(message: &Message) -> usize {
    let calls: usize = message.tool_calls.iter().map(|call| call.to_string().len()).sum();
    message.role.len() + message.content.len() + calls
}

fn environment(source: &str) -> Result<Environment<'static>, String> {
    if source.len() > TEMPLATE_BYTES_MAX {
        let bytes = source.len();
        return Err(format!("it has {bytes} bytes, {TEMPLATE_BYTES_MAX} at most are accepted"));
    }
    let rewritten = operators::rewrite(source)?;
    let mut environment = functions::environment();
    environment
        .add_template_owned(NAME, rewritten)
        .map_err(|e| functions::shortened(&e.to_string()))?;
    Ok(environment)
}
