//! Another client on the same registry: `oci-client`, which wkg is made with.

use std::fs;

use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::OciImageManifest;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::{Value, json};

use super::{Sample, Scene, by_digest};
use crate::support::registry::Registry;

const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const BUNDLE: &str = "application/vnd.twitcher.bundle.v1+json";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

fn client() -> Client {
    Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    })
}

fn reference(registry: &Registry, rest: &str) -> Reference {
    format!("{}/{rest}", registry.address()).parse().unwrap()
}

#[test]
fn another_client_pulls_the_component_by_tag() {
    let (registry, scene) = (Registry::start(), Scene::new());
    let pushed = scene.push(&format!("oci://{}/tools/hello:1.0.0", registry.address()));
    let at = reference(&registry, "tools/hello:1.0.0");
    // What wkg asks for, and what it then insists on.
    let image = block_on(client().pull(&at, &RegistryAuth::Anonymous, vec!["application/wasm"])).unwrap();
    let manifest = image.manifest.unwrap();
    assert_eq!(image.layers.len(), 1);
    assert!(image.layers[0].data == Sample::get().part("component.wasm"));
    assert_eq!(image.config.media_type, CONFIG);
    assert_eq!(
        manifest.media_type.as_deref(),
        Some("application/vnd.oci.image.manifest.v1+json")
    );
    assert!(by_digest(&pushed).ends_with(&image.digest.unwrap()));
    let config: Value = serde_json::from_slice(&image.config.data).unwrap();
    assert_eq!(
        (&config["architecture"], &config["os"]),
        (&json!("wasm"), &json!("wasip2"))
    );
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    assert_eq!(config["layerDigests"], json!([manifest.layers[0].digest]));
    let exports = config["component"]["exports"].as_array().unwrap();
    assert!(exports.contains(&json!("twitcher:action/handler@1.1.0")), "{exports:?}");
    let imports = config["component"]["imports"].as_array().unwrap();
    assert!(imports.contains(&json!("twitcher:action/log@1.1.0")), "{imports:?}");
    assert_eq!(config["component"]["target"], "twitcher:action/action@1.1.0");
}

#[test]
fn another_client_finds_what_refers_to_the_component() {
    let (registry, scene) = (Registry::start(), Scene::new());
    let pushed = scene.push(&format!("oci://{}/hello:1", registry.address()));
    let digest = by_digest(&pushed).rsplit_once('@').unwrap().1;
    let at = reference(&registry, &format!("hello@{digest}"));
    let client = client();
    block_on(async {
        client
            .store_auth_if_needed(&registry.address(), &RegistryAuth::Anonymous)
            .await;
        let index = client.pull_referrers(&at, Some(BUNDLE)).await.unwrap();
        let [entry] = index.manifests.as_slice() else {
            panic!("{index}");
        };
        let at = reference(&registry, &format!("hello@{}", entry.digest));
        let (artifact, _) = client.pull_image_manifest(&at, &RegistryAuth::Anonymous).await.unwrap();
        assert_eq!(artifact.artifact_type.as_deref(), Some(BUNDLE));
        assert_eq!(artifact.subject.unwrap().digest, digest);
        for layer in &artifact.layers {
            let path = &layer.annotations.as_ref().unwrap()["org.opencontainers.image.title"];
            let mut content = Vec::new();
            client.pull_blob(&at, layer, &mut content).await.unwrap();
            assert!(content == Sample::get().part(path), "{path}");
        }
        // The manifest, the signature and native code for two kinds of machines.
        assert_eq!(artifact.layers.len(), 4);
    });
}

/// Pushes an image of one layer, as other tools do.
fn push_other(registry: &Registry, rest: &str, config: &str, layer: &str) {
    let layers = [ImageLayer::new(
        Sample::get().part("component.wasm"),
        layer.to_owned(),
        None,
    )];
    let config = Config::new(b"{}".to_vec(), config.to_owned(), None);
    let mut manifest = OciImageManifest::build(&layers, &config, None);
    manifest.media_type = Some("application/vnd.oci.image.manifest.v1+json".to_owned());
    let at = reference(registry, rest);
    let client = client();
    block_on(client.push(&at, &layers, config, &RegistryAuth::Anonymous, Some(manifest))).unwrap();
}

#[test]
fn a_component_of_another_tool_is_no_bundle_but_can_be_pulled() {
    let (registry, scene) = (Registry::start(), Scene::new());
    push_other(&registry, "tools/hello:1", CONFIG, "application/wasm");
    let remote = format!("oci://{}/tools/hello:1", registry.address());
    let why = scene.fails(&format!("bundle pull {remote} --out out"));
    assert!(
        why.contains(&remote) && why.contains("a component, not a bundle: pull it with --component"),
        "{why}"
    );
    scene.ok(&format!("bundle pull {remote} --component --out out"));
    assert!(fs::read(scene.path("out/hello.wasm")).unwrap() == Sample::get().part("component.wasm"));
    // That also works for a bundle.
    scene.push(&remote);
    scene.ok(&format!("bundle pull {remote} --component --out more"));
    assert!(fs::read(scene.path("more/hello.wasm")).unwrap() == Sample::get().part("component.wasm"));
}

#[test]
fn other_things_in_a_registry_are_told_apart() {
    let (registry, scene) = (Registry::start(), Scene::new());
    push_other(
        &registry,
        "image:1",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar",
    );
    push_other(&registry, "layer:1", CONFIG, "application/vnd.oci.image.layer.v1.tar");
    let pushed = scene.push(&format!("oci://{}/hello:1", registry.address()));
    let index = by_digest(&pushed).rsplit_once("sha256:").unwrap().1;
    let none = "none of its 4 layers is of type application/wasm";
    for (rest, words, alone) in [
        (
            "image:1",
            "its configuration is of type application/vnd.oci.image.config.v1+json",
            "its layer is of type application/vnd.oci.image.layer.v1.tar",
        ),
        (
            "layer:1",
            "its layer is of type application/vnd.oci.image.layer.v1.tar",
            "its layer is of type application/vnd.oci.image.layer.v1.tar",
        ),
        (&format!("hello:sha256-{index}"), "it is an index of 1 images", none),
    ] {
        for (more, words) in [("", words), ("--component", alone)] {
            let why = scene.fails(&format!("bundle pull oci://{}/{rest} {more}", registry.address()));
            assert!(why.contains(words), "{why}");
        }
    }
}
