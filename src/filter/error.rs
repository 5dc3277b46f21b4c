//! What can be wrong with a filter, in words that say what to do.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::filter::ExpressionError;

/// Why a filter can't be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rule that says something impossible.
    #[error("filter {place}: {problem}")]
    Rule {
        /// Which rule, and of which file and line where it was imported.
        place: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The file named by `file` can't be read.
    #[error(
        "can't read the mirror filters in {}: {cause}; write it with \
         `aws ec2 describe-traffic-mirror-filters`", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not the JSON that was expected. `message` says where.
    #[error("can't import mirror filters from {}: {message}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        message: String,
    },
    /// `id` without `file`.
    #[error(
        "filter id {0:?} chooses a filter of a file, and no file is named: add `file` or remove `id`"
    )]
    IdWithoutFile(String),
    /// An imported filter without rules and network services, which keeps nothing.
    #[error(
        "the mirror filter {id} of {} has no rules, so it would keep nothing: add rules to it, \
         choose another by `id`, or remove `file`", path.display()
    )]
    Nothing {
        /// The file.
        path: PathBuf,
        /// The id of the filter.
        id: String,
    },
    /// The expression does not compile.
    #[error("filter {0}")]
    Expression(#[from] ExpressionError),
    /// The numbers of `bpf` are no program.
    #[error("filter `bpf`: {0}; make it with `tcpdump -y EN10MB -ddd EXPRESSION`")]
    Bpf(#[from] crate::filter::Invalid),
    /// `expression` and `bpf` together.
    #[error("filter `expression` and `bpf` are two forms of the same thing: remove one")]
    ExpressionAndBpf,
}

/// What is wrong with a rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No protocol.
    #[error(
        "protocol {0:?} is neither a name (tcp, udp, icmp, icmpv6, ...) nor a number from 0 to 255; \
         leave it out for all protocols"
    )]
    Protocol(String),
    /// No CIDR block.
    #[error("{field} {text:?} is no CIDR block: write it like 10.0.0.0/8 or 2001:db8::/32")]
    Cidr {
        /// `source` or `destination`.
        field: &'static str,
        /// What was written.
        text: String,
    },
    /// One IPv4 block and one IPv6 block.
    #[error(
        "source {source_block} and destination {destination} are of different families, so no \
         packet can match: write one rule for IPv4 and one for IPv6"
    )]
    Families {
        /// The source block.
        source_block: IpNet,
        /// The destination block.
        destination: IpNet,
    },
    /// No port and no range of ports.
    #[error(
        "{field} {text:?} is neither a port nor a range: write it like \"443\" or \"1024-65535\""
    )]
    Ports {
        /// `source_ports` or `destination_ports`.
        field: &'static str,
        /// What was written.
        text: String,
    },
    /// A range that ends before it starts.
    #[error("{field} \"{from}-{to}\" is reversed: write \"{to}-{from}\"")]
    Reversed {
        /// `source_ports` or `destination_ports`.
        field: &'static str,
        /// The first port.
        from: u16,
        /// The last port.
        to: u16,
    },
    /// A port range with a protocol that has no ports.
    #[error(
        "ports are of TCP and UDP only, and the protocol is {0}: remove the ports or change the protocol"
    )]
    PortsOfProtocol(String),
    /// Two rules of one direction have the same number.
    #[error("its number is that of {0} too, so their order is not defined: give it another")]
    Duplicate(String),
}
