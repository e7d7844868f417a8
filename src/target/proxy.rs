//! Which proxy requests go through, for people: the same rules as the client's own, in words.

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// Returns the proxy that requests to `base_url` go through, without its user name and password;
/// none for this machine, which is never asked through one.
pub fn proxy_for(base_url: &str) -> Option<String> {
    shown(&Matcher::from_system(), base_url)
}

fn shown(matcher: &Matcher, base_url: &str) -> Option<String> {
    if super::http::is_this_machine(base_url) {
        return None;
    }
    let proxy = matcher.intercept(&base_url.parse::<Uri>().ok()?)?;
    let (uri, known) = (
        proxy.uri(),
        proxy.basic_auth().is_some() || proxy.raw_auth().is_some(),
    );
    let secret = if known { "***@" } else { "" };
    Some(format!(
        "{}://{secret}{}",
        uri.scheme_str()?,
        uri.authority()?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_shown_without_its_secrets_and_only_where_it_is_used() {
        let matcher = Matcher::builder()
            .all("http://ada:pa55@proxy.example:3128/path")
            .no("inside.example")
            .build();
        let shown = |url| shown(&matcher, url);
        let words = "http://***@proxy.example:3128";
        assert_eq!(shown("https://api.workos.com").as_deref(), Some(words));
        assert_eq!(shown("https://inside.example"), None);
        for here in [
            "http://127.0.0.1:4100",
            "http://localhost:1",
            "https://[::1]:4",
        ] {
            assert_eq!(shown(here), None, "{here}");
        }
    }

    #[test]
    fn a_proxy_without_secrets_is_shown_as_it_is() {
        let matcher = Matcher::builder().https("proxy.example:8080").build();
        let shown = shown(&matcher, "https://api.workos.com");
        assert_eq!(shown.as_deref(), Some("http://proxy.example:8080"));
    }
}
