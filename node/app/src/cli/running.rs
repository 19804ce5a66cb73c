//! Commands that talk to a running node.

use super::Session;
use super::args::Which;
use super::out::table;
use crate::control::{Client, ModeOf, PerNetwork};
use crate::node::{Mode, Status};
use crate::routing::CallCounts;
use crate::serving::UpstreamView;
use crate::time;

/// `openledger status`.
pub(super) async fn status(session: &Session, which: &Which) -> anyhow::Result<()> {
    let client = Client::of(&session.data)?;
    let all: PerNetwork<Status> = client.get_of("status", which.network.as_deref()).await?;
    session.out.show(&all, |all| all.0.iter().map(status_text).collect::<Vec<_>>().join("\n"))
}

/// `openledger pause|resume|finish|stop`.
pub(super) async fn mode(session: &Session, path: &str, which: &Which) -> anyhow::Result<()> {
    let client = Client::of(&session.data)?;
    let all: PerNetwork<ModeOf> = client.post_of(path, which.network.as_deref()).await?;
    session.out.show(&all, |all| match all.0.as_slice() {
        [one] => format!("the node is {}", one.mode.name()),
        many => {
            let line = |one: &ModeOf| format!("in {} the node is {}", one.network, one.mode.name());
            many.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    })
}

fn calls_text(calls: &CallCounts) -> String {
    format!(
        "{} asked for: {} here, {} at peers, {} taken up elsewhere, {} lost; {} of peers answered, {} turned away",
        calls.asked,
        calls.here,
        calls.forwarded,
        calls.resumed,
        calls.lost,
        calls.for_peers,
        calls.turned_away
    )
}

fn upstream_text(one: &UpstreamView, now: openledger_wire::UnixMs) -> String {
    let mut text = format!("{} at {}: ", one.name, one.url);
    text += &match (&one.problem, one.heard) {
        (Some(problem), _) => format!("no list of models: {problem}"),
        (None, None) => "not asked yet".to_owned(),
        (None, Some(at)) => format!(
            "{} and {} adapters, {} ago; {} calls",
            one.models.join(", "),
            one.adapters,
            time::span(now.0.saturating_sub(at.0)),
            one.calls
        ),
    };
    text + " (class upstream: no tasks, fees only)"
}

fn status_text(status: &Status) -> String {
    let now = time::now();
    let ago = |at: openledger_wire::UnixMs| time::span(now.0.saturating_sub(at.0));
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let link = &status.link;
    let link = match (link.used, link.connected, &link.problem) {
        _ if status.mode == Mode::Stopping => "closed".to_owned(),
        (false, ..) => "not used (gossip only)".to_owned(),
        (_, true, _) => format!("connected for {}, epoch {}", ago(link.since), link.epoch),
        (_, false, Some(problem)) => format!("down for {}: failed to {problem}", ago(link.since)),
        (_, false, None) => "connecting".to_owned(),
    };
    let totals = &status.totals;
    let mut rows = vec![
        row(
            "node",
            format!(
                "{} ({}), {} for {}",
                status.node.short(),
                status.network,
                status.mode.name(),
                ago(status.since)
            ),
        ),
        row("account", status.account.short()),
        row("link", link),
        row("peers", format!("{}", status.peers)),
        row("offers", status.offers.join(", ")),
        row(
            "work",
            format!(
                "{} in hand; since the start {} pages, {} documents, {} prompts, {} inputs from peers",
                status.work.in_hand,
                status.work.pages,
                status.work.documents,
                status.work.inferences,
                status.work.inputs_from_peers
            ),
        ),
        row(
            "models",
            format!(
                "{} bases, {} adapters; since the start {} from peers, {} calls answered",
                status.models.bases,
                status.models.adapters,
                status.models.models_from_peers,
                status.models.calls_local
            ),
        ),
        row("engine", status.engine.to_string()),
    ];
    rows.extend(status.upstreams.iter().map(|one| row("upstream", upstream_text(one, now))));
    rows.extend([
        row("calls", calls_text(&status.calls)),
        row(
            "ever",
            format!(
                "{} leases, {} accepted, {} rejected, {} not counted, {} given back, {} missed",
                totals.leased,
                totals.accepted,
                totals.rejected,
                totals.inconclusive,
                totals.declined,
                totals.expired
            ),
        ),
        row("points", format!("{}", totals.points)),
    ]);
    if let Some(earnings) = &status.earnings {
        let account = &earnings.account;
        rows.push(row("OPEN", format!("{} earned by epoch {}", account.cumulative, account.epoch)));
    }
    for warning in &status.warnings {
        rows.push(row("warning", warning.clone()));
    }
    table(&rows)
}
