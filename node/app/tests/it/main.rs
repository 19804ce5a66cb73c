//! Real processes: the command line and the workers of the built program.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod site;
#[cfg(test)]
mod workers;
