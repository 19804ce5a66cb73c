//! The manifest of `installers/unify`: the head is ours, what follows the mark is written here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::plan::{self, Features, Foreign};
use crate::arrows::Arrows;

/// Where the manifest is, from the root.
pub const PATH: &str = "installers/unify/Cargo.toml";

/// The line after which everything is written by [`written`].
const MARK: &str =
    "# Written by `openledger-release unify --write`; do not edit below this line.\n";

/// Rounds until asking for features asks for no others; two were enough so far.
const ROUNDS_MAX: usize = 6;

/// What building one crate alone would build with other features than the workspace does.
pub fn missing(root: &Path) -> Result<Features> {
    let whole = plan::read(root, &["--workspace", "--all-targets"])?;
    let mut alone = vec![plan::read(root, &["--workspace", "--bins"])?];
    for folder in Arrows::read(root)?.0.0.keys() {
        let name = format!("openledger-{}", folder.rsplit('/').next().unwrap_or(folder));
        alone.push(plan::read(root, &["-p", &name])?);
        alone.push(plan::read(root, &["-p", &name, "--all-targets"])?);
    }
    Ok(plan::differing(&whole, &alone))
}

/// Writes the union below the manifest's mark, from nothing. Asking for a feature can bring in a
/// crate with others, so this repeats until nothing changes; `save` is called with each version.
pub fn refresh(root: &Path, save: impl Fn(&str) -> Result<()>) -> Result<usize> {
    let mut asked = Features::new();
    let old = std::fs::read_to_string(root.join(PATH)).with_context(|| format!("read {PATH}"))?;
    save(&written(&old, &asked)?)?;
    for _ in 0..ROUNDS_MAX {
        let more = missing(root)?;
        if more.is_empty() {
            return Ok(asked.len());
        }
        asked.extend(more);
        save(&written(&old, &asked)?)?;
    }
    anyhow::bail!("the union of features did not settle in {ROUNDS_MAX} rounds")
}

/// A manifest's head with these features below its mark.
pub fn written(old: &str, asked: &Features) -> Result<String> {
    let (head, _) = old.split_once(MARK).with_context(|| format!("{PATH} has lost its mark"))?;
    let mut text = format!("{head}{MARK}");
    for (host, section) in [(false, "dependencies"), (true, "build-dependencies")] {
        let here: BTreeMap<&Foreign, _> = asked.iter().filter(|(f, _)| f.host == host).collect();
        if here.is_empty() {
            continue;
        }
        // Developers' machines and CI build on Linux; elsewhere the union would only bring in
        // crates of this system.
        write!(text, "\n[target.'cfg(target_os = \"linux\")'.{section}]\n")?;
        for (foreign, features) in &here {
            // One version has one key in both sections.
            let same = asked.keys().filter(|other| other.name == foreign.name);
            let versions = same.map(|other| &other.version).collect::<BTreeSet<_>>().len();
            let Foreign { name, version, .. } = foreign;
            let version_plain = version.split('+').next().unwrap_or(version);
            let (key, package) = if versions > 1 {
                let key = format!("{name}-{}", version_plain.replace('.', "_"));
                (key, format!("package = \"{name}\", "))
            } else {
                (name.clone(), String::new())
            };
            let list: Vec<String> = features.iter().map(|f| format!("\"{f}\"")).collect();
            writeln!(
                text,
                "{key} = {{ {package}version = \"{version_plain}\", default-features = false, features = [{}] }}",
                list.join(", ")
            )?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(name: &str, version: &str, host: bool) -> Foreign {
        Foreign { name: name.to_owned(), version: version.to_owned(), host }
    }

    #[test]
    fn versions_and_sides_are_told_apart() {
        let old = format!("[package]\n{MARK}old\n");
        let features = |list: &[&str]| list.iter().map(|f| (*f).to_owned()).collect();
        let asked = Features::from([
            (foreign("syn", "1.0.109", true), features(&["full"])),
            (foreign("syn", "2.0.1", true), features(&[])),
            (foreign("toml", "0.9.8+spec-1.1.0", false), features(&["a", "b"])),
        ]);
        let text = written(&old, &asked).unwrap();
        assert!(text.starts_with(&format!("[package]\n{MARK}\n[target.")), "{text}");
        assert!(!text.contains("old"));
        for line in [
            "toml = { version = \"0.9.8\", default-features = false, features = [\"a\", \"b\"] }",
            "syn-1_0_109 = { package = \"syn\", version = \"1.0.109\", default-features = false, features = [\"full\"] }",
            "syn-2_0_1 = { package = \"syn\", version = \"2.0.1\", default-features = false, features = [] }",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(text.parse::<toml::Table>().is_ok());
        assert!(written("[package]\n", &asked).is_err());
    }
}
