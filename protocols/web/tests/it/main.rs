//! Tests of the shell as clients meet it.

#[cfg(test)]
mod shell;
