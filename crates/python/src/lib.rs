//! The native module `flask_doorward._native`: the engine, as Python sees it.
//!
//! It is thin: values in, values out. What needs time lets go of the interpreter.

mod jws;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::jws::{
        Signatures, Token, TokenRules, cookie, credential, unverified_claims, unverified_header,
        uuid4,
    };
}
