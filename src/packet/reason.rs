//! The closed lists of reasons: why a datagram was dropped, why a packet was filtered.
//! Their names are the same in the ledger, the metrics, the logs and the documentation.

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every reason, in the order of its discriminant.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name used in the ledger, in metrics and in logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The place of this reason in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// Why a datagram that was received is in no file. Listed with causes and remedies in docs/metrics.md.
    DropReason {
        /// Its sender is not among `allowed_sources`.
        SourceNotAllowed = "source_not_allowed",
        /// A replayed record of a link type that carries no IP that we can find.
        LinkType = "link_type",
        /// A replayed record that is not IP (ARP, LLDP and their like).
        NotIp = "not_ip",
        /// A replayed record whose IP packet is not UDP.
        NotUdp = "not_udp",
        /// UDP, but to neither the VXLAN nor the GENEVE port.
        WrongPort = "wrong_port",
        /// Outer headers cut short or contradicting themselves.
        OuterMalformed = "outer_malformed",
        /// An outer IP fragment whose siblings never came, or for which the bounded table had no room.
        FragmentIncomplete = "fragment_incomplete",
        /// The datagram was larger than its receive slot (`MSG_TRUNC`).
        DatagramTruncated = "datagram_truncated",
        /// Fewer bytes than a VXLAN (8) or GENEVE (8 + options) header needs.
        Short = "short",
        /// VXLAN without the I flag: it has no valid VNI (RFC 7348, section 5).
        NoVniFlag = "no_vni_flag",
        /// GENEVE of an unknown version, or options that overrun their length.
        BadGeneve = "bad_geneve",
        /// GENEVE with a protocol type that is neither Ethernet nor IP.
        GeneveProtocol = "geneve_protocol",
        /// GENEVE carrying IP that is not VXLAN over UDP: Gateway Load Balancer traffic that is no mirror.
        GeneveNotVxlan = "geneve_not_vxlan",
        /// GENEVE carrying an IP fragment, which has to be whole to hold VXLAN.
        GeneveFragment = "geneve_fragment",
        /// GENEVE inside GENEVE: more wrapping than any AWS target adds.
        NestedTooDeep = "nested_too_deep",
        /// A tunnel header with nothing behind it.
        EmptyInner = "empty_inner",
        /// The worker's queue was full.
        QueueFull = "queue_full",
        /// Every batch was still with the workers, so there was nowhere to keep what was received.
        PoolEmpty = "pool_empty",
        /// The memory budget for packets that wait for the disk (`buffer`) was used up.
        BufferFull = "buffer_full",
        /// The memory budget was short, and the session (or the source that no session claims) held more than its part.
        OverShare = "over_share",
        /// The capture file could not be written.
        WriteFailed = "write_failed",
        /// The shutdown deadline passed before the packet was written.
        Shutdown = "shutdown",
        /// The thread that had it panicked, or never ended.
        ThreadLost = "thread_lost",
    }
}

reasons! {
    /// Why a packet was left out on purpose.
    FilterReason {
        /// A mirror-filter rule with action `reject` matched.
        RuleReject = "rule_reject",
        /// There are rules for this direction and none matched.
        NoRule = "no_rule",
        /// The pcap-filter expression was false.
        Expression = "expression",
        /// No session matches, and `unknown = "drop"`.
        UnknownSession = "unknown_session",
    }
}
