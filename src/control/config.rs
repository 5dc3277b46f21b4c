//! The `[control]` table: where the control endpoints listen.
//!
//! Takes: TOML. Gives: [`Config`]. Holds: "off" is off; every state can be written down, so that the
//! effective configuration can be shown whole.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const OFF: &str = "off";
const AUTO: &str = "auto";
/// Name of the socket in the runtime folder.
const NAME: &str = "control.sock";
/// Name of the socket beside the captures.
const HIDDEN_NAME: &str = ".control.sock";

/// Where the control endpoints listen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the HTTP listener; `"off"` for none. The default is loopback only. For health checks of a load
    /// balancer give an address that it can reach, and let the security group say who else may.
    #[serde(
        serialize_with = "listen_to_text",
        deserialize_with = "listen_from_text"
    )]
    pub listen: Option<SocketAddr>,
    /// Names with a dot by which the HTTP listener may be asked, beside the machine's own. Whoever asks for another was led here by a name of
    /// somebody else's.
    pub hosts: Vec<String>,
    /// The Unix socket, which also takes `reload`.
    pub socket: Socket,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9477))),
            hosts: Vec::new(),
            socket: Socket::Auto,
        }
    }
}

/// Where the Unix socket is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Socket {
    /// `"auto"`: `control.sock` in the folder that systemd made (`RUNTIME_DIRECTORY`), else `.control.sock` in the
    /// output folder. Where that can't be made the sensor says so and goes on without.
    #[default]
    Auto,
    /// `"off"`: none.
    Off,
    /// At this path.
    At(PathBuf),
}

impl Config {
    /// Where the Unix socket is to be, for a sensor that writes to `output`; `None` when it is off.
    pub fn socket_path(&self, output: &Path) -> Option<PathBuf> {
        self.path_in(output, std::env::var_os("RUNTIME_DIRECTORY"))
    }

    fn path_in(&self, output: &Path, runtime_directory: Option<OsString>) -> Option<PathBuf> {
        match &self.socket {
            Socket::Off => None,
            Socket::At(path) => Some(path.clone()),
            Socket::Auto => Some(
                first_folder(runtime_directory)
                    .map_or_else(|| output.join(HIDDEN_NAME), |folder| folder.join(NAME)),
            ),
        }
    }
}

/// The first of the folders that `RUNTIME_DIRECTORY` names, parted by colons.
fn first_folder(value: Option<OsString>) -> Option<PathBuf> {
    let value = value?.into_string().ok()?;
    let first = value.split(':').next()?;
    (!first.is_empty()).then(|| first.into())
}

/// An address or `off`, for the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen(pub Option<SocketAddr>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == OFF {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_| {
            format!(
                "`{text}` is not an address with a port: give \"127.0.0.1:9477\", \"[::]:9477\" or \"off\""
            )
        })
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Off => f.write_str(OFF),
            Self::At(path) => path.display().fmt(f),
        }
    }
}

impl Serialize for Socket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Socket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            AUTO => Ok(Self::Auto),
            OFF => Ok(Self::Off),
            path if path.starts_with('/') => Ok(Self::At(PathBuf::from(path))),
            other => Err(D::Error::custom(format!(
                "`{other}` is no place for the control socket: give an absolute path, \"auto\" or \"off\""
            ))),
        }
    }
}

fn listen_to_text<S: Serializer>(
    listen: &Option<SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match listen {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str(OFF),
    }
}

fn listen_from_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let listen: Listen = text.parse().map_err(D::Error::custom)?;
    Ok(listen.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_table_is_the_default_and_the_default_is_loopback() {
        let config = parse("").unwrap();
        assert_eq!(config, Config::default());
        assert!(config.listen.unwrap().ip().is_loopback());
    }

    #[test]
    fn off_is_off_and_survives_being_shown() {
        let config = parse("listen = \"off\"\nsocket = \"off\"").unwrap();
        assert_eq!((config.listen, config.socket.clone()), (None, Socket::Off));
        let path = config.path_in(Path::new("captures"), Some("/run/mirrortap".into()));
        assert_eq!(path, None);
        let shown = toml::to_string(&config).unwrap();
        assert_eq!(parse(&shown).unwrap(), config);
        let shown = toml::to_string(&Config::default()).unwrap();
        assert_eq!(parse(&shown).unwrap(), Config::default());
    }

    #[test]
    fn auto_takes_the_folder_that_systemd_made_or_the_output() {
        let path = |value: Option<&str>| {
            let value = value.map(OsString::from);
            Config::default().path_in(Path::new("captures"), value)
        };
        let systemd = Some(PathBuf::from("/run/a/control.sock"));
        let output = Some(PathBuf::from("captures/.control.sock"));
        assert_eq!(path(Some("/run/a")), systemd);
        assert_eq!(path(Some("/run/a:/run/b")), systemd);
        assert_eq!(path(Some("")), output);
        assert_eq!(path(None), output);
    }

    #[test]
    fn the_command_line_takes_an_address_or_off() {
        assert_eq!("off".parse(), Ok(Listen(None)));
        let address = "[::]:9477".parse().unwrap();
        assert_eq!("[::]:9477".parse(), Ok(Listen(Some(address))));
        let error = "localhost".parse::<Listen>().unwrap_err();
        assert!(error.contains("\"off\""), "{error}");
    }

    #[test]
    fn mistakes_are_told_with_what_would_be_right() {
        let wrong = [
            ("listen = \"9477\"", "give \"127.0.0.1:9477\""),
            ("socket = \"control.sock\"", "give an absolute path"),
            ("lisen = \"off\"", "unknown field `lisen`"),
        ];
        for (text, expected) in wrong {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
