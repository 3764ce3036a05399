//! The native module `flask_doorward._native`: the engine, as Python sees it.
//!
//! It is thin: values in, values out, and what needs time lets go of the interpreter. Read in this
//! order:
//!
//! 1. `options`: what `config.py` hands over, as the engine's own types.
//! 2. `process`: the engine as each process opens it, at the first use and after a fork; `forks`: how
//!    the two keep out of each other's way.
//! 3. `environ`: a WSGI environ as a request.
//! 4. `door`: the calls; `question`: what only the host can answer; `attempt`: logins by views of the app's own; `answer`, `session`: what
//!    comes back.
//! 5. `operator`: the commands of `flask auth`.
//! 6. `jws`: tokens of other making, for `flask_doorward.jwt_extended`.

mod answer;
mod attempt;
mod door;
mod environ;
mod forks;
mod jws;
mod operator;
mod options;
mod process;
mod question;
mod session;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use crate::answer::{Answer, Event};
    #[pymodule_export]
    use crate::attempt::Attempt;
    #[pymodule_export]
    use crate::door::{Door, knows_hash};
    #[pymodule_export]
    use crate::forks::{after_fork, before_fork};
    #[pymodule_export]
    use crate::jws::{
        Signatures, Token, TokenRules, cookie, credential, unverified_claims, unverified_header,
        uuid4, uuid4s,
    };
    #[pymodule_export]
    use crate::operator::{Account, EventFilter, Key, Operator, format_of, generated_password};
    #[pymodule_export]
    use crate::question::{Identity, Question};
    #[pymodule_export]
    use crate::session::{Refreshed, Session, SessionRow, Tokens};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("ROUTES", crate::door::routes())?;
        module.add("MAX_BODY", doorward_http::Api::MAX_BODY)?;
        module.add("FORMATS", doorward_core::import::Format::NAMES)?;
        module.add(
            "PUBLISH_DELAY",
            doorward_core::keys::PUBLISH_DELAY.as_secs(),
        )
    }
}
