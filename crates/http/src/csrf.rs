//! Whether another site may have caused a request that carries cookies.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method, Uri};

use crate::problem::Problem;
use crate::settings::Settings;

/// Passes safe methods, and unsafe ones that this site or an allowed origin sent.
pub(crate) fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    settings: &Settings,
) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if is_ours(uri, headers, settings) {
        Ok(())
    } else {
        Err(Problem::CsrfFailed)
    }
}

fn is_ours(uri: &Uri, headers: &HeaderMap, settings: &Settings) -> bool {
    let Ok(site) = only(headers, "sec-fetch-site") else {
        return false;
    };
    match site {
        Some("same-origin" | "none") => return true,
        Some("same-site") if settings.allow_same_site => return true,
        _ => {}
    }
    match only(headers, ORIGIN.as_str()) {
        Ok(Some(origin)) => {
            settings
                .allowed_origins
                .iter()
                .any(|allowed| allowed == origin)
                || is_this_site(origin, uri, headers, settings)
        }
        Ok(None) => site.is_none() && !settings.csrf_strict,
        Err(()) => false,
    }
}

/// The one value of a header; two are an attempt to be read in two ways.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Behind a proxy the scheme is not known here: where cookies are `Secure`, only https will do, and
/// http on the machine itself.
fn is_this_site(origin: &str, uri: &Uri, headers: &HeaderMap, settings: &Settings) -> bool {
    let host = only(headers, HOST.as_str()).ok().flatten();
    let host = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let (Some((scheme, site)), Some(host)) = (origin.split_once("://"), host) else {
        return false;
    };
    let same = site.eq_ignore_ascii_case(host)
        || site.eq_ignore_ascii_case(without_default_port(scheme, host));
    let encrypted =
        scheme == "https" || scheme == "http" && (!settings.cookie_secure || is_local(host));
    same && encrypted
}

fn without_default_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
}

fn is_local(host: &str) -> bool {
    // The colons of an IPv6 address are within brackets, its port is behind them.
    let name = match host.rsplit_once(':') {
        Some((name, _)) if !host.ends_with(']') => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(headers: &[(&'static str, &str)], settings: &Settings) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        check(&Method::POST, &Uri::from_static("/x"), &map, settings).is_ok()
    }

    #[test]
    fn the_machine_itself_has_three_names_with_a_port_or_without() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(
                is_local(host) && is_local(&format!("{host}:8080")),
                "{host}"
            );
        }
        for host in [
            "",
            "[::1",
            "::1",
            "[::2]",
            "[fe80::1]:80",
            "localhost.example",
            "1.0.0.127",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn who_may_send_an_unsafe_request() {
        let plain = Settings::default();
        let open = Settings {
            allowed_origins: vec!["https://app.example".into()],
            allow_same_site: true,
            ..Settings::default()
        };
        let strict = Settings {
            csrf_strict: true,
            ..Settings::default()
        };
        let host = ("host", "api.example");
        assert!(passes(&[host], &plain));
        assert!(!passes(&[host], &strict));
        assert!(passes(&[host, ("sec-fetch-site", "same-origin")], &strict));
        assert!(passes(&[host, ("sec-fetch-site", "none")], &plain));
        assert!(!passes(&[host, ("sec-fetch-site", "same-site")], &plain));
        assert!(passes(&[host, ("sec-fetch-site", "same-site")], &open));
        assert!(!passes(&[host, ("sec-fetch-site", "cross-site")], &plain));
        let cross = ("sec-fetch-site", "cross-site");
        assert!(passes(
            &[host, cross, ("origin", "https://app.example")],
            &open
        ));
        assert!(!passes(
            &[host, cross, ("origin", "https://app.example.evil")],
            &open
        ));
        assert!(passes(&[host, ("origin", "https://api.example")], &plain));
        assert!(!passes(&[host, ("origin", "http://api.example")], &plain));
        assert!(!passes(&[host, ("origin", "null")], &plain));
        assert!(passes(
            &[
                ("host", "localhost:8080"),
                ("origin", "http://localhost:8080")
            ],
            &plain
        ));
        let twice = [
            host,
            ("origin", "https://evil.example"),
            ("origin", "https://api.example"),
        ];
        assert!(!passes(&twice, &plain));
    }
}
