//! Whether there is a Doorward, and how it is reached.

use super::super::finding::{Finding, Kind, Level, Subject, kinds};
use super::super::seen::{Plain, Seen, Stopped};
use super::super::tls::Certificate;

kinds! {
    "connection" "the API answers where it should, and only there";
    UNREACHABLE Error "unreachable"
        "nothing else can be looked at"
        "check the URL, DNS, the firewall, and that the server runs (`/readyz` on its operator listener)";
    REDIRECTED Error "redirected"
        "a redirect is not followed: browsers send no body and no preflight through one"
        "give the URL that it leads to, and have pages use that one";
    NOT_DOORWARD Error "not_doorward"
        "nothing else can be looked at"
        "give the API's own URL, or `--prefix`: its `url_prefix` (Flask: the prefix of `Doorward(...)`)";
    NO_DESCRIPTION Note "no_description"
        "names of cookies and mounted routes are unknown, and checks that need them are left out"
        "let `/openapi.json` through where it is no secret";
    UNANSWERED Error "unanswered"
        "a request that should be answered was not"
        "look into the logs of the proxy and the server for it";
    TLS Ok "tls"
        "the certificate verifies"
        "";
    NO_TLS Error "no_tls"
        "passwords and tokens can be read and changed on the way, and browsers drop Secure cookies"
        "serve by https: `tls_cert_file` and `tls_key_file`, or a proxy with TLS in front";
    LOGIN_WITHHELD Note "login_withheld"
        "the name and the password would have gone in the clear"
        "serve by https; where the network is your own, use `--insecure`";
    CERTIFICATE_UNTRUSTED Error "certificate_untrusted"
        "browsers refuse it, and so does this command before it sends anything"
        "mend the certificate; for an authority of your own name its root by SSL_CERT_FILE, or use `--insecure`";
    CERTIFICATE_ACCEPTED Warning "certificate_accepted"
        "`--insecure` accepted a certificate that browsers refuse: anybody may have answered"
        "mend the certificate; for an authority of your own name its root by SSL_CERT_FILE";
    CERTIFICATE_EXPIRES Warning "certificate_expires"
        "once it has expired browsers refuse the site"
        "renew it; the server reads `tls_cert_file` again by itself";
    TLS_OLD Note "tls_old"
        "TLS 1.2 is still sound, but costs another round trip and shows the certificate to all on the way"
        "allow TLS 1.3 at the proxy";
    PLAIN_HTTP Error "plain_http_served"
        "who types the name without https sends everything in the clear"
        "answer http:// with a redirect to https, or not at all";
    PLAIN_REDIRECT Warning "plain_http_misdirected"
        "http:// should lead to https of the same host, at once"
        "redirect http:// to https:// of the same host";
    HSTS_MISSING Warning "hsts_missing"
        "a browser's first request may go by http, where it can be caught (OWASP ASVS 5.0 V3.4.1)"
        "set `hsts`, or have the proxy add `Strict-Transport-Security: max-age=31536000; includeSubDomains`";
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "other subjects are not always looked at"
)]
fn look(seen: &Seen) -> Option<Vec<Finding>> {
    let mut found = Vec::new();
    found.extend(stopped(seen));
    found.extend(tls(seen));
    found.extend(plain(seen));
    if seen.stopped.is_none() {
        found.extend(answered(seen));
        found.extend(hsts(seen));
    }
    Some(found)
}

fn stopped(seen: &Seen) -> Option<Finding> {
    let at = &seen.target;
    Some(match seen.stopped.as_ref()? {
        Stopped::Unreachable(why) => UNREACHABLE.seen(format!("{at}: {why}")),
        Stopped::Redirected(to) => REDIRECTED.seen(format!("{at} leads to {to}")),
        Stopped::NotDoorward(why) => NOT_DOORWARD.seen(format!("{at}: {why}")),
        Stopped::Untrusted => return None,
    })
}

fn tls(seen: &Seen) -> Vec<Finding> {
    let Some(certificate) = &seen.certificate else {
        let open = !seen.target.origin.is_trustworthy();
        return Vec::from_iter(open.then(|| NO_TLS.seen(format!("{} is not https", seen.target))));
    };
    let mut found = Vec::new();
    if let Some(why) = &certificate.refused {
        let kind = if seen.insecure {
            &CERTIFICATE_ACCEPTED
        } else {
            &CERTIFICATE_UNTRUSTED
        };
        found.push(kind.seen(why.as_str()));
    } else {
        found.push(TLS.seen(lasts(certificate, seen.now)));
        found.extend(expires(certificate, seen.now));
    }
    if !certificate.newest {
        found.push(TLS_OLD.seen("TLS 1.2, though 1.3 was offered"));
    }
    found
}

fn lasts(certificate: &Certificate, now: i64) -> String {
    let version = if certificate.newest { "1.3" } else { "1.2" };
    match certificate.until {
        Some(until) => format!(
            "TLS {version}, a certificate for {} days",
            (until - now) / DAY
        ),
        None => format!("TLS {version}"),
    }
}

const DAY: i64 = 86_400;

/// Those that live for days only are renewed late.
fn expires(certificate: &Certificate, now: i64) -> Option<Finding> {
    let (from, until) = (certificate.from?, certificate.until?);
    let left = until - now;
    let soon = (14 * DAY).min((until - from) / 4);
    (left < soon).then(|| CERTIFICATE_EXPIRES.seen(format!("in {} days", left / DAY)))
}

fn plain(seen: &Seen) -> Option<Finding> {
    match seen.plain.as_ref()? {
        Plain::Silent => None,
        Plain::Answers(status) => Some(PLAIN_HTTP.seen(format!("http:// is answered {status}"))),
        Plain::Redirects(to) => {
            let start = format!("https://{}", seen.target.origin.host);
            let right = to.to_ascii_lowercase().starts_with(&start);
            (!right).then(|| PLAIN_REDIRECT.seen(format!("http:// leads to {to}")))
        }
    }
}

fn answered(seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    if !seen.described.is_there {
        found.push(NO_DESCRIPTION.seen("there is no openapi.json of a Doorward"));
    }
    if seen.withheld {
        found.push(LOGIN_WITHHELD.seen("nobody was logged in"));
    }
    let unanswered = seen.unanswered.iter();
    found.extend(unanswered.map(|(probe, why)| UNANSWERED.seen(format!("{probe:?}: {why}"))));
    found
}

/// Browsers keep it for names only.
fn hsts(seen: &Seen) -> Option<Finding> {
    let origin = &seen.target.origin;
    if !origin.https || origin.is_loopback() || origin.address().is_some() {
        return None;
    }
    let mut answers = seen.api_answers();
    let without = answers.find(|(_, answer)| {
        let hsts = answer.header("strict-transport-security");
        !hsts.contains("max-age=") || hsts.contains("max-age=0")
    })?;
    Some(HSTS_MISSING.seen(format!("{:?} has no Strict-Transport-Security", without.0)))
}
