//! The vocabulary of pcap-filter expressions, as pcap-filter(7) and libpcap 1.10 have it.
//!
//! Takes: a word. Gives: whether it is one of the language, and the nearest one that is.

/// Words of the language.
const KEYWORDS: &str = "\
    dst src link ether ppp slip fddi tr wlan arp rarp ip sctp tcp udp icmp igmp igrp pim vrrp \
    carp radio ip6 icmp6 ah esp atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is \
    l1 l2 iih lsp snp csnp psnp clnp stp ipx netbeui host net mask port portrange proto \
    protochain gateway type subtype direction dir address1 addr1 address2 addr2 address3 addr3 \
    address4 addr4 ra ta less greater byte broadcast multicast and or not len length inbound \
    outbound ifindex vlan mpls pppoed pppoes geneve lane llc metac bcc oam oamf4 oamf4ec oamf4sc \
    sc ilmic vpi vci connectmsg metaconnect on ifname rset ruleset rnr rulenum srnr subrulenum \
    reason action fisu lssu lsu msu hfisu hlssu hmsu sio opc dpc sls hsio hopc hdpc hsls";

/// Words that stand for numbers.
const CONSTANTS: &str = "\
    icmptype icmpcode icmp-echoreply icmp-unreach icmp-sourcequench icmp-redirect icmp-echo \
    icmp-routeradvert icmp-routersolicit icmp-timxceed icmp-paramprob icmp-tstamp \
    icmp-tstampreply icmp-ireq icmp-ireqreply icmp-maskreq icmp-maskreply icmp6type icmp6code \
    icmp6-destinationunreach icmp6-packettoobig icmp6-timeexceeded icmp6-parameterproblem \
    icmp6-echo icmp6-echoreply icmp6-multicastlistenerquery icmp6-multicastlistenerreportv1 \
    icmp6-multicastlistenerdone icmp6-routersolicit icmp6-routeradvert icmp6-neighborsolicit \
    icmp6-neighboradvert icmp6-redirect icmp6-routerrenum icmp6-nodeinformationquery \
    icmp6-nodeinformationresponse icmp6-ineighbordiscoverysolicit icmp6-ineighbordiscoveryadvert \
    icmp6-multicastlistenerreportv2 icmp6-homeagentdiscoveryrequest \
    icmp6-homeagentdiscoveryreply icmp6-mobileprefixsolicit icmp6-mobileprefixadvert \
    icmp6-certpathsolicit icmp6-certpathadvert icmp6-multicastrouteradvert \
    icmp6-multicastroutersolicit icmp6-multicastrouterterm tcpflags tcp-fin tcp-syn tcp-rst \
    tcp-push tcp-ack tcp-urg tcp-ece tcp-cwr";

/// Whether a word is one of the language.
pub(super) fn is_keyword(word: &str) -> bool {
    is_in(KEYWORDS, word)
}

/// Whether a word stands for a number.
pub(super) fn is_constant(word: &str) -> bool {
    is_in(CONSTANTS, word)
}

/// The word of the language that was probably meant.
pub(super) fn nearest(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&word, known);
    let near = KEYWORDS.split_whitespace();
    let near = near.map(|known| (distance(known), known));
    // a short word is near to everything
    let near = near.filter(|(d, known)| d * 3 <= known.len());
    near.min_by_key(|(d, _)| *d).map(|(_, known)| known)
}

fn is_in(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|known| known == word)
}
