//! `openledger receipts`: each task from lease to payout.

use anyhow::Context as _;
use openledger_outbox::{Judge, Outbox, Query, Setup};
use openledger_wire::NodeKey;

use super::Session;
use super::args::Which;
use super::out::table;
use crate::control::{Client, ClientError, TaskView, newest, task_view};
use crate::identity::Keyring;
use crate::network::Network;
use crate::node::outbox_path;
use crate::time;

/// `openledger receipts [TASK]`.
pub(super) async fn receipts(
    session: &Session,
    which: &Which,
    task: Option<String>,
    max: usize,
) -> anyhow::Result<()> {
    let tasks = tasks(session, which.network.as_deref(), task.as_deref(), max).await?;
    session.out.show(&tasks, |tasks| match (tasks.as_slice(), &task) {
        ([], Some(prefix)) => format!("no task of this node begins with {prefix}"),
        ([], None) => "no tasks yet; the next round may bring some".to_owned(),
        ([one], Some(_)) => whole(one),
        _ => list(tasks),
    })
}

/// Tasks of one network or of all, from the running node, or from outboxes where none runs.
pub(super) async fn tasks(
    session: &Session,
    network: Option<&str>,
    task: Option<&str>,
    max: usize,
) -> anyhow::Result<Vec<TaskView>> {
    if let Some(task) = task
        && (task.is_empty() || !task.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        anyhow::bail!("find task {task:?}: a task id is written in hexadecimal digits");
    }
    let prefix = task.map(str::to_lowercase);
    let query = prefix.as_ref().map(|task| format!("&task={task}")).unwrap_or_default();
    let path = format!("tasks?max={max}{query}");
    let asked = async { Client::of(&session.data)?.get_of(&path, network).await };
    match asked.await {
        Ok(tasks) => Ok(tasks),
        Err(ClientError::NotRunning(_)) => stored(session, network, prefix, max),
        Err(error) => Err(error.into()),
    }
}

/// Reads the outboxes; nothing runs that has them open.
fn stored(
    session: &Session,
    network: Option<&str>,
    task: Option<String>,
    max: usize,
) -> anyhow::Result<Vec<TaskView>> {
    let public = Keyring::public(&session.data)?;
    let mut found = Vec::new();
    let names = match network {
        Some(name) => vec![name.to_owned()],
        None => Network::known(&session.data),
    };
    for name in names {
        let network = Network::find(&session.data, Some(&name))?;
        let path = outbox_path(&network, public.node);
        if !path.is_file() {
            continue;
        }
        let judge = Judge {
            network: network.profile.network(),
            domain: network.profile.domain(),
            coordinator: network.profile.coordinator.settlement,
            node: public.node,
        };
        // Reading signs nothing.
        let key = NodeKey::from_seed(&[0; 32]);
        let outbox = Outbox::open(path, Setup { judge, key }).context("read the outbox")?;
        let query = Query { task: task.clone(), before: None, rows_max: max };
        let entries = outbox.history(&query)?;
        found.extend(entries.iter().map(|entry| task_view(network.name(), entry, task.is_some())));
    }
    Ok(newest(found, max))
}

fn list(tasks: &[TaskView]) -> String {
    let several =
        tasks.iter().any(|task| tasks.first().is_some_and(|first| first.network != task.network));
    let row = |task: &TaskView| {
        let at = task.milestones.first().map(|first| time::utc(first.at)).unwrap_or_default();
        let mut cells = if several { vec![task.network.clone()] } else { Vec::new() };
        cells.extend([
            task.task.short(),
            at,
            task.kind.clone(),
            task.stage.name().to_owned(),
            if task.points.0 > 0 { format!("+{}", task.points) } else { String::new() },
            task.subject.chars().take(60).collect(),
            task.sentence.clone(),
        ]);
        cells
    };
    let rows: Vec<_> = tasks.iter().map(row).collect();
    table(&rows)
}

fn whole(task: &TaskView) -> String {
    let mut rows = vec![
        vec!["task".to_owned(), format!("{} (wave {})", task.task, task.wave)],
        vec!["network".to_owned(), task.network.clone()],
        vec!["what".to_owned(), format!("{} {} as {}", task.kind, task.subject, task.role)],
        vec!["stage".to_owned(), format!("{}: {}", task.stage, task.sentence)],
    ];
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            rows.push(vec![name.to_owned(), value]);
        }
    };
    line("commitment", task.commitment.map(|id| id.to_string()));
    line("proof", task.proof.map(|id| id.to_string()));
    line(
        "receipt",
        task.receipt.as_ref().map(|receipt| {
            let batch = &receipt.batch;
            format!(
                "signed at log height {}, counts by epoch {}, signature {}",
                batch.log_height, batch.count_by, receipt.signature
            )
        }),
    );
    line(
        "verdict",
        task.signed_verdict.as_ref().map(|verdict| {
            let batch = &verdict.batch;
            format!(
                "batch {} of epoch {}, signature {}",
                batch.number, batch.epoch, verdict.signature
            )
        }),
    );
    for milestone in &task.milestones {
        rows.push(vec![milestone.stage.name().to_owned(), time::utc(milestone.at)]);
    }
    table(&rows)
}
