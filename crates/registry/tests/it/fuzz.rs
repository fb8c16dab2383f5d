//! Damaged questions for a login (`WWW-Authenticate`): no panic, nothing slow, and what is understood means the same
//! when it is asked in plain words.
//!
//! The example `fuzz` is the same for minutes.

use cooper_registry::{Challenge, Scheme};
use cooper_tests::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[Target {
    name: "authenticate",
    samples: questions,
    words: &["Bearer ", "Basic ", "Digest ", "realm=", "scope=", "\\\"", ",", " = ", "=", "\"\"", "\u{e9}"],
    check: authenticate,
}];

fn questions() -> Vec<Vec<u8>> {
    [
        r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push repository:c:pull",error="invalid_token""#,
        r#"Basic realm="a \"quoted\" one", Bearer realm=x , service = "y""#,
        r#"Negotiate dGVzdA==, Basic realm="x""#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn authenticate(bytes: &[u8]) -> Result<bool, String> {
    let text = String::from_utf8_lossy(bytes);
    let found = Challenge::parse([&*text]);
    for challenge in &found {
        let quoted = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        let scopes: Vec<_> = challenge.scopes.iter().map(String::as_str).collect();
        let plain = format!(
            "{} realm={},service={},scope={},error={}",
            if challenge.scheme == Scheme::Basic { "Basic" } else { "Bearer" },
            quoted(&challenge.realm),
            quoted(&challenge.service),
            quoted(&scopes.join(" ")),
            quoted(&challenge.error),
        );
        let again = Challenge::parse([&*plain]);
        if again != [challenge.clone()] {
            return Err(format!("{challenge:?} is asked as `{plain}` and understood as {again:?}"));
        }
        // For people and for stores of logins; nothing may trip over it.
        challenge.repositories().for_each(drop);
    }
    Ok(!found.is_empty())
}

#[test]
fn damaged_questions() {
    for target in TARGETS {
        cooper_tests::fuzz::sample(target, 20_000);
    }
}
