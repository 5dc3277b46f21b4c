//! The claims that every live source has to hold, asked of each kind alike: same bytes, times and ledger, and nobody else
//! disturbed. Two hosts are network namespaces that the test makes itself; in one the program runs as `mirrortap run`, in the
//! other `mirrortap send` and tcpdump, which is the second opinion. Needs root, Linux 6.6 or newer, and Debian's iproute2,
//! ethtool, tcpdump, ping, util-linux and python3.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../net_support/mod.rs"]
mod net_support;

mod auto;
mod bytes;
mod changes;
mod ledger;
mod neighbours;
mod privileges;
mod raw;
mod scene;
mod wire;

/// Every claim, for one kind of source.
macro_rules! suite {
    ($kind:ident: $($module:ident :: $claim:ident,)*) => {
        mod $kind {
            $(#[test]
            fn $claim() {
                if let Some(scene) = crate::scene::Scene::make(stringify!($kind)) {
                    crate::$module::$claim(scene);
                }
            })*
        }
    };
}

macro_rules! every_claim_for {
    ($($kind:ident)*) => {
        $(suite! { $kind:
            bytes::every_datagram_is_written_once_as_it_was_sent_and_when_it_came,
            bytes::datagrams_in_fragments_arrive_whole,
            bytes::fragments_that_come_out_of_order_make_the_same_datagram,
            bytes::priority_tags_are_looked_through,
            bytes::jumbo_frames_arrive_whole,
            bytes::a_load_balancers_geneve_is_taken_on_its_port,
            bytes::several_receivers_get_each_datagram_once,
            ledger::what_a_frozen_sensor_has_no_room_for_is_counted,
            ledger::a_stop_under_load_writes_all_that_was_received,
            ledger::an_idle_sensor_received_nothing,
            neighbours::another_address_on_the_same_port_is_left_to_its_owner,
            neighbours::frames_for_another_host_are_not_ours,
            neighbours::a_conversation_through_the_same_interface_goes_on,
            neighbours::nobody_is_told_that_the_port_is_closed,
            changes::an_interface_that_was_down_is_read_again,
            changes::an_interface_that_is_down_at_the_start_is_read_when_it_comes_up,
            changes::a_card_without_receive_times_is_told,
            changes::status_and_metrics_tell_the_kind,
        })*
    };
}

every_claim_for! { udp packet xdp }

mod taps {
    suite! { packet:
        bytes::a_vlan_tag_is_looked_through,
        bytes::two_vlan_tags_are_looked_through,
        changes::a_removed_interface_is_named,
        changes::a_renamed_interface_is_still_read,
        changes::a_fragment_that_a_removed_interface_left_alone_is_counted,
    }
    suite! { xdp:
        bytes::a_vlan_tag_is_looked_through,
        changes::a_removed_interface_is_named,
    }
}

/// A part that this program plays in another network namespace.
#[test]
fn role() {
    match net_support::my_role().as_deref() {
        Some("echo") => neighbours::echo(),
        Some("client") => neighbours::client(),
        Some("owner") => neighbours::owner(),
        Some(other) => panic!("{other}"),
        None => {}
    }
}
