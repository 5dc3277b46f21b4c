//! The `[sandbox]` table.
//!
//! Takes: TOML. Gives: [`Config`]. Holds: it is on unless somebody writes that it is not.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How far the process shuts itself in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether, and what happens where the kernel lacks a part.
    pub mode: Mode,
    /// Further folders that may be written to. Name the folder that holds the output where the output itself may be removed
    /// and made again.
    pub write: Vec<PathBuf>,
    /// Further files and folders that may be read: filter files of sessions that a reload may bring.
    pub read: Vec<PathBuf>,
}

/// Whether the process shuts itself in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As far as the kernel can; what is missing is told.
    #[default]
    On,
    /// Wholly, or the program does not start.
    Required,
    /// Not at all.
    Off,
}

impl Mode {
    /// Its name in configuration and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Required => "required",
            Self::Off => "off",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_on_and_a_mode_that_there_is_not_is_refused() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config.mode, Mode::On);
        let shown = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&shown).unwrap(), config);
        assert!(toml::from_str::<Config>("mode = \"of\"").is_err());
    }
}
