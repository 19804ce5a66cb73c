//! Links of Markdown files that lead to files of the tree.

use super::files::{File, Tree};
use super::rules::{Finding, finding};

pub(super) fn check(file: &File, tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in targets(line) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains(':') {
                continue;
            }
            let leads = resolve(&file.path, path);
            if !leads.is_some_and(|leads| leads.is_empty() || tree.paths.contains(&leads)) {
                findings.push(finding(
                    file,
                    number,
                    format!("links to {target}, which is not there"),
                ));
            }
        }
    }
    findings
}

/// What stands in the brackets of `[text](target)`.
fn targets(line: &str) -> Vec<&str> {
    let behind = line.split("](").skip(1);
    behind.filter_map(|rest| rest.split_once(')').map(|(target, _)| target)).collect()
}

/// The path from the root that a relative link of a file leads to; `None` out of the tree.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> =
        if link.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_files_or_elsewhere() {
        let tree = Tree {
            paths: ["README.md", "node", "node/app", "node/app/README.md"]
                .map(str::to_owned)
                .to_vec(),
            ..Tree::default()
        };
        let found = |path: &str, text: &str| {
            check(&File { path: path.to_owned(), text: text.to_owned() }, &tree).len()
        };
        for good in [
            "[a](node/app/README.md)",
            "[a](node)",
            "[a](node/)",
            "[a](https://a.example/x)",
            "[a](#part)",
            "[a](README.md#part)",
            "no link",
            "```\n[a](gone)\n```",
        ] {
            assert_eq!(found("README.md", good), 0, "{good}");
        }
        assert_eq!(found("node/app/README.md", "[up](../../README.md) and [here](.)"), 0);
        assert_eq!(found("README.md", "[a](node) and [b](gone.md)"), 1);
        assert_eq!(found("README.md", "[a](../outside.md)"), 1);
    }
}
