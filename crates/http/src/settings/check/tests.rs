use super::*;

#[test]
fn a_prefix_is_a_plain_path() {
    let accepts = |prefix: &str| {
        let settings = Settings {
            url_prefix: prefix.into(),
            ..Settings::default()
        };
        settings.check().is_ok()
    };
    for prefix in ["/api", "/api/v1", "/auth-2/x_y", "/a:b", "/~me"] {
        assert!(accepts(prefix), "{prefix}");
    }
    for prefix in [
        "", "/", "api", "/api/", "//api", "/a//b", "/:a", "/a/:b", "/*a", "/{x}", "/{*x}", "/..",
        "/a/../b", "/a b", "/a?b", "/a#b",
    ] {
        assert!(!accepts(prefix), "{prefix}");
    }
}

fn refused(change: impl FnOnce(&mut Settings)) -> Option<&'static str> {
    let mut settings = Settings::default();
    change(&mut settings);
    settings.check().err().map(|error| error.0)
}

fn refused_csrf(change: impl FnOnce(&mut DoubleSubmit)) -> Option<&'static str> {
    let mut double_submit = DoubleSubmit::default();
    change(&mut double_submit);
    refused(|settings| settings.double_submit = Some(double_submit))
}

#[test]
fn cookie_paths_cover_the_routes_as_browsers_see_it() {
    let access = |path: &str| refused(|s| s.access_cookie_path = Some(path.into())).is_none();
    for path in ["/", "/api", "/api/", "/api/v1", "/api/v1/"] {
        assert!(access(path), "{path}");
    }
    for path in [
        "",
        "api/v1",
        "/ap",
        "/api/v",
        "/api/v10",
        "/API/v1",
        "/api/v1/x",
        "/api//v1",
        "//",
        "/api/v1;x",
        "/other",
    ] {
        assert!(!access(path), "{path}");
    }
    let refresh = |path: &str| refused(|s| s.refresh_cookie_path = Some(path.into())).is_none();
    for path in ["/", "/api/v1", "/api/v1/", "/api/v1/refresh"] {
        assert!(refresh(path), "{path}");
    }
    for path in [
        "/api/v1/refresh/",
        "/api/v1/refres",
        "/api/v1/refreshed",
        "/refresh",
    ] {
        assert!(!refresh(path), "{path}");
    }
}

#[test]
fn names_of_cookies_are_tokens_and_keep_their_promises() {
    let named = |name: &str, change: fn(&mut Settings)| {
        refused(|settings| {
            settings.access_cookie_name = Some(name.into());
            change(settings);
        })
        .is_none()
    };
    let plain = |settings: &mut Settings| settings.cookie_secure = false;
    let root = |settings: &mut Settings| settings.access_cookie_path = Some("/".into());
    let wide = |settings: &mut Settings| {
        settings.access_cookie_path = Some("/".into());
        settings.cookie_domain = Some("example".into());
    };
    for name in ["a", "access_token_cookie", "__Secure-a", "__Http-a", "a.b!"] {
        assert!(named(name, |_| ()), "{name}");
    }
    for name in [
        "", "a b", "a;b", "a=b", "a,b", "a\"", "\u{e9}", "a\n", "a/b", "(a)",
    ] {
        assert!(!named(name, |_| ()), "{name:?}");
    }
    assert!(named("a", plain));
    for name in [
        "__Secure-a",
        "__secure-a",
        "__HOST-a",
        "__Host-a",
        "__Http-a",
    ] {
        assert!(!named(name, plain), "{name}");
    }
    for name in ["__Host-a", "__host-a", "__Host-Http-a"] {
        assert!(named(name, root), "{name}");
        assert!(!named(name, |_| ()) && !named(name, wide), "{name}");
    }
    let csrf = |name: &str| refused_csrf(|csrf| csrf.access.cookie_name = name.into());
    assert_eq!(csrf("__Host-csrf"), None);
    // Pages could not read them.
    assert!(csrf("__Http-csrf").is_some() && csrf("__Host-Http-csrf").is_some());
}

#[test]
fn two_cookies_of_one_name_do_not_meet() {
    let twice = refused(|settings| {
        settings.access_cookie_name = Some("a".into());
        settings.refresh_cookie_name = Some("a".into());
    });
    assert!(twice.is_some());
    let same = |path: &str| {
        refused_csrf(|csrf| {
            csrf.refresh.cookie_name = csrf.access.cookie_name.clone();
            csrf.access.cookie_path = "/shop".into();
            csrf.refresh.cookie_path = path.into();
        })
    };
    assert!(same("/shop/x").is_some() && same("/").is_some() && same("/shop").is_some());
    assert!(same("/shopping").is_none() && same("/account").is_none());
    let as_token = |csrf: &mut DoubleSubmit| {
        csrf.access.cookie_name = "__Secure-access_token_cookie".into();
    };
    assert!(refused_csrf(as_token).is_some());
    let none_set = |csrf: &mut DoubleSubmit| {
        as_token(csrf);
        csrf.in_cookies = false;
    };
    assert!(refused_csrf(none_set).is_none());
}

#[test]
fn same_site_none_needs_secure() {
    let with = |same_site, cookie_secure| {
        refused(|settings| {
            settings.same_site = Some(same_site);
            settings.cookie_secure = cookie_secure;
        })
    };
    let why = with(SameSite::None, false).unwrap();
    assert!(why.contains("cookie_secure"), "{why}");
    assert_eq!(with(SameSite::None, true), None);
    assert_eq!(with(SameSite::Strict, false), None);
}

#[test]
fn only_origins_that_nobody_on_the_way_can_write_are_allowed() {
    let allows = |origin: &str| refused(|s| s.allowed_origins = vec![origin.into()]).is_none();
    for origin in [
        "https://app.example",
        "https://app.example:8443",
        "http://localhost",
        "http://localhost:5173",
        "http://app.localhost:5173",
        "http://127.0.0.1:80",
        "http://[::1]:80",
        "http://[::1]",
    ] {
        assert!(allows(origin), "{origin}");
    }
    for origin in [
        "*",
        "null",
        "",
        "https://*",
        "https://*.example",
        "https://",
        "http://app.example",
        "http://10.0.0.1",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://[::2]",
        "ftp://app.example",
        "https://APP.example",
        "https://app.example/",
        "https://user@app.example",
    ] {
        assert!(!allows(origin), "{origin}");
    }
}

#[test]
fn proxies_that_could_be_anybody_are_refused() {
    let allows = |net: &str| check_proxies(&[net.parse().unwrap()]).is_ok();
    for net in ["10.0.0.0/8", "192.168.1.1/32", "fc00::/7", "::1/128"] {
        assert!(allows(net), "{net}");
    }
    for net in ["0.0.0.0/0", "::/0", "128.0.0.0/1", "0.0.0.0/7", "2000::/3"] {
        assert!(!allows(net), "{net}");
    }
}

#[test]
fn what_may_be_right_is_told() {
    let advice = |change: fn(&mut Settings, &mut Policy)| {
        let (mut settings, mut policy) = (Settings::default(), Policy::default());
        change(&mut settings, &mut policy);
        settings.advice(&policy)
    };
    let begins = |advice: Vec<&str>, words: &str| {
        assert_eq!(advice.len(), 1, "{advice:?}");
        assert!(advice[0].starts_with(words), "{advice:?}");
    };
    assert!(advice(|_, _| ()).is_empty());
    begins(advice(|s, _| s.cookie_secure = false), "cookie_secure");
    begins(advice(|_, p| p.access_ttl = LONG * 2), "access_ttl");
    let query = |s: &mut Settings, _: &mut Policy| {
        s.locations = Some(vec![
            Location::Cookie,
            Location::Header,
            Location::QueryString,
        ]);
    };
    begins(advice(query), "locations");
    let anywhere = advice(|s, _| s.same_site = Some(SameSite::None));
    assert!(anywhere.len() == 2 && anywhere.iter().all(|text| text.starts_with("same_site")));
    let only_bodies = |s: &mut Settings, _: &mut Policy| {
        s.delivery = vec![Delivery::Body];
        s.cookie_secure = false;
    };
    assert!(advice(only_bodies).is_empty());
}

#[test]
fn every_delivery_has_a_place_where_its_tokens_are_found() {
    let found = |delivery: &[Delivery], locations: &[Location]| {
        refused(|settings| {
            settings.delivery = delivery.to_vec();
            settings.locations = Some(locations.to_vec());
        })
        .is_none()
    };
    let (cookie, body) = ([Delivery::Cookie], [Delivery::Body]);
    assert!(found(&cookie, &[Location::Cookie]) && !found(&cookie, &[Location::Header]));
    for location in [Location::Header, Location::QueryString, Location::Json] {
        assert!(found(&body, &[location]));
    }
    assert!(!found(&body, &[Location::Cookie]) && !found(&body, &[]));
    assert!(found(&body, &[Location::Cookie, Location::Json]));
}

#[test]
fn headers_fields_and_members_with_a_meaning_keep_it() {
    let header = |name: &str| refused(|s| s.header_name = name.into()).is_none();
    assert!(header("authorization") && header("X-Token"));
    for name in [
        "",
        "Cookie",
        "HOST",
        "origin",
        "Sec-Fetch-Site",
        "X Token",
        "X:",
        "X\n",
    ] {
        assert!(!header(name), "{name:?}");
    }
    let scheme = |name: &str| refused(|s| s.header_type = name.into()).is_none();
    assert!(scheme("") && scheme("JWT") && !scheme("JWT ") && !scheme("a b"));
    let csrf = |name: &str| refused_csrf(|csrf| csrf.refresh.header_name = name.into());
    assert!(csrf("X-XSRF").is_none() && csrf("authorization").is_some());
    assert!(csrf("cookie").is_some() && csrf("").is_some());
    let json = |name: &str| refused(|s| s.json_key = name.into()).is_none();
    assert!(json("token") && !json("password") && !json("remember") && !json(""));
    let message = |name: &str| refused(|s| s.message_key = name.into()).is_none();
    assert!(message("message") && message("error") && !message(""));
    for name in problem::MEMBERS {
        assert!(!message(name), "{name}");
    }
}
