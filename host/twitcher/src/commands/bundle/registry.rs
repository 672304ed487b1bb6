//! `bundle push` and `bundle pull`.

use std::path::{Path, PathBuf};

use super::{BundleCommandError, install, standing_text};
use crate::args::BundlePullArguments;
use twitcher_files::replace::replace;
use twitcher_registry::{self as registry, Offer, Pushed, Remote};

/// Puts a bundle into a registry.
pub(super) fn push(file: &Path, remote: &Remote, plain_http: bool) -> Result<String, BundleCommandError> {
    let Pushed {
        manifest,
        digest,
        sent,
        present,
    } = registry::push(file, remote, plain_http)?;
    let (name, version) = (&manifest.name, &manifest.version);
    let note = match remote.name() == name {
        true => String::new(),
        false => format!("note: the repository is not called {name}, so pulling it needs --name {name}\n"),
    };
    Ok(format!(
        "{name} {version} is in the registry: {sent} files sent, {present} were there\n{note}{remote}\n{}\n",
        remote.at(digest)
    ))
}

/// Gets a bundle from a registry, to a file or into the store.
pub(super) fn pull(arguments: BundlePullArguments) -> Result<String, BundleCommandError> {
    let BundlePullArguments {
        remote,
        name,
        out,
        install: to_store,
        allow_downgrade,
        store,
        component,
        plain_http,
        trust,
    } = arguments;
    if component {
        return pull_component(&remote, &out, plain_http);
    }
    let offer = Offer::of(&remote, name.as_deref(), plain_http)?;
    let judged = trust.load()?.judge(offer.manifest_bytes(), offer.signature());
    let standing = judged.map_err(|refusal| BundleCommandError::Refused {
        bundle: remote.to_string(),
        refusal,
    })?;
    let standing = standing_text(&Ok(standing), offer.signature());
    let pulled = offer.remote();
    if to_store {
        let dir = tempfile::tempdir().map_err(|error| BundleCommandError::Io {
            file: std::env::temp_dir(),
            error,
        })?;
        let file = save(offer, &remote, dir.path())?;
        return Ok(format!("{pulled}\n{}", install(&file, store, allow_downgrade, &trust)?));
    }
    make_dir(&out)?;
    let file = save(offer, &remote, &out)?;
    Ok(format!("{pulled}\n{}\nsignature  {standing}\n", file.display()))
}

/// Writes a bundle into a directory under its own name, whole or not at all.
fn save(mut offer: Offer, remote: &Remote, dir: &Path) -> Result<PathBuf, BundleCommandError> {
    let file = dir.join(offer.manifest().file_name());
    replace(&file, 0o644, |to| offer.write(to)).map_err(|problem| problem.at(remote))?;
    Ok(file)
}

fn pull_component(remote: &Remote, out: &Path, plain_http: bool) -> Result<String, BundleCommandError> {
    let file = out.join(format!("{}.wasm", remote.name()));
    make_dir(out)?;
    let pulled = replace(&file, 0o644, |to| registry::component(remote, plain_http, to));
    let pulled = pulled.map_err(|problem| problem.at(remote))?;
    Ok(format!("{pulled}\n{}\n", file.display()))
}

fn make_dir(dir: &Path) -> Result<(), BundleCommandError> {
    std::fs::create_dir_all(dir).map_err(|error| BundleCommandError::Io {
        file: dir.to_owned(),
        error,
    })
}
