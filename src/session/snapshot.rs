//! What the configuration says of sessions, compiled: immutable, swapped whole.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use crate::filter::{self, Filter};
use crate::metrics::Counter;
use crate::packet::Vni;
use crate::session::index::Index;
use crate::session::table::Keep;
use crate::session::{Config, Learner, Session, Unknown, VniRange};
use crate::spool::Settings;

/// What is wrong with a session, and where: the session's place in the file and the key.
#[derive(Debug, thiserror::Error)]
#[error("session \"{name}\": {problem}")]
pub struct Error {
    /// Place among the `[[session]]` tables, from 0.
    pub index: usize,
    /// The key at fault.
    pub key: &'static str,
    /// The session's name.
    pub name: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// A session and what it claims. Empty lists claim everything.
#[derive(Debug)]
struct Claim {
    vnis: Vec<VniRange>,
    sources: Vec<IpNet>,
    session: Arc<Session>,
}

impl Claim {
    fn matches(&self, source: IpAddr, vni: Vni) -> bool {
        (self.vnis.is_empty() || self.vnis.iter().any(|r| r.contains(vni)))
            && (self.sources.is_empty() || self.sources.iter().any(|net| net.contains(&source)))
    }
}

/// How much a session names: what names more goes first.
fn class(vnis: bool, sources: bool) -> u8 {
    match (sources, vnis) {
        (true, true) => 0,
        (false, true) => 1,
        (true, false) => 2,
        (false, false) => 3,
    }
}

/// All sessions of one configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// By [`class`], in the order of the file within each.
    claims: Vec<Claim>,
    index: Index,
    /// What is done with packets that none claims.
    pub unknown: Unknown,
    /// How files of unknown sessions are made; the folder is the output's.
    pub defaults: Settings,
}

impl Snapshot {
    /// Compiles the sessions. `defaults` are the settings of `[capture]`, its folder that of the output;
    /// `base` is where relative paths of filter files start; `keep` hands out what outlives a reload.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn build(
        configs: &[Config],
        unknown: Unknown,
        defaults: Settings,
        base: &Path,
        keep: &mut Keep,
    ) -> Result<Self, Vec<Error>> {
        let mut errors = names(configs);
        errors.extend(overlaps(configs));
        let mut filters = Vec::new();
        let mut compiler = Compiler::default();
        for (index, config) in configs.iter().enumerate() {
            match compiler.filter(config, base) {
                Ok(filter) => filters.push(filter),
                Err(problems) => errors.extend(problems.into_iter().map(|problem| Error {
                    index,
                    key: "filter",
                    name: config.name.clone(),
                    problem,
                })),
            }
        }
        for (index, config) in configs.iter().enumerate() {
            errors.extend(config.capture.problem(&defaults).map(|problem| Error {
                index,
                key: "capture",
                name: config.name.clone(),
                problem,
            }));
        }
        // what is kept is touched only when nothing can fail any more
        if !errors.is_empty() {
            return Err(errors);
        }
        let compiled = configs.iter().zip(filters);
        let mut claims: Vec<_> = compiled
            .map(|(config, filter)| claim(config, filter, &defaults, keep))
            .collect();
        claims.sort_by_key(|c| class(!c.vnis.is_empty(), !c.sources.is_empty()));
        let mut index = Index::default();
        for (number, claim) in claims.iter().enumerate() {
            index.add(number, &claim.vnis, &claim.sources);
        }
        Ok(Self {
            claims,
            index,
            unknown,
            defaults,
        })
    }

    /// The session that claims packets of `source` with `vni`.
    pub fn find(&self, source: IpAddr, vni: Vni) -> Option<&Arc<Session>> {
        let claims = self.index.of_packet(source, vni);
        let claims = claims.filter_map(|number| Some((number, self.claims.get(number)?)));
        let taking = claims.filter(|(_, claim)| claim.matches(source, vni));
        taking
            .min_by_key(|(number, _)| *number)
            .map(|(_, claim)| &claim.session)
    }

    /// The configured sessions, by precedence.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.claims.iter().map(|c| &c.session)
    }
}

/// Compiles filters. Sessions whose filters read the same share one, which then stays in the cache.
#[derive(Default)]
struct Compiler(HashMap<String, Filter>);

impl Compiler {
    fn filter(&mut self, config: &Config, base: &Path) -> Result<Filter, Vec<String>> {
        let Some(filter) = &config.filter else {
            return Ok(Filter::default());
        };
        let text = format!("{filter:?}");
        if let Some(known) = self.0.get(&text) {
            return Ok(known.clone());
        }
        let errors = |e: Vec<filter::Error>| e.iter().map(ToString::to_string).collect::<Vec<_>>();
        let compiled = Filter::compile(filter, base).map_err(errors)?;
        self.0.insert(text, compiled.clone());
        Ok(compiled)
    }
}

fn claim(config: &Config, filter: Filter, defaults: &Settings, keep: &mut Keep) -> Claim {
    let name: Arc<str> = config.name.as_str().into();
    let settings = settings(config, defaults);
    let rule_hits = filter.rules().iter().map(|_| Counter::new()).collect();
    let session = Session {
        filter,
        rule_hits,
        packet_length: config.packet_length,
        learner: Learner::new(&config.eni_mac, &config.eni_address),
        target: Some(keep.target(&name, settings)),
        ledger: keep.ledger(&name),
        name,
    };
    Claim {
        vnis: config.vni.0.clone(),
        sources: config.source.clone(),
        session: Arc::new(session),
    }
}

/// The session's own output settings over the defaults. Zero means no limit.
fn settings(config: &Config, defaults: &Settings) -> Settings {
    let own = &config.capture;
    let mut settings = own.over(defaults);
    settings.directory = defaults.directory.join(&config.name);
    if let Some(length) = config.packet_length {
        settings.snaplen = length;
    }
    settings
}

fn names(configs: &[Config]) -> Vec<Error> {
    let mut seen = HashMap::new();
    let mut errors = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let mut fail = |key, problem| {
            errors.push(Error {
                index,
                key,
                name: config.name.clone(),
                problem,
            });
        };
        if let Some(problem) = bad_name(&config.name) {
            fail("name", problem);
        }
        if let Some(first) = seen.insert(config.name.as_str(), index) {
            fail(
                "name",
                format!(
                    "this name is taken by session {}; give each its own",
                    first + 1
                ),
            );
        }
        if config.packet_length == Some(0) {
            fail(
                "packet_length",
                "0 bytes would keep nothing; leave it out to keep all".to_owned(),
            );
        }
    }
    errors
}

/// A name becomes a folder and the stem of file names.
fn bad_name(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(plain) {
        return Some(
            "a name has 1 to 100 letters, digits, '.', '_' or '-', and no '.' in front".to_owned(),
        );
    }
    let number = name.strip_prefix("vni-").unwrap_or_default();
    (number == "other" || !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
        .then(|| "names of the form vni-N are kept for unknown sessions; choose another".to_owned())
}

/// Two sessions that name equally much must not claim the same packet: which one got it would be chance.
fn overlaps(configs: &[Config]) -> Vec<Error> {
    let mut errors = Vec::new();
    // only sessions that name equally much are held against each other
    let mut indexes: [Index; 4] = Default::default();
    for (index, config) in configs.iter().enumerate() {
        let (vnis, sources) = (&config.vni.0, &config.source);
        let class = class(!vnis.is_empty(), !sources.is_empty());
        let Some(known) = indexes.get_mut(usize::from(class)) else {
            continue;
        };
        let beside = known.beside(vnis, sources).into_iter();
        let beside = beside.filter_map(|number| Some((number, configs.get(number)?)));
        let overlapping = beside.filter(|(_, other)| overlap(other, config));
        let first = overlapping.min_by_key(|(number, _)| *number);
        known.add(index, vnis, sources);
        if let Some((_, other)) = first {
            let key = if config.vni.0.is_empty() {
                "source"
            } else {
                "vni"
            };
            let problem = format!(
                "overlaps session \"{}\": both claim the same VNI and outer source; \
                 narrow one with `source` or `vni`",
                other.name
            );
            errors.push(Error {
                index,
                key,
                name: config.name.clone(),
                problem,
            });
        }
    }
    errors
}

fn overlap(a: &Config, b: &Config) -> bool {
    let class_of = |c: &Config| class(!c.vni.0.is_empty(), !c.source.is_empty());
    let vnis = a.vni.0.is_empty()
        || a.vni
            .0
            .iter()
            .any(|x| b.vni.0.iter().any(|y| x.overlaps(*y)));
    let nets = |x: &IpNet, y: &IpNet| x.contains(y) || y.contains(x);
    let sources =
        a.source.is_empty() || a.source.iter().any(|x| b.source.iter().any(|y| nets(x, y)));
    class_of(a) == class_of(b) && vnis && sources
}
