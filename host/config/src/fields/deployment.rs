//! The arguments of `Deploy(…)`: their names, what they mean to a reader, and what each accepts.
//!
//! As in `fields`, both file formats come here and the published JSON Schema is made from the same declaration. This module must
//! not know whether there is such a bundle.

use std::sync::Arc;

use super::arguments::arguments;
use super::declaration::{FieldType, fields};
use super::forms::{Called, Text, called};
use super::mismatch::{Mismatch, Refusal};
use crate::value::{Call, quoted};
use twitcher_model::deployment::{BUNDLE_NAME_MAX, is_bundle_name};
use twitcher_model::grant_syntax::PATH_MAX;
use twitcher_model::{BundleSource, Deployment, ZnodePath};

fields! {
    /// Bundles of which the znode's data chooses one, by its version, such as 1.2.0, or its digest, sha256:…. It is installed, if it is signed
    /// with a trusted key, and becomes the current version of its name; an older one too.
    struct DeployFields, published as "Deploy", required ["source"];

    /// Where the versions are: oci://REGISTRY/REPOSITORY, or an absolute path with {version} in the name of the file.
    source: Option<BundleSource> = None,

    /// What the bundle must be called. Default: as the last part of the repository; of a path, what stands before {version} in the name of the
    /// file, else the last part of the znode's path.
    name: Option<BundleName> = None,
}

/// What is meant for a watch of `znode`; or all that is wrong, each with the offset of its place.
pub(crate) fn read(call: &Call, znode: Option<&ZnodePath>) -> Result<Deployment, Vec<(u32, Mismatch)>> {
    let mut fields = DeployFields::default();
    let faults = arguments(call, ("Deploy", &NAMES), |name, value| fields.set(name, value));
    if !faults.is_empty() {
        return Err(faults);
    }
    let Some(source) = fields.source else {
        let hint = "it is the first argument of Deploy(…): oci://REGISTRY/REPOSITORY, or a path with {version}";
        return Err(vec![(
            call.at,
            Mismatch::new("source is missing").hint(hint.to_owned()),
        )]);
    };
    let by_znode = || znode?.as_str().rsplit('/').next();
    let implied = || source.name().or_else(by_znode).filter(|name| is_bundle_name(name));
    match fields.name.map(|name| name.0).or_else(|| implied().map(Arc::from)) {
        Some(name) => Ok(Deployment { source, name }),
        None => {
            let hint = "add name = \"…\": lower-case letters, digits, - and _".to_owned();
            let mismatch = Mismatch::new(format!(
                "source {} does not say what the bundle is called",
                quoted(&source.to_string())
            ));
            Err(vec![(call.at, mismatch.hint(hint))])
        }
    }
}

impl FieldType for BundleSource {
    type Form = Called<Text<Self>>;
    const FORM: Self::Form = called(
        "oci://REGISTRY/REPOSITORY, or an absolute path with {version} in the name of its file",
        Text::new(source)
            .most(PATH_MAX)
            .pattern(r"^(oci://[^/@]+/[^:@]+|/([^{]*/)?[^/{]*\{version\}[^/{]*)$"),
    );

    fn of(source: Self) -> Result<Self, Refusal> {
        Ok(source)
    }
}

fn source(text: &str) -> Result<BundleSource, Refusal> {
    let parsed: Result<BundleSource, _> = text.parse();
    parsed.map_err(|error| Refusal::wrong(format!("{} {error}", quoted(text))))
}

/// What a bundle is called.
#[derive(Debug, Clone)]
pub(crate) struct BundleName(Arc<str>);

impl FieldType for BundleName {
    type Form = Called<Text<Self>>;
    const FORM: Self::Form = called(
        "the name of a bundle: 1 to 64 lower-case letters, digits, - and _, the first a letter or digit",
        Text::new(name)
            .least(1)
            .most(BUNDLE_NAME_MAX)
            .pattern("^[a-z0-9][a-z0-9_-]*$"),
    );

    fn of(name: Self) -> Result<Self, Refusal> {
        Ok(name)
    }
}

fn name(text: &str) -> Result<BundleName, Refusal> {
    match is_bundle_name(text) {
        true => Ok(BundleName(text.into())),
        false => Err(Refusal::UNFIT),
    }
}
