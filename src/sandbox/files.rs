//! Landlock: what may be opened, and how.
//!
//! Takes: [`Needs`]. Gives: the walls that could not be had. Holds: nothing can be run; a path that is not there is left out, for what
//! is not there can't be opened; where the kernel lacks a right, the rest is enforced.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    Scope,
};

use crate::sandbox::{Calls, Needs, Part};

/// The newest rights that are asked for. What a kernel lacks of them is left out.
const NEWEST: ABI = ABI::V6;
/// The first with rights on files, on TCP, and with limits on signals and abstract sockets.
const FILES: ABI = ABI::V3;
const NETWORK: ABI = ABI::V4;
const SIGNALS: ABI = ABI::V6;

/// What the C library reads to find names of services, protocols and hosts in filter expressions; the numbers of the kernel.
const COMMON: [&str; 7] = [
    "/proc",
    "/etc/services",
    "/etc/protocols",
    "/etc/networks",
    "/etc/hosts",
    "/etc/ethers",
    "/etc/nsswitch.conf",
];

/// Puts up the walls, and gives those that could not be had, each with its reason.
pub(super) fn restrict(needs: &Needs) -> Vec<(Part, String)> {
    let all = [
        (Part::Files, FILES),
        (Part::Network, NETWORK),
        (Part::Signals, SIGNALS),
    ];
    let lacks = |why: &str| all.map(|(part, _)| (part, why.to_owned())).to_vec();
    let status = match enforce(needs) {
        Ok(status) => status,
        Err(error) => return lacks(&error.to_string()),
    };
    match status {
        LandlockStatus::NotEnabled => lacks("the kernel has Landlock, but it was started without"),
        LandlockStatus::NotImplemented => lacks("the kernel has no Landlock"),
        LandlockStatus::Available { effective_abi, .. } => all
            .into_iter()
            .filter(|(_, first)| effective_abi < *first)
            .map(|(part, first)| {
                let why = format!(
                    "Landlock of this kernel is of version {}, and {} is the first that has it",
                    effective_abi as i32, first as i32
                );
                (part, why)
            })
            .collect(),
    }
}

fn enforce(needs: &Needs) -> Result<LandlockStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(network(needs.source))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let common = COMMON.map(PathBuf::from);
    for path in needs.read.iter().chain(&common) {
        rules = allow(rules, path, reading())?;
    }
    for path in &needs.remove {
        rules = allow(rules, path, AccessFs::RemoveFile.into())?;
    }
    for path in &needs.write {
        rules = allow(rules, path, writing())?;
    }
    Ok(rules.restrict_self()?.landlock)
}

/// What nobody may do: there is no rule that allows it.
fn network(calls: Calls) -> BitFlags<AccessNet> {
    match calls {
        Calls::Connect => AccessNet::BindTcp.into(),
        _ => AccessNet::from_all(NEWEST),
    }
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// Files and folders; no devices, sockets, pipes or links that point elsewhere.
fn writing() -> BitFlags<AccessFs> {
    reading()
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(place) = PathFd::new(path) else {
        return Ok(rules);
    };
    let rights = match path.is_dir() {
        true => rights,
        false => rights & AccessFs::from_file(NEWEST),
    };
    rules.add_rule(PathBeneath::new(place, rights))
}
