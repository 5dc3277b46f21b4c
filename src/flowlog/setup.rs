//! What the configuration says of all flow logs, compiled: immutable, swapped whole by a reload.
//!
//! Takes: the `[[flow_log]]` tables. Gives: [`Setup`]: filters, what is known of interfaces, which interfaces belong to which
//! flow log. Holds: judging a packet allocates nothing; what is wrong is told all at once, each with its place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::filter::Filter;
use crate::flowlog::enis::{Met, PAIRS};
use crate::flowlog::resolver::is_resolver;
use crate::flowlog::{Config, Eni, Interface, Metadata, Packets, Services, Sight};
use crate::record::{Field, Value};

/// Flow logs that there may be: as many as a word has bits.
pub const MOST: usize = 32;

/// What is wrong with a flow log, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("flow log \"{name}\": {problem}")]
pub struct Problem {
    /// Place among the `[[flow_log]]` tables, from 0.
    pub index: usize,
    /// The path of the key at fault.
    pub key: Vec<&'static str>,
    /// The flow log's name.
    pub name: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// One flow log, compiled.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) config: Config,
    pub(super) filter: Filter,
    metadata: Metadata,
}

/// All flow logs of one configuration.
#[derive(Debug, Default)]
pub struct Setup {
    pub(super) parts: Vec<Part>,
}

impl Setup {
    /// Compiles them; `base` is where relative paths of files to be read start.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn build(configs: &[Config], base: &Path) -> Result<Self, Vec<Problem>> {
        let mut problems = names(configs);
        let mut parts = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let mut fail = |key: Vec<&'static str>, problem: String| {
                problems.push(Problem {
                    index,
                    key,
                    name: config.name.clone(),
                    problem,
                });
            };
            for error in config.check() {
                fail(error.key(), error.to_string());
            }
            match Part::compile(config, base) {
                Ok(part) => parts.push(part),
                Err(wrong) => wrong
                    .into_iter()
                    .for_each(|(key, problem)| fail(vec![key], problem)),
            }
        }
        match problems.is_empty() {
            true => Ok(Self { parts }),
            false => Err(problems),
        }
    }

    /// Makes the folders, before walls are closed around the process.
    ///
    /// # Errors
    /// Folders that can't be had.
    pub fn open(&self) -> Result<(), Vec<Problem>> {
        let each = self.parts.iter().enumerate();
        let failed = each.filter_map(|(index, part)| {
            let folder = &part.config.directory;
            let error = std::fs::create_dir_all(folder).err()?;
            Some(Problem {
                index,
                key: vec!["directory"],
                name: part.config.name.clone(),
                problem: format!("cannot make the folder {}: {error}", folder.display()),
            })
        });
        let failed: Vec<_> = failed.collect();
        match failed.is_empty() {
            true => Ok(()),
            false => Err(failed),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The flow logs that packets of an interface and a session belong to, one bit each.
    pub(super) fn logs_of(&self, eni: &Eni, session: &str) -> u32 {
        let each = self.parts.iter().enumerate();
        let takes = |part: &Part| part.config.takes(&part.interface(eni), eni.source, session);
        each.filter(|(_, part)| takes(part))
            .fold(0, |logs, (at, _)| logs | 1 << at)
    }

    /// The MAC address of an interface, if it is told: it says what comes from what goes.
    pub(super) fn mac_of(&self, eni: &Eni) -> Option<[u8; 6]> {
        self.parts.iter().find_map(|part| part.interface(eni).mac)
    }

    /// Whether another configuration can take the place of this one while its flow logs are written.
    pub(super) fn may_become(&self, configs: &[Config]) -> bool {
        let own: Vec<_> = self.parts.iter().map(|part| part.config.clone()).collect();
        may_become(&own, configs)
    }
}

/// Whether a reload can put one configuration in the place of another: they are of the same flow logs.
pub fn may_become(old: &[Config], new: &[Config]) -> bool {
    let mut pairs = old.iter().zip(new);
    old.len() == new.len() && pairs.all(|(old, new)| fixed(old) == fixed(new))
}

/// What a reload does not change: all but which packets count and what is known of interfaces.
fn fixed(config: &Config) -> Config {
    let free = Config::default();
    Config {
        packets: free.packets,
        session: free.session,
        interface: free.interface,
        subnet: free.subnet,
        vpc: free.vpc,
        source: free.source,
        interfaces: free.interfaces,
        interface_tags: free.interface_tags,
        ip_ranges: free.ip_ranges,
        vpc_ranges: free.vpc_ranges,
        filter: free.filter,
        ..config.clone()
    }
}

impl Part {
    fn compile(config: &Config, base: &Path) -> Result<Self, Vec<(&'static str, String)>> {
        let mut wrong = Vec::new();
        let mut filter = Filter::default();
        if let Some(asked) = &config.filter {
            match Filter::compile(asked, base) {
                Ok(compiled) => filter = compiled,
                Err(errors) => wrong.extend(errors.iter().map(|e| ("filter", e.to_string()))),
            }
        }
        let metadata = Metadata::load(&below(config, base)).unwrap_or_else(|error| {
            wrong.push((error.key(), error.to_string()));
            Metadata::default()
        });
        match wrong.is_empty() {
            true => Ok(Self {
                filter,
                metadata,
                config: config.clone(),
            }),
            false => Err(wrong),
        }
    }

    /// What is known of an interface.
    pub(super) fn interface(&self, eni: &Eni) -> Interface {
        self.metadata.interface(eni.source, eni.endpoint)
    }

    /// The services of addresses.
    pub(super) fn services(&self) -> Option<Arc<Services>> {
        self.metadata.services().map(Arc::clone)
    }

    /// The interfaces that the configuration tells of, and that it takes whatever session they are of.
    pub(super) fn listed(&self) -> Vec<Eni> {
        if !self.config.session.is_empty() {
            return Vec::new();
        }
        let told = self.metadata.listed().iter().filter_map(|i| i.primary);
        let told = told.map(|primary| Eni {
            source: IpAddr::V4(primary),
            endpoint: None,
        });
        // of two with one address it is not known yet which one is meant
        let takes = |eni: &Eni| {
            let interface = self.interface(eni);
            interface.fact(Field::InterfaceId) != Value::Null
                && self.config.takes(&interface, eni.source, "")
        };
        told.filter(takes).collect()
    }

    /// Whether an interface that was met, or that is listed, belongs to it as it is now.
    pub(super) fn has(&self, met: &Met, at: usize) -> bool {
        let interface = self.interface(&met.eni);
        let takes = |session: &str| self.config.takes(&interface, met.eni.source, session);
        met.logs >> at & 1 == 1
            && match met.pairs.as_slice() {
                [] => self.config.session.is_empty() && takes(""),
                // of one with more of them not all are known
                pairs => pairs.len() >= PAIRS || pairs.iter().any(|(session, _)| takes(session)),
            }
    }

    /// Whether only packets that the session's filter keeps count.
    pub(super) fn only_kept(&self) -> bool {
        self.config.packets == Packets::Kept
    }

    /// Whether a packet does not count.
    #[inline]
    pub(super) fn leaves_out(&self, sight: &Sight<'_>) -> bool {
        let flow = &sight.outline.gist.key;
        if !self.config.resolver_dns && is_resolver(flow, self.metadata.vpc_ranges()) {
            return true;
        }
        if self.filter.keeps_everything() {
            return false;
        }
        let gist = &sight.outline.gist;
        let (frame, direction) = (sight.frame, sight.direction);
        let verdict = self
            .filter
            .judge_gist(frame, gist, sight.wire_len, direction);
        verdict.reject.is_some()
    }
}

/// The same with the files that are read where relative paths start.
fn below(config: &Config, base: &Path) -> Config {
    let from_base = |file: &Option<PathBuf>| file.as_ref().map(|file| base.join(file));
    Config {
        interfaces: from_base(&config.interfaces),
        ip_ranges: from_base(&config.ip_ranges),
        ..config.clone()
    }
}

/// Names and folders that would be mixed up.
fn names(configs: &[Config]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = HashMap::new();
    let mut ids = HashMap::new();
    for (index, config) in configs.iter().enumerate() {
        let mut fail = |key, problem| {
            problems.push(Problem {
                index,
                key: vec![key],
                name: config.name.clone(),
                problem,
            });
        };
        if index == MOST {
            fail("name", format!("there are more than {MOST} flow logs"));
        }
        if let Some(first) = seen.insert(config.name.as_str(), index) {
            let first = first + 1;
            fail(
                "name",
                format!("this name is taken by flow log {first}; give each its own"),
            );
        }
        if let Some(first) = ids.insert(config.flow_log_id(), index) {
            let first = first + 1;
            fail(
                "id",
                format!("flow log {first} has the same id; give each its own, or leave it out"),
            );
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Vni;

    #[test]
    fn an_interface_that_another_selection_leaves_out_is_not_of_the_flow_log_any_more() {
        let met = Met {
            eni: Eni {
                source: [10, 0, 0, 5].into(),
                endpoint: None,
            },
            logs: 1,
            pairs: vec![("web".into(), Vni::new(7))],
        };
        for (text, has) in [
            ("", true),
            ("session = ['web']", true),
            ("session = ['dns']", false),
            ("source = ['192.0.2.0/24']", false),
        ] {
            let part = Part::compile(&toml::from_str(text).unwrap(), Path::new(".")).unwrap();
            assert_eq!(part.has(&met, 0), has, "{text}");
        }
    }
}
