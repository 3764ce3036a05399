//! The page that shows the description: Swagger UI, its files shipped inside the binary.

use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response};

use doorward_core::Error;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

const START: &str = "window.ui = SwaggerUIBundle({ url: document.currentScript.dataset.description, \
    dom_id: '#ui', deepLinking: true, withCredentials: true });\n";

/// The page; its files lie beside it under `docs/`.
pub(crate) fn page(prefix: &str) -> Response<Bytes> {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Doorward API</title>\n\
         <link rel=\"stylesheet\" href=\"{prefix}/docs/swagger-ui.css\">\n<div id=\"ui\"></div>\n\
         <script src=\"{prefix}/docs/swagger-ui-bundle.js\"></script>\n\
         <script src=\"{prefix}/docs/start.js\" data-description=\"{prefix}/openapi.json\"></script>\n"
    );
    file("text/html; charset=utf-8", html.into())
}

/// One of its files.
pub(crate) fn asset(name: &str) -> Result<Response<Bytes>, Error> {
    let (media_type, bytes) = match name {
        "start.js" => ("text/javascript", Bytes::from_static(START.as_bytes())),
        "swagger-ui.css" => ("text/css", unpacked(&CSS, name)?),
        "swagger-ui-bundle.js" => ("text/javascript", unpacked(&BUNDLE, name)?),
        _ => return Err(Error::NotFound),
    };
    let mut response = file(media_type, bytes);
    let cached = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(CACHE_CONTROL, cached);
    Ok(response)
}

static CSS: OnceLock<Bytes> = OnceLock::new();
static BUNDLE: OnceLock<Bytes> = OnceLock::new();

/// Files are unpacked when they are first asked for.
fn unpacked(once: &OnceLock<Bytes>, name: &str) -> Result<Bytes, Error> {
    if let Some(bytes) = once.get() {
        return Ok(bytes.clone());
    }
    let bytes = unpack(name).ok_or(Error::NotFound)?;
    Ok(once.get_or_init(|| bytes).clone())
}

fn unpack(name: &str) -> Option<Bytes> {
    let packed = std::io::Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED);
    let mut archive = zip::ZipArchive::new(packed).ok()?;
    let path = archive
        .file_names()
        .find(|path| path.ends_with(&format!("/dist/{name}")));
    let path = path?.to_owned();
    let mut bytes = Vec::new();
    std::io::copy(&mut archive.by_name(&path).ok()?, &mut bytes).ok()?;
    Some(bytes.into())
}

fn file(media_type: &'static str, bytes: Bytes) -> Response<Bytes> {
    let mut response = Response::new(bytes);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // A page that opens this one gets no hold of it.
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(opener, HeaderValue::from_static("same-origin"));
    response
}
