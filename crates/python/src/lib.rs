//! The native module `flask_doorward._native`: the engine, as Python sees it.
//!
//! It is thin: values in, values out. What needs time lets go of the interpreter.

use pyo3::prelude::*;

#[pymodule]
mod _native {}
