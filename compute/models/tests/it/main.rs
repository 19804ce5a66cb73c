//! Models, tokenizers, templates and adapters from the outside.

#[cfg(test)]
mod chat;
#[cfg(test)]
mod families;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod gemma;
#[cfg(test)]
mod gguf;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lora;
#[cfg(test)]
mod model;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod peft;
#[cfg(test)]
mod real;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tokenizer;
