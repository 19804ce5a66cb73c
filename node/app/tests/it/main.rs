//! Real processes: the command line and the workers of the built program.

mod bench;
mod command_line;
mod site;
mod workers;
