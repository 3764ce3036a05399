//! A login by a view of the app's own, admitted before its password is looked at.

use std::sync::{Arc, Mutex, PoisonError};

use doorward_core::Result;
use doorward_core::device_token::DeviceText;
use doorward_core::throttle::{Admitted, Outcome};
use pollster::FutureExt;
use pyo3::pyclass;

use crate::process::Engine;

/// Settled once, or counted as failed after some minutes.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Attempt {
    admitted: Mutex<Option<Admitted>>,
    /// What it is settled with, and must not be closed before.
    _engine: Arc<Engine>,
}

impl Attempt {
    pub(crate) fn new(admitted: Admitted, engine: Arc<Engine>) -> Self {
        Attempt {
            admitted: Mutex::new(Some(admitted)),
            _engine: engine,
        }
    }

    /// `None`: it was settled before.
    pub(crate) fn settle(&self, outcome: Outcome) -> Option<Result<Option<DeviceText>>> {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = admitted.take()?;
        Some(admitted.settle(outcome).block_on())
    }
}
