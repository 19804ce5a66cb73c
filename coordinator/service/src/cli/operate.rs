//! `campaign add` and `status`: through the API of a running coordinator.

use std::path::Path;

use anyhow::Context as _;

use super::remote::Remote;
use super::{AddArgs, Where, print};
use crate::config::read_bounded;
use crate::http::CampaignRequest;
use crate::limits;

pub(super) async fn status(at: Where) -> anyhow::Result<()> {
    let remote = Remote::of(&at)?;
    print(&remote.get(&remote.url("status")).await?, at.json)
}

pub(super) async fn add_campaign(args: AddArgs) -> anyhow::Result<()> {
    let remote = Remote::of(&args.at)?;
    let json = args.at.json;
    let request = match &args.file {
        Some(file) => read_campaign(file)?,
        None => campaign_of(args)?,
    };
    print(&remote.post(&remote.url("campaigns"), &request).await?, json)
}

fn read_campaign(file: &Path) -> anyhow::Result<CampaignRequest> {
    let text = read_bounded(file, limits::CAMPAIGN_BYTES_MAX as u64)?;
    let failed = || format!("read the campaign {}", file.display());
    if file.extension().is_some_and(|end| end == "json") {
        serde_json::from_str(&text).with_context(failed)
    } else {
        toml::from_str(&text).with_context(failed)
    }
}

fn campaign_of(args: AddArgs) -> anyhow::Result<CampaignRequest> {
    let urls = args.urls.context("find the URLs: give --urls FILE")?;
    let text = read_bounded(&urls, limits::URLS_FILE_BYTES_MAX)?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(CampaignRequest {
        name: args.name.context("name the campaign: give --name")?,
        contact: args.contact.context("name a contact: give --contact")?,
        terms: args.terms,
        budget: args.budget.context("set a budget: give --budget")?,
        replicas: args.replicas,
        urls: lines.map(str::to_owned).collect(),
        infer: Vec::new(),
    })
}
