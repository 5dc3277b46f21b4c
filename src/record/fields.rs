//! The fields, in the order in which they came into being: versions 2 to 5, 7, 8 to 11. There is no version 6 of VPC
//! records.

use std::fmt;
use std::str::FromStr;

/// What kind of value a field holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A number; INT32 in Parquet.
    Integer,
    /// A large number; INT64 in Parquet.
    Long,
    /// An IP address; a string in Parquet.
    Address,
    /// Text without blanks.
    Text,
}

/// What a field is about, which decides whether a line without a flow has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The line itself: version, time, status.
    Line,
    /// The interface: known without any packet.
    Interface,
    /// One flow: a dash in NODATA and SKIPDATA lines.
    Flow,
}

macro_rules! fields {
    ($($variant:ident $name:literal $version:literal $kind:ident $scope:ident;)*) => {
        /// A field of a record. The names are those that AWS gives them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Field {
            $(
                #[doc = concat!("`", $name, "`, since version ", $version, ".")]
                $variant,
            )*
        }

        impl Field {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name as in a format or a header line, with hyphens.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The version of records that brought it.
            pub const fn version(self) -> u8 {
                match self {
                    $(Self::$variant => $version,)*
                }
            }

            /// What it holds.
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$variant => Kind::$kind,)*
                }
            }

            /// What it is about.
            pub const fn scope(self) -> Scope {
                match self {
                    $(Self::$variant => Scope::$scope,)*
                }
            }
        }
    };
}

fields! {
    Version "version" 2 Integer Line;
    AccountId "account-id" 2 Text Interface;
    InterfaceId "interface-id" 2 Text Interface;
    SrcAddr "srcaddr" 2 Address Flow;
    DstAddr "dstaddr" 2 Address Flow;
    SrcPort "srcport" 2 Integer Flow;
    DstPort "dstport" 2 Integer Flow;
    Protocol "protocol" 2 Integer Flow;
    Packets "packets" 2 Long Flow;
    Bytes "bytes" 2 Long Flow;
    Start "start" 2 Long Line;
    End "end" 2 Long Line;
    Action "action" 2 Text Flow;
    LogStatus "log-status" 2 Text Line;
    VpcId "vpc-id" 3 Text Interface;
    SubnetId "subnet-id" 3 Text Interface;
    InstanceId "instance-id" 3 Text Interface;
    TcpFlags "tcp-flags" 3 Integer Flow;
    Type "type" 3 Text Flow;
    PktSrcAddr "pkt-srcaddr" 3 Address Flow;
    PktDstAddr "pkt-dstaddr" 3 Address Flow;
    Region "region" 4 Text Interface;
    AzId "az-id" 4 Text Interface;
    SublocationType "sublocation-type" 4 Text Interface;
    SublocationId "sublocation-id" 4 Text Interface;
    PktSrcAwsService "pkt-src-aws-service" 5 Text Flow;
    PktDstAwsService "pkt-dst-aws-service" 5 Text Flow;
    FlowDirection "flow-direction" 5 Text Flow;
    TrafficPath "traffic-path" 5 Integer Flow;
    EcsClusterArn "ecs-cluster-arn" 7 Text Interface;
    EcsClusterName "ecs-cluster-name" 7 Text Interface;
    EcsContainerInstanceArn "ecs-container-instance-arn" 7 Text Interface;
    EcsContainerInstanceId "ecs-container-instance-id" 7 Text Interface;
    EcsContainerId "ecs-container-id" 7 Text Interface;
    EcsSecondContainerId "ecs-second-container-id" 7 Text Interface;
    EcsServiceName "ecs-service-name" 7 Text Interface;
    EcsTaskDefinitionArn "ecs-task-definition-arn" 7 Text Interface;
    EcsTaskArn "ecs-task-arn" 7 Text Interface;
    EcsTaskId "ecs-task-id" 7 Text Interface;
    RejectReason "reject-reason" 8 Text Flow;
    ResourceId "resource-id" 9 Text Interface;
    EncryptionStatus "encryption-status" 10 Text Flow;
    InstanceTag "instance-tag" 11 Text Interface;
    InstanceTag2 "instance-tag-2" 11 Text Interface;
    InterfaceTag "interface-tag" 11 Text Interface;
    InterfaceTag2 "interface-tag-2" 11 Text Interface;
    AsgTag "asg-tag" 11 Text Interface;
    AsgTag2 "asg-tag-2" 11 Text Interface;
    InterfaceType "interface-type" 11 Text Interface;
    NextHopInterfaceId "next-hop-interface-id" 11 Text Flow;
    NextHopSubnetId "next-hop-subnet-id" 11 Text Flow;
    NextHopAzId "next-hop-az-id" 11 Text Flow;
    NextHopVpcId "next-hop-vpc-id" 11 Text Flow;
    NextHopInterfaceType "next-hop-interface-type" 11 Text Flow;
}

impl Field {
    /// The fields of the default format: those of version 2.
    pub fn default_format() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|f| f.version() == 2)
    }

    /// The field of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// The name in Parquet and SQL, with underscores.
    pub fn column_name(self) -> String {
        self.name().replace('-', "_")
    }

    /// The largest number that it can hold.
    pub(super) const fn most(self) -> u64 {
        match (self, self.kind()) {
            (Self::SrcPort | Self::DstPort, _) => u16::MAX as u64,
            (Self::Protocol | Self::Version | Self::TcpFlags, _) => u8::MAX as u64,
            (_, Kind::Integer) => i32::MAX as u64,
            _ => i64::MAX as u64,
        }
    }

    /// The known name that is most like a name, and the distance.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let distance = |known: &str| strsim::damerau_levenshtein(&name, known);
        let near = Self::ALL.iter().map(|f| f.name());
        near.min_by_key(|known| distance(known))
            .filter(|known| distance(known) <= 1 + known.len() / 3)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no field has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no field is called \"{name}\"{}", hint(name))]
pub struct UnknownField {
    name: String,
}

/// What to say of a name that is not known.
pub(super) fn hint(name: &str) -> String {
    match Field::nearest(name) {
        Some(near) => format!("; did you mean \"{near}\"?"),
        None => "; docs/flow-logs.md lists them".to_owned(),
    }
}

impl FromStr for Field {
    type Err = UnknownField;

    fn from_str(name: &str) -> Result<Self, UnknownField> {
        Self::named(name).ok_or_else(|| UnknownField {
            name: name.to_owned(),
        })
    }
}
