//! Whether another site may have caused a request that carries cookies.

use doorward_core::{CsrfKind, CsrfValue};

use crate::asked::Asked;
use crate::problem::Problem;
use crate::settings::{DoubleSubmit, Settings};

/// Passes safe methods, and unsafe ones that this site or an allowed origin sent.
pub(crate) fn check(asked: &Asked<'_>, settings: &Settings) -> Result<(), Problem> {
    if is_safe(asked.method) || is_ours(asked, settings) {
        Ok(())
    } else {
        Err(Problem::CsrfFailed)
    }
}

pub(crate) fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

fn is_ours(asked: &Asked<'_>, settings: &Settings) -> bool {
    let Ok(site) = asked.headers.only("sec-fetch-site") else {
        return false;
    };
    match site {
        Some(b"same-origin" | b"none") => return true,
        Some(b"same-site") if settings.allow_same_site => return true,
        _ => {}
    }
    match asked.headers.only("origin") {
        Ok(Some(origin)) => {
            std::str::from_utf8(origin).is_ok_and(|origin| is_allowed(origin, asked, settings))
        }
        Ok(None) => site.is_none() && !settings.csrf_strict,
        Err(_) => false,
    }
}

fn is_allowed(origin: &str, asked: &Asked<'_>, settings: &Settings) -> bool {
    let mut allowed = settings.allowed_origins.iter();
    allowed.any(|allowed| allowed == origin) || is_this_site(origin, asked, settings)
}

/// Behind a proxy the scheme is not known here: where cookies are `Secure`, only https will do, and
/// http on the machine itself.
fn is_this_site(origin: &str, asked: &Asked<'_>, settings: &Settings) -> bool {
    let host = asked.headers.only("host").ok().flatten();
    let host = host.and_then(|host| std::str::from_utf8(host).ok());
    let (Some((scheme, site)), Some(host)) = (origin.split_once("://"), host.or(asked.authority))
    else {
        return false;
    };
    let same = site.eq_ignore_ascii_case(host)
        || site.eq_ignore_ascii_case(without_default_port(scheme, host));
    let encrypted =
        scheme == "https" || scheme == "http" && (!settings.cookie_secure || is_local(host));
    same && encrypted
}

/// Passes what repeats `value`, that of the token which came by cookie, and methods that need not.
/// It is compared with the token, not with the cookie beside it: another site of the same domain
/// can plant cookies, but makes no token.
pub(crate) fn check_submitted(
    asked: &Asked<'_>,
    kind: CsrfKind,
    value: Option<&CsrfValue>,
    settings: &Settings,
) -> Result<(), Problem> {
    let asks = settings.double_submit.as_ref();
    let Some(double_submit) = asks.filter(|own| own.applies(asked.method)) else {
        return Ok(());
    };
    let sent = submitted(asked, kind, double_submit);
    match (value, sent) {
        (Some(value), Some(sent)) if value.is(sent) => Ok(()),
        _ => Err(Problem::CsrfFailed),
    }
}

fn submitted<'a>(
    asked: &Asked<'a>,
    kind: CsrfKind,
    double_submit: &DoubleSubmit,
) -> Option<&'a [u8]> {
    let name = double_submit.names(kind).header_name.to_ascii_lowercase();
    let in_header = asked.headers.only(&name).ok()?;
    let in_form = asked.body.csrf.filter(|_| double_submit.check_form);
    in_header
        .filter(|value| !value.is_empty())
        .or(in_form.map(str::as_bytes))
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
    use crate::asked::{Headers, InBody};

    fn asked<'a>(pairs: &'a [(&'a str, &'a [u8])]) -> Asked<'a> {
        Asked {
            method: "POST",
            query: None,
            authority: None,
            headers: Headers::Pairs(pairs),
            body: InBody::default(),
        }
    }

    fn passes(headers: &[(&str, &str)], settings: &Settings) -> bool {
        let pairs: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        check(&asked(&pairs), settings).is_ok()
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
