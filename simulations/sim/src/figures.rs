//! The one way in which figures are shown, by every command that shows some.
//!
//! A figure may have a bar. Exact figures (counts, roots, parity) decide the exit code of checks;
//! timed ones are shown beside a peer measured in the same call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whether a figure repeats exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A count, a root, a parity: the same on every machine.
    Exact,
    /// A time or a rate.
    Timed,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What is measured.
    pub name: String,
    /// The value: a number or a hash.
    pub value: serde_json::Value,
    /// Its unit; empty for counts and hashes.
    pub unit: String,
    /// Exact or timed.
    pub kind: Kind,
    /// What it is compared with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<String>,
    /// The peer's value in the same call.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer_value: Option<serde_json::Value>,
    /// Ours divided by the peer's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ratio: Option<f64>,
    /// What it must be, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bar: Option<String>,
    /// Whether it meets the bar; true where there is none.
    pub ok: bool,
}

/// What a command shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The command's or benchmark's name.
    pub name: String,
    /// Cores, memory and processor.
    pub machine: BTreeMap<String, serde_json::Value>,
    /// The figures.
    pub figures: Vec<Figure>,
}

impl Figures {
    /// None yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), machine: machine(), figures: Vec::new() }
    }

    /// Adds a figure without a bar.
    pub fn show(
        &mut self,
        name: &str,
        value: impl Into<serde_json::Value>,
        unit: &str,
        kind: Kind,
    ) {
        self.figures.push(Figure {
            name: name.to_owned(),
            value: value.into(),
            unit: unit.to_owned(),
            kind,
            peer: None,
            peer_value: None,
            ratio: None,
            bar: None,
            ok: true,
        });
    }

    /// Adds a figure with a bar.
    pub fn hold(
        &mut self,
        name: &str,
        value: impl Into<serde_json::Value>,
        unit: &str,
        kind: Kind,
        bar: impl Into<String>,
        ok: bool,
    ) {
        self.show(name, value, unit, kind);
        if let Some(figure) = self.figures.last_mut() {
            figure.bar = Some(bar.into());
            figure.ok = ok;
        }
    }

    /// Adds a figure without a bar, beside what a peer gave in the same call.
    pub fn beside(
        &mut self,
        name: &str,
        value: impl Into<serde_json::Value>,
        unit: &str,
        kind: Kind,
        peer: &str,
        peer_value: impl Into<serde_json::Value>,
    ) {
        self.show(name, value, unit, kind);
        if let Some(figure) = self.figures.last_mut() {
            let peer_value = peer_value.into();
            let ours = figure.value.as_f64();
            let theirs = peer_value.as_f64().filter(|theirs| *theirs != 0.0);
            figure.ratio = ours.zip(theirs).map(|(ours, theirs)| rounded(ours / theirs));
            figure.peer = Some(peer.to_owned());
            figure.peer_value = Some(peer_value);
        }
    }

    /// Adds an exact count that must be at least `bar`.
    pub fn at_least(&mut self, name: &str, value: u64, bar: u64) {
        self.hold(name, value, "", Kind::Exact, format!(">= {bar}"), value >= bar);
    }

    /// Adds an exact value that must equal `bar`.
    pub fn equals(
        &mut self,
        name: &str,
        value: impl Into<serde_json::Value>,
        bar: impl Into<serde_json::Value>,
    ) {
        let (value, bar) = (value.into(), bar.into());
        let ok = value == bar;
        self.hold(name, value, "", Kind::Exact, format!("= {}", plain(&bar)), ok);
    }

    /// Whether every bar is met.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.figures.iter().all(|figure| figure.ok)
    }

    /// Lines for people.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut out = String::new();
        for figure in &self.figures {
            let mark = if figure.ok { "ok  " } else { "FAIL" };
            let bar = figure.bar.as_ref().map(|bar| format!("   (bar {bar})")).unwrap_or_default();
            let unit =
                if figure.unit.is_empty() { String::new() } else { format!(" {}", figure.unit) };
            let peer = figure.peer.as_ref().zip(figure.peer_value.as_ref());
            let peer = peer.map(|(peer, value)| format!("   ({}{unit}: {peer})", plain(value)));
            out.push_str(&format!(
                "{mark}  {:<52} {}{unit}{bar}{}\n",
                figure.name,
                plain(&figure.value),
                peer.unwrap_or_default()
            ));
        }
        out
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Thousandths are more than ratios of times repeat to.
fn rounded(ratio: f64) -> f64 {
    (ratio * 1_000.0).round() / 1_000.0
}

/// What the figures were measured on.
fn machine() -> BTreeMap<String, serde_json::Value> {
    let mut about = BTreeMap::new();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    about.insert("cores".to_owned(), cores.into());
    about.insert("os".to_owned(), std::env::consts::OS.into());
    about.insert("arch".to_owned(), std::env::consts::ARCH.into());
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    if let Some(model) = field(&read("/proc/cpuinfo"), "model name") {
        about.insert("processor".to_owned(), model.into());
    }
    if let Some(memory) = field(&read("/proc/meminfo"), "MemTotal") {
        about.insert("memory".to_owned(), memory.into());
    }
    about
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_beside_a_peers_has_a_ratio_where_there_is_one() {
        let mut figures = Figures::new("test");
        figures.beside("speed", 20.0, "tokens/s", Kind::Timed, "other", 60.0);
        figures.beside("misses", 3, "", Kind::Exact, "other", 0);
        assert_eq!((figures.figures[0].ratio, figures.figures[1].ratio), (Some(0.333), None));
        assert!(figures.ok());
        let lines = figures.lines();
        assert!(lines.contains(" 20.0 tokens/s   (60.0 tokens/s: other)\n"), "{lines}");
        assert!(lines.contains(" 3   (0: other)\n"), "{lines}");
    }
}
