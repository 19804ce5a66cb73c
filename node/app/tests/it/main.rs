//! Real processes: the command line, the workers and running nodes of the built program.

#[cfg(test)]
mod api;
#[cfg(test)]
mod backends;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod coordinator;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod fake_serve;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod merging;
#[cfg(test)]
mod models;
#[cfg(test)]
mod networks;
#[cfg(test)]
mod process;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod site;
#[cfg(test)]
mod structured;
#[cfg(test)]
mod unlocking;
#[cfg(test)]
mod upstream;
#[cfg(test)]
mod workers;
