//! Faults of what nodes serve: servers killed in the middle of an answer, model files cut short,
//! calls of what nobody has.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use openledger_wire::BlobId;
use reqwest::Client;

use super::driver::{Driver, now};
use super::files::own_files;
use super::plan::Target;
use super::streams;
use crate::limits;
use crate::nodes::{Member, NodeStatus, Part};

impl Driver<'_> {
    /// Has a node without models answer a call with the help of a peer, and kills that peer in the
    /// middle.
    pub(super) async fn cut_stream(&mut self) -> anyhow::Result<String> {
        let Some(models) = &self.network.models else { return Ok("nobody serves".to_owned()) };
        let nth = usize::try_from(self.injected.calls.cut).unwrap_or_default();
        let named = models.adapters.get(nth % models.adapters.len().max(1));
        let model = named.unwrap_or(&models.base).name.clone();
        // The last honest node starts without any model.
        let members = self.network.members.iter();
        let caller = members.rev().find(|member| member.part == Part::CutLink).cloned();
        let caller = caller.context("find the node that calls")?;
        let http = Client::builder().no_proxy().build().context("set up the HTTP client")?;
        for _ in 0..limits::STREAM_TRIES {
            let before = self.counts().await;
            let mut stream = streams::open(&http, &caller, &model).await?;
            let has_begun = stream.has_begun().await;
            let after = self.counts().await;
            let server = (0..before.len()).find(|n| {
                let answered = |counts: &[Option<u64>]| counts.get(*n).copied().flatten();
                answered(&after) > answered(&before)
            });
            let (Some(server), true, false) = (server, has_begun, stream.is_over()) else {
                stream.end().await;
                self.rest(limits::LOOK_PAUSE).await?;
                continue;
            };
            let resumed = self.resumed(&caller).await;
            let killed = self.kill_one(Target::Node(server), Duration::ZERO).await?;
            let end = stream.end().await;
            let told = format!("{killed} in the middle of an answer of {model}: {end:?}");
            self.injected.calls.add(end);
            let resumed = self.resumed(&caller).await.saturating_sub(resumed);
            self.injected.calls.resumed += resumed;
            return Ok(told);
        }
        Ok("no peer was found in the middle of an answer".to_owned())
    }

    /// How many calls of peers each node has begun to answer; `None` where it does not say.
    async fn counts(&self) -> Vec<Option<u64>> {
        let mut all = Vec::new();
        for member in &self.network.members {
            let status = self.status(member).await;
            all.push(status.map(|status| status.calls.for_peers));
        }
        all
    }

    async fn resumed(&self, member: &Member) -> u64 {
        self.status(member).await.map(|status| status.calls.resumed).unwrap_or_default()
    }

    async fn status(&self, member: &Member) -> Option<NodeStatus> {
        member.control(&self.http, "status").await.ok()
    }

    /// Cuts a model file short that a node got from its peers, and waits until it is whole again.
    pub(super) async fn cut_file(&mut self, extension: &str) -> anyhow::Result<String> {
        let members = self.network.members.iter().enumerate();
        let mut honest = members.filter(|(_, member)| member.part.is_honest());
        let found = honest.find_map(|(n, member)| {
            let file = own_files(&member.data, extension).into_iter().next()?;
            Some((n, member.name.clone(), file))
        });
        let Some((node, name, file)) = found else {
            return Ok(format!("no node has a {extension} file of its own"));
        };
        let said_before = self.network.child_mut(&name)?.log_text().len();
        let up_since = now()?;
        file.cut()?;
        let started = Instant::now();
        let mut mended = None;
        while mended.is_none() && started.elapsed() < limits::MEND_TIME_MAX {
            self.rest(limits::LOOK_PAUSE / 2).await?;
            mended = file.is_whole().then(|| started.elapsed());
        }
        let said = self.network.child_mut(&name)?.log_text();
        let is_named = is_named(said.get(said_before..).unwrap_or_default(), file.blob);
        let injected = &mut self.injected;
        injected.files_cut += 1;
        injected.files_unnamed += u64::from(!is_named);
        injected.files_mended.push(mended);
        // It has to work on, as one that was started again has to.
        injected.up_since.insert(name.clone(), up_since);
        let then = match mended {
            Some(time) => format!("it is whole again after {} ms", time.as_millis()),
            None => "it stays so".to_owned(),
        };
        Ok(format!("cut a {extension} file of {name} (node {node}) short; {then}"))
    }

    /// Calls what nobody has, at the first node that serves and at the last one.
    pub(super) async fn call_unknown(&mut self) -> anyhow::Result<String> {
        let honest = self.network.members.iter().filter(|member| member.part.is_honest());
        let honest: Vec<Member> = honest.cloned().collect();
        for member in honest.first().into_iter().chain(honest.last()) {
            streams::call_unknown(&self.http, member, &mut self.injected.calls).await?;
        }
        Ok(format!("{} calls of what nobody has", self.injected.calls.unknown))
    }
}

/// Whether a node's log says of a model file that it is cut short.
fn is_named(said: &str, blob: BlobId) -> bool {
    let id = blob.to_string();
    said.lines().any(|line| line.contains("cut short") && line.contains(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_id_in_the_same_line() {
        let blob = BlobId([7; 32]);
        let line = format!("failed to use model a: /x/{blob}.gguf has 1 bytes: it was cut short");
        assert!(is_named(&format!("other\n{line}\n"), blob));
        assert!(!is_named(&line, BlobId([8; 32])));
        assert!(!is_named(&format!("{blob}\nit was cut short"), blob));
    }
}
