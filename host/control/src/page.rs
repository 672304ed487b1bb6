//! The status page: one file that loads nothing from anywhere else, and a policy that keeps it so.
//!
//! What the page shows was written by others (names of znodes, outputs of actions). Should any of it become markup all the same, the
//! policy lets no script run but the one whose hash it names, and lets nothing be sent to anywhere but here.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use ct_codecs::{Base64, Encoder as _};
use sha2::{Digest as _, Sha256};

use super::refusal::RequestRefusal;

/// The page, with its parts in their places.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = include_str!("page/index.html");
    let page = page.replace("/* @include fleet.css */", include_str!("page/fleet.css"));
    let page = page.replace("/* @include tiles.js */", include_str!("page/tiles.js"));
    page.replace("/* @include fleet.js */", include_str!("page/fleet.js"))
});

/// `/`.
pub(super) async fn serve() -> Result<Response, RequestRefusal> {
    Ok((headers(), Html(PAGE.as_str())).into_response())
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Made of letters, digits and punctuation: always a header's value.
    if let Ok(policy) = HeaderValue::from_str(&policy(&PAGE)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers
}

/// Lets the page's one script and one style work, and nothing else.
fn policy(page: &str) -> String {
    let source = |tag| inline(page, tag).map_or_else(|| "'none'".to_owned(), hash);
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        source("script"),
        source("style")
    )
}

/// What stands between a tag and its end, if there is exactly one.
fn inline<'a>(page: &'a str, tag: &str) -> Option<&'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let (_, rest) = page.split_once(&open)?;
    let (text, rest) = rest.split_once(&close)?;
    (!rest.contains(&open) && !rest.contains(&close)).then_some(text)
}

fn hash(text: &str) -> String {
    // An array of this size always can be encoded.
    let encoded = Base64::encode_to_string(Sha256::digest(text.as_bytes())).unwrap_or_default();
    format!("'sha256-{encoded}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_and_one_style_and_they_are_allowed() {
        let policy = policy(&PAGE);
        assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'sha256-"),
            "{policy}"
        );
        assert!(!PAGE.contains("/* @include "), "a part is missing");
        assert!(headers().contains_key(header::CONTENT_SECURITY_POLICY));
        for attribute in ["style=\"", "onclick=", "onload=", "src=\"http", "href=\"http"] {
            assert!(!PAGE.contains(attribute), "{attribute} does not work under the policy");
        }
    }

    #[test]
    fn hashes_are_those_that_browsers_compute() {
        // From the specification of Content Security Policy.
        assert_eq!(
            hash("alert('Hello, world.');"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
        assert_eq!(inline("<script>a</script>", "script"), Some("a"));
        for odd in [
            "<script>a</script><script>b</script>",
            "<script>a",
            "<script src=x></script>",
        ] {
            assert_eq!(inline(odd, "script"), None, "{odd}");
        }
        assert!(policy("nothing").contains("script-src 'none'"));
    }
}
