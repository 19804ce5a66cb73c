//! Real pages from packages of the system: which files, and which host serves which.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use openledger_wire::BlobId;
use reqwest::Url;

use crate::limits;

/// Folders of packages, by apt name. A `*` stands for a version.
const PACKAGES: [(&str, &str); 3] = [
    ("postgresql-doc", "/usr/share/doc/postgresql-doc-*/html"),
    ("debian-policy", "/usr/share/doc/debian-policy"),
    ("python3-doc", "/usr/share/doc/python3.*/html/library"),
];

/// Files that are navigation and not text.
const NAVIGATION: [&str; 4] = ["index", "genindex", "bookindex", "contents"];

/// One host with its slice of the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its name.
    pub host: String,
    /// Path of each page on the host, and its file.
    pub pages: Vec<(String, PathBuf)>,
    /// Its robots.txt; `None` for one with a pause and closed paths, as many sites have.
    pub robots: Option<String>,
}

/// The folders to serve from: those that were named, or those of the packages.
///
/// # Errors
/// When there is none, with the packages to install.
pub fn roots(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(missing) = named.iter().find(|root| !root.is_dir()) {
        bail!("serve {}: there is no such folder; correct --site-root", missing.display());
    }
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let found: Vec<PathBuf> = PACKAGES.iter().flat_map(|(_, pattern)| matching(pattern)).collect();
    if found.is_empty() {
        let names: Vec<&str> = PACKAGES.iter().map(|(name, _)| *name).collect();
        bail!(
            "find pages to serve: none of the packages {} is installed; run `apt-get install {}`, \
             or name a folder with HTML files by --site-root",
            names.join(", "),
            names.first().copied().unwrap_or_default()
        );
    }
    Ok(found)
}

fn matching(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = found
            .iter()
            .flat_map(|folder| match part.split_once('*') {
                None => vec![folder.join(part)],
                Some((start, end)) => children(folder)
                    .into_iter()
                    .filter(|path| {
                        let name = path.file_name().and_then(|name| name.to_str());
                        name.is_some_and(|name| name.starts_with(start) && name.ends_with(end))
                    })
                    .collect(),
            })
            .filter(|path| path.is_dir())
            .collect();
    }
    found
}

/// Deals `pages` pages out to hosts, round by round, so that each has a slice of its own.
///
/// # Errors
/// When the folders hold too few, with what to do.
pub fn deal(roots: &[PathBuf], pages: usize) -> anyhow::Result<Vec<Slice>> {
    if pages == 0 {
        bail!("serve pages: --pages must be at least 1");
    }
    let found = html_files(roots)?;
    if found.len() < pages {
        bail!(
            "serve {pages} pages: {} hold only {} of {} to {} kB; install postgresql-doc, \
             debian-policy and python3-doc, name more folders with --site-root, or lower --pages",
            roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", "),
            found.len(),
            limits::PAGE_BYTES_MIN / 1_024,
            limits::PAGE_BYTES_MAX / 1_024,
        );
    }
    let hosts = limits::HOSTS.min(pages);
    let mut slices: Vec<Slice> = (1..=hosts)
        .map(|n| Slice { host: format!("docs{n:02}.devnet"), pages: Vec::new(), robots: None })
        .collect();
    // Evenly over everything that is there, so that all packages are served from.
    for at in 0..pages {
        let Some(file) = found.get(at * found.len() / pages) else { continue };
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(slice) = slices.get_mut(at % hosts) {
            slice.pages.push((format!("/{}/{name}", at / hosts), file.clone()));
        }
    }
    Ok(slices)
}

/// Folders of somebody's own, each as one more host: every HTML file at its path, whatever its
/// size, and the folder's own robots.txt if it has one.
///
/// # Errors
/// A folder without pages or with too many of them.
pub fn sites(folders: &[PathBuf]) -> anyhow::Result<Vec<Slice>> {
    if folders.len() > limits::SITES_MAX {
        bail!("serve {} folders: --site takes {}", folders.len(), limits::SITES_MAX);
    }
    let numbered = folders.iter().zip(1u8..);
    numbered.map(|(folder, n)| site(folder, format!("site{n:02}.devnet"))).collect()
}

fn site(root: &Path, host: String) -> anyhow::Result<Slice> {
    if !root.is_dir() {
        bail!("serve {}: there is no such folder; correct --site", root.display());
    }
    let (mut pages, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        fs::read_dir(&folder).with_context(|| format!("read the folder {}", folder.display()))?;
        for path in children(&folder) {
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
            let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
            let is_html = matches!(end.to_ascii_lowercase().as_str(), "html" | "htm");
            if name.starts_with('.') {
                continue;
            } else if about.is_dir() {
                folders.push(path);
            } else if about.is_file() && is_html {
                pages.push((url_path(root, &path)?, path));
            }
        }
    }
    if pages.is_empty() || pages.len() > limits::SITE_PAGES_MAX {
        bail!(
            "serve {}: it holds {} HTML files, 1 to {} fit; name another folder by --site",
            root.display(),
            pages.len(),
            limits::SITE_PAGES_MAX
        );
    }
    pages.sort();
    let robots = match fs::read_to_string(root.join("robots.txt")) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context("read a folder's robots.txt"),
    };
    Ok(Slice { host, pages, robots })
}

/// The path of a file below a root as it is written in a URL.
fn url_path(root: &Path, file: &Path) -> anyhow::Result<String> {
    let below = file.strip_prefix(root).context("find a page in its folder")?;
    let parts = below.iter().map(|part| part.to_string_lossy().into_owned());
    let mut url = Url::parse("http://site.devnet/").context("write a URL")?;
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().extend(parts);
    }
    Ok(url.path().to_owned())
}

/// All URLs, a page of each host in turn, so that no host is asked for all of its pages at once.
#[must_use]
pub fn urls(slices: &[Slice]) -> Vec<String> {
    let longest = slices.iter().map(|slice| slice.pages.len()).max().unwrap_or(0);
    let at = |n: usize| {
        slices.iter().filter_map(move |slice| {
            let (path, _) = slice.pages.get(n)?;
            Some(format!("http://{}{path}", slice.host))
        })
    };
    (0..longest).flat_map(at).collect()
}

/// The pages below the folders in an order of their own. Packages hold copies under several names;
/// each content is served once, because the same bytes make one document only.
fn html_files(roots: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = roots.to_vec();
    while let Some(folder) = folders.pop() {
        fs::read_dir(&folder).with_context(|| format!("read the folder {}", folder.display()))?;
        for path in children(&folder) {
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            let sized = (limits::PAGE_BYTES_MIN..=limits::PAGE_BYTES_MAX).contains(&about.len());
            if about.is_dir() {
                folders.push(path);
            } else if about.is_file() && sized && is_page(&path) {
                found.insert(path);
            }
        }
    }
    let mut contents = BTreeSet::new();
    let mut pages = Vec::new();
    for path in found {
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        if contents.insert(BlobId::of(&bytes)) {
            pages.push(path);
        }
    }
    Ok(pages)
}

fn is_page(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let is_html = path.extension().is_some_and(|end| end == "html");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    is_html && stem.bytes().all(plain) && !NAVIGATION.contains(&stem)
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deeper")).unwrap();
        for n in 0..files {
            let below = if n % 2 == 0 { "deeper/" } else { "" };
            let text = format!("{n} {}", "x".repeat(20_000));
            fs::write(folder.path().join(format!("{below}page{n}.html")), text).unwrap();
        }
        fs::copy(folder.path().join("deeper/page0.html"), folder.path().join("copy.html")).unwrap();
        fs::write(folder.path().join("short.html"), b"short").unwrap();
        fs::write(folder.path().join("index.html"), vec![b'x'; 20_000]).unwrap();
        folder
    }

    #[test]
    fn every_host_serves_its_own_pages_and_every_url_is_there_once() {
        let folder = folder(70);
        let slices = deal(&[folder.path().to_owned()], 60).unwrap();
        assert_eq!(slices.len(), limits::HOSTS);
        assert!(slices.iter().all(|slice| slice.pages.len() == 3));
        let files: BTreeSet<_> =
            slices.iter().flat_map(|slice| slice.pages.iter().map(|(_, file)| file)).collect();
        assert_eq!(files.len(), 60);
        let urls = urls(&slices);
        assert_eq!(urls.len(), 60);
        assert_eq!(urls.iter().collect::<BTreeSet<_>>().len(), 60);
        assert!(urls[0].starts_with("http://docs01.devnet/0/"), "{}", urls[0]);
        assert!(urls[1].starts_with("http://docs02.devnet/0/"), "{}", urls[1]);
    }

    #[test]
    fn a_folder_of_ones_own_is_a_host_with_its_paths_and_its_robots_txt() {
        let folder = folder(3);
        fs::create_dir(folder.path().join("a b")).unwrap();
        fs::write(folder.path().join("a b/caf\u{e9}.htm"), "<p>short</p>").unwrap();
        fs::write(folder.path().join("robots.txt"), "User-agent: *\nAllow: /\n").unwrap();
        fs::write(folder.path().join(".hidden.html"), "<p>hidden</p>").unwrap();
        let slice = sites(&[folder.path().to_owned()]).unwrap().remove(0);
        assert_eq!(slice.host, "site01.devnet");
        assert!(slice.robots.as_ref().unwrap().contains("Allow: /"));
        let paths: Vec<&str> = slice.pages.iter().map(|(path, _)| path.as_str()).collect();
        assert!(paths.contains(&"/a%20b/caf%C3%A9.htm"), "{paths:?}");
        assert!(paths.contains(&"/index.html") && paths.contains(&"/deeper/page0.html"));
        assert!(!paths.iter().any(|path| path.contains("hidden")), "{paths:?}");
        let empty = tempfile::tempdir().unwrap();
        for wrong in [empty.path(), Path::new("/nowhere")] {
            let error = sites(&[wrong.to_owned()]).unwrap_err().to_string();
            assert!(error.contains("--site"), "{error}");
        }
    }

    #[test]
    fn too_few_pages_and_missing_folders_name_the_remedy() {
        let folder = folder(3);
        let error = deal(&[folder.path().to_owned()], 4).unwrap_err().to_string();
        assert!(error.contains("only 3") && error.contains("postgresql-doc"), "{error}");
        let error = roots(&[PathBuf::from("/nowhere")]).unwrap_err().to_string();
        assert!(error.contains("--site-root"), "{error}");
        assert_eq!(deal(&[folder.path().to_owned()], 2).unwrap().len(), 2);
    }
}
