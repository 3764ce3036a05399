//! The JSON of claims, written as Python writes it; what is unusual Python writes itself.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// The JSON of claims, as Python's own `dumps` writes it, which is asked for what is unusual.
pub(super) fn json(
    claims: &Bound<'_, PyDict>,
    encoder: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    if write_object(claims, &mut out, 0)? {
        return Ok(out);
    }
    let py = claims.py();
    let options = PyDict::new(py);
    options.set_item("separators", (",", ":"))?;
    options.set_item("cls", encoder)?;
    let dumped = py
        .import("json")?
        .call_method("dumps", (claims,), Some(&options))?;
    Ok(dumped.extract::<String>()?.into_bytes())
}

/// Deeper claims are for Python, which knows how deep its stack is.
const DEEPEST: u8 = 8;

/// `false`: something is not of JSON's own types.
pub(super) fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: u8) -> PyResult<bool> {
    if depth > DEEPEST {
        return Ok(false);
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        return Ok(write_text(text, out));
    }
    if let Ok(value) = value.cast_exact::<PyBool>() {
        out.extend_from_slice(if value.is_true() { b"true" } else { b"false" });
    } else if value.is_none() {
        out.extend_from_slice(b"null");
    } else if value.cast_exact::<PyInt>().is_ok() {
        let Ok(number) = value.extract::<i64>() else {
            return Ok(false);
        };
        return Ok(serde_json::to_writer(out, &number).is_ok());
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        out.extend_from_slice(number.repr()?.to_str()?.as_bytes());
        return Ok(number.value().is_finite());
    } else if let Ok(object) = value.cast_exact::<PyDict>() {
        return write_object(object, out, depth);
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        return write_list(list.iter(), out, depth);
    } else if let Ok(list) = value.cast_exact::<PyTuple>() {
        return write_list(list.iter(), out, depth);
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn write_object(object: &Bound<'_, PyDict>, out: &mut Vec<u8>, depth: u8) -> PyResult<bool> {
    let mut before = b'{';
    for (name, value) in object.iter() {
        out.push(before);
        before = b',';
        let Ok(name) = name.cast_exact::<PyString>() else {
            return Ok(false);
        };
        if !write_text(name, out) {
            return Ok(false);
        }
        out.push(b':');
        if !write(&value, out, depth + 1)? {
            return Ok(false);
        }
    }
    out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
    Ok(true)
}

fn write_list<'py>(
    list: impl Iterator<Item = Bound<'py, PyAny>>,
    out: &mut Vec<u8>,
    depth: u8,
) -> PyResult<bool> {
    let mut before = b'[';
    for value in list {
        out.push(before);
        before = b',';
        if !write(&value, out, depth + 1)? {
            return Ok(false);
        }
    }
    out.extend_from_slice(if before == b'[' { b"[]" } else { b"]" });
    Ok(true)
}

/// In ASCII, as Python writes it. `false`: it has a lone surrogate.
pub(super) fn write_text(text: &Bound<'_, PyString>, out: &mut Vec<u8>) -> bool {
    let Ok(text) = text.to_str() else {
        return false;
    };
    out.push(b'"');
    if text
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
    {
        out.extend_from_slice(text.as_bytes());
    } else {
        text.chars().for_each(|char| write_char(char, out));
    }
    out.push(b'"');
    true
}

fn write_char(char: char, out: &mut Vec<u8>) {
    match char {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        ' '..='~' => out.extend(u8::try_from(char)),
        _ => {
            for unit in char.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        }
    }
}
