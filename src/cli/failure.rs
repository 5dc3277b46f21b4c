//! How a verb fails: a message for a person and an exit code for a script (sysexits.h).

use std::fmt::Display;
use std::process::ExitCode;

/// Bad use of the command line (EX_USAGE).
pub(super) const USAGE: u8 = 64;
/// The input is not what it should be: no capture, or a damaged one (EX_DATAERR).
pub(super) const DATA: u8 = 65;
/// The input can't be opened (EX_NOINPUT).
pub(super) const NO_INPUT: u8 = 66;
/// Something needed is not available: a port in use, a sensor that does not run (EX_UNAVAILABLE).
pub(super) const UNAVAILABLE: u8 = 69;
/// The program itself is at fault (EX_SOFTWARE).
pub(super) const SOFTWARE: u8 = 70;
/// The output can't be made (EX_CANTCREAT).
pub(super) const CANT_CREATE: u8 = 73;
/// Reading or writing failed (EX_IOERR).
pub(super) const IO: u8 = 74;
/// Somebody else is at it; try again later (EX_TEMPFAIL).
pub(super) const TEMPORARY: u8 = 75;
/// Bad configuration (EX_CONFIG).
pub(super) const CONFIG: u8 = 78;

/// A failed verb.
#[derive(Debug)]
pub(super) struct Failure {
    /// Exit code.
    pub(super) code: u8,
    /// What is wrong and what to do; may have several lines.
    pub(super) message: String,
}

impl Failure {
    /// With a code and a message.
    pub(super) fn new(code: u8, message: impl Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// Tells the person and gives the shell its code.
    pub(super) fn report(&self) -> ExitCode {
        eprintln!("mirrortap: {}", self.message);
        ExitCode::from(self.code)
    }
}
