//! What is known apart from packets: read from files once, at the start.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use crate::flowlog::{Config, Interface, Interfaces, Services};
use crate::packet::Endpoint;
use crate::record::{Field, Value};

/// What is known of interfaces and addresses.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    interfaces: Interfaces,
    services: Option<Arc<Services>>,
    vpc_ranges: Vec<IpNet>,
    region: Option<Box<str>>,
}

/// A file that tells nothing, and why.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// It can't be read.
    #[error("cannot read {}: {source}; {key} of the flow log names it", file.display())]
    Unreadable {
        /// The key.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not what {key} of the flow log wants: {source}; it is what {origin}", file.display())]
    Malformed {
        /// The key.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it, with line and column.
        source: serde_json::Error,
        /// Where such a file comes from.
        origin: &'static str,
    },
}

impl MetadataError {
    /// The key at fault.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Unreadable { key, .. } | Self::Malformed { key, .. } => key,
        }
    }
}

impl Metadata {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// The first file that can't be used.
    pub fn load(config: &Config) -> Result<Self, MetadataError> {
        let region = Some(&config.region).filter(|region| **region != Config::default().region);
        let mut this = Self {
            vpc_ranges: config.vpc_ranges.clone(),
            region: region.map(|region| region.as_str().into()),
            ..Self::default()
        };
        if let Some(file) = &config.interfaces {
            let read = |text: &str| Interfaces::from_json(text, &config.interface_tags);
            let origin = "aws ec2 describe-network-interfaces prints";
            this.interfaces = parsed("interfaces", file, origin, read)?;
        }
        if let Some(file) = &config.ip_ranges {
            let origin = "https://ip-ranges.amazonaws.com/ip-ranges.json has";
            let services = parsed("ip_ranges", file, origin, Services::from_json)?;
            this.services = Some(Arc::new(services));
        }
        Ok(this)
    }

    /// What is known of the interface that mirrors from an outer source address, through an endpoint or not. Of one that no file
    /// tells two things are known: the address, which is its primary one, and the region that the flow log is set to, since
    /// traffic is mirrored within one.
    pub fn interface(&self, source: IpAddr, endpoint: Option<Endpoint>) -> Interface {
        let found = self.interfaces.find(source, endpoint);
        let mut interface = found.cloned().unwrap_or_default();
        // what stands for many has none
        if let IpAddr::V4(v4) = source
            && !v4.is_unspecified()
        {
            interface.primary = Some(v4);
        }
        if let Some(region) = &self.region
            && interface.fact(Field::Region) == Value::Null
        {
            interface.know(Field::Region, region);
        }
        interface.vpc_ranges.clone_from(&self.vpc_ranges);
        interface
    }

    /// The address ranges of the VPCs.
    pub fn vpc_ranges(&self) -> &[IpNet] {
        &self.vpc_ranges
    }

    /// The interfaces that the file tells of.
    pub fn listed(&self) -> &[Interface] {
        self.interfaces.list()
    }

    /// The services by address, if a file tells them.
    pub fn services(&self) -> Option<&Arc<Services>> {
        self.services.as_ref()
    }
}

fn parsed<T>(
    key: &'static str,
    file: &Path,
    origin: &'static str,
    read: impl Fn(&str) -> Result<T, serde_json::Error>,
) -> Result<T, MetadataError> {
    let text = fs::read_to_string(file).map_err(|source| MetadataError::Unreadable {
        key,
        file: file.to_owned(),
        source,
    })?;
    read(&text).map_err(|source| MetadataError::Malformed {
        key,
        file: file.to_owned(),
        source,
        origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_file_that_tells_nothing_is_refused_with_its_key_and_where_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        fs::write(&file, "{\"prefixes\": [}").unwrap();
        for (key, said) in [
            ("interfaces", "describe-network-interfaces"),
            ("ip_ranges", "https://ip-ranges.amazonaws.com"),
        ] {
            let error = Metadata::load(&config(&format!("{key} = '{}'", file.display())));
            let error = error.unwrap_err();
            assert_eq!(error.key(), key);
            let told = error.to_string();
            assert!(told.contains(said) && told.contains("line 1"), "{told}");
            let error = Metadata::load(&config(&format!("{key} = '/nowhere/x'"))).unwrap_err();
            assert!(
                error.to_string().contains("cannot read /nowhere/x"),
                "{error}"
            );
        }
    }

    #[test]
    fn of_an_interface_that_no_file_tells_the_address_and_the_region_are_known() {
        let source = IpAddr::from([10, 0, 0, 7]);
        let of = |text: &str| {
            let interface = Metadata::load(&config(text))
                .unwrap()
                .interface(source, None);
            let told = [Field::Region, Field::AccountId].map(|f| interface.fact(f).to_string());
            (interface.primary, told)
        };
        let primary = Some([10, 0, 0, 7].into());
        let text = "region = 'eu-central-1'\naccount = '123456789012'";
        assert_eq!(
            of(text),
            (primary, ["eu-central-1".to_owned(), "-".to_owned()])
        );
        assert_eq!(of(""), (primary, ["-".to_owned(), "-".to_owned()]));
    }
}
