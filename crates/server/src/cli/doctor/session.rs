//! The tokens of a session of the doctor's own: as a browser keeps them, and all of them.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::{Answer, Ask};
use super::cookies::{Jar, SetCookie};
use super::seen::Seen;

/// A session.
pub(crate) struct Session {
    pub(crate) jar: Jar,
    /// All cookies that were ever set, by name, whether a browser keeps them or not.
    set: Vec<SetCookie>,
    pub(crate) bearer: Option<Zeroizing<String>>,
    refresh: Option<Zeroizing<String>>,
    /// The double submit: header and value.
    csrf: Option<(String, Zeroizing<String>)>,
}

impl Session {
    pub(crate) fn of(answer: &Answer, seen: &Seen) -> Option<Self> {
        let mut session = Session {
            jar: Jar::default(),
            set: Vec::new(),
            bearer: None,
            refresh: None,
            csrf: None,
        };
        if answer.status != 200 {
            return None;
        }
        session.renew(answer, seen, "/login");
        Some(session)
    }

    pub(crate) fn renew(&mut self, answer: &Answer, seen: &Seen, path: &str) {
        let cookies = SetCookie::all(&answer.headers, answer.read_at);
        for cookie in &cookies {
            self.set.retain(|set| set.name != cookie.name);
            self.set.push(cookie.clone());
        }
        let path = seen.target.path(path);
        self.jar.take(cookies, &seen.target.origin, &path);
        let body = answer.json();
        let text = |value: &Value| value.as_str().map(|text| Zeroizing::new(text.to_owned()));
        self.bearer = text(&body["access_token"]).or(self.bearer.take());
        self.refresh = text(&body["refresh_token"]).or(self.refresh.take());
        let value = text(&body["csrf"]["refresh"]).or_else(|| self.csrf_cookie());
        let header = &seen.described.csrf_header;
        let undescribed = (!seen.described.is_there).then(|| "x-csrf-token".to_owned());
        self.csrf = header.clone().or(undescribed).zip(value);
    }

    fn csrf_cookie(&self) -> Option<Zeroizing<String>> {
        let mut readable = self.set.iter().filter(|cookie| !cookie.http_only);
        let cookie = readable.find(|cookie| cookie.name.contains("refresh"))?;
        Some(Zeroizing::new(cookie.value().to_owned()))
    }

    pub(crate) fn forget(&mut self, answer: &Answer, seen: &Seen) {
        let cookies = SetCookie::all(&answer.headers, answer.read_at);
        let path = seen.target.path("/refresh/logout");
        self.jar.take(cookies, &seen.target.origin, &path);
    }

    pub(crate) fn with_refresh(&self, mut ask: Ask) -> Ask {
        if let Some((name, value)) = &self.csrf {
            ask.headers
                .push((name.to_ascii_lowercase(), value.to_string()));
        }
        match &self.refresh {
            Some(token) => ask.json(json!({ "refresh_token": token.as_str() }).to_string()),
            None => ask,
        }
    }

    /// With all its tokens, whatever a browser would do: the access token as a bearer's too, for
    /// cookies that do not arrive.
    pub(crate) fn with_all(&self, ask: Ask) -> Ask {
        let kept = self.set.iter().filter(|cookie| !cookie.clears());
        let mut access = kept.clone().map(SetCookie::value);
        let access = access.find(|value| value.starts_with("eyJ"));
        let bearer = self.bearer.as_ref().map(|token| token.as_str());
        let ask = match bearer.or(access) {
            Some(token) => ask.header("authorization", format!("Bearer {token}")),
            None => ask,
        };
        let pairs: Vec<_> = kept
            .map(|cookie| format!("{}={}", cookie.name, cookie.value()))
            .collect();
        if pairs.is_empty() {
            ask
        } else {
            ask.header("cookie", pairs.join("; "))
        }
    }

    pub(crate) fn has_tokens(&self) -> bool {
        self.bearer.is_some() || !self.set.is_empty()
    }
}
