//! Where traces go.

use http::Uri;

/// Where traces go: as the setting says, or the standard variables. `None`: nowhere.
///
/// # Errors
/// What is wrong with the address.
pub(super) fn endpoint(
    setting: Option<&String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, &'static str> {
    let variable = |name| variable(name).filter(|text| !text.is_empty());
    let base = |text: &str| format!("{}/v1/traces", text.trim_end_matches('/'));
    let text = match setting.map(String::as_str).filter(|text| !text.is_empty()) {
        Some("off") => None,
        Some(text) => Some(base(text)),
        None if variable("OTEL_SDK_DISABLED").is_some_and(|is| is == "true") => None,
        None => variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| Some(base(&variable("OTEL_EXPORTER_OTLP_ENDPOINT")?))),
    };
    let is_usable = |uri: &Uri| {
        let plain = uri
            .authority()
            .is_some_and(|host| !host.as_str().contains('@'));
        plain && uri.query().is_none() && matches!(uri.scheme_str(), Some("http" | "https"))
    };
    let uri = text.map(|text| text.parse().ok().filter(is_usable).ok_or(NO_ENDPOINT));
    uri.transpose()
}

const NO_ENDPOINT: &str = "must be http://HOST:PORT or https://HOST:PORT, without a password: OTEL_EXPORTER_OTLP_HEADERS may hold one";

#[cfg(test)]
mod tests {
    use super::*;

    fn at(setting: &str, variables: &[(&str, &str)]) -> Result<Option<String>, &'static str> {
        let of = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let uri = endpoint(Some(&setting.to_owned()), of)?;
        Ok(uri.map(|uri| uri.to_string()))
    }

    #[test]
    fn the_setting_counts_and_then_the_standard_variables() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:4318/");
        let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/t");
        let to = |uri: &str| Ok(Some(uri.to_owned()));
        assert_eq!(at("", &[]), Ok(None));
        assert_eq!(at("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(None));
        assert_eq!(at("http://a", &[base, exact]), to("http://a/v1/traces"));
        assert_eq!(at("", &[base]), to("http://b:4318/v1/traces"));
        assert_eq!(at("", &[base, exact]), to("http://c:4318/t"));
        assert_eq!(at("off", &[base]), Ok(None));
        assert_eq!(at("", &[base, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
    }

    #[test]
    fn an_address_that_holds_a_password_or_is_none_is_refused() {
        for bad in [
            "a",
            "/x",
            "ftp://a",
            "http://u:p@a",
            "http://a?key=b",
            "http://",
        ] {
            assert_eq!(at(bad, &[]), Err(NO_ENDPOINT), "{bad}");
        }
    }
}
