//! The coordinator as nodes and operators meet it: over its link and its API, through crashes.

#[cfg(test)]
mod binary;
#[cfg(test)]
mod chain;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod gossip;
#[cfg(test)]
mod inference;
#[cfg(test)]
mod network;
#[cfg(test)]
mod node;
#[cfg(test)]
mod settle;
