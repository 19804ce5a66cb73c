//! Figures as text for Prometheus (exposition format 0.0.4). Off unless configured.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::{Api, Failed, api};

/// `GET /metrics`.
pub(super) async fn text(State(state): State<Api>) -> Result<impl IntoResponse, Failed> {
    let view = api::stats_view(&state).await?;
    let (stats, documents) = (&view.stats, &view.documents.counts);
    let gauges = [
        ("openledger_connected_nodes", "Nodes on the link.", view.connected as u64),
        ("openledger_tasks_open", "Unfinished tasks.", view.tasks_open as u64),
        ("openledger_proofs_waiting", "Proofs receipted and not judged.", stats.waiting),
        ("openledger_documents_waiting", "Documents still to be fetched.", documents.waiting),
        (
            "openledger_documents_duplicates",
            "Collected documents that are near-duplicates.",
            documents.duplicates,
        ),
    ];
    let counters = [
        ("openledger_receipts_total", "Receipts given.", stats.receipts),
        ("openledger_leases_total", "Leases given.", stats.leases),
        ("openledger_leases_absent_total", "Leases that nobody answered.", stats.absent),
        ("openledger_points_total", "Points awarded.", stats.points),
        ("openledger_epochs_closed_total", "Epochs closed.", stats.epochs_closed),
        ("openledger_urls_refined_total", "Distinct URLs refined.", stats.urls_refined),
        (
            "openledger_answers_total",
            "Inference tasks with an accepted answer.",
            stats.answers_accepted,
        ),
        (
            "openledger_proofs_first_by_gossip_total",
            "Proofs that gossip brought first.",
            view.proofs_first_seen_by_gossip,
        ),
        (
            "openledger_documents_collected_total",
            "Documents fetched from peers and verified.",
            documents.collected,
        ),
        ("openledger_documents_bytes_total", "Bytes of collected documents.", documents.bytes),
        (
            "openledger_documents_filtered_total",
            "Pages that were refined and held no document.",
            documents.filtered,
        ),
    ];
    let mut text = String::new();
    let rows = gauges.iter().map(|row| ("gauge", row));
    for (kind, (name, help, value)) in rows.chain(counters.iter().map(|row| ("counter", row))) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    let name = "openledger_documents_missing";
    let _ = writeln!(text, "# HELP {name} Documents that were not delivered or were refused.");
    let _ = writeln!(text, "# TYPE {name} gauge");
    for (reason, count) in &documents.reasons {
        let _ = writeln!(text, "{name}{{reason=\"{reason}\"}} {count}");
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}
