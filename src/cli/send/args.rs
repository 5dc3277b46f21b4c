//! What `send` is asked on the command line, and the options that come of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::generator::{Destination, Gwlb, Input, Options, Pace, Shape, Size, VniSet};
use crate::packet::Endpoint;

/// Wrap a capture, or made-up flows, as AWS VPC Traffic Mirroring would, and send it to a mirror target: source
/// ports 65408 to 65535 by a hash of the inner flow, no UDP checksum, frames cut as AWS cuts them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A capture may be pcap or pcapng, plain, .gz or .zst; - is standard input. It is held in memory. Raw IP, SLL, PPP and
loopback captures get a made-up Ethernet header; packets of other link types are skipped and counted.
Without FILE, flows are made up. Each of their packets carries a sequence number, so that a receiver can tell
what is missing; frames too small for it grow to 74 to 106 bytes.

Examples:
  mirrortap send --to 127.0.0.1 --vni 1234 --rate 1000 --seconds 10
  mirrortap send web.pcap --to 10.0.2.20 --vni 100-103 --speed original
  mirrortap send web.pcap --to 10.0.2.20 --vni 7 --mtu 1500 --loop 100 --rate 50000 --json
  mirrortap send --to 10.1.0.100 --vni 7 --shape gwlb --count 1000000 --size 1400
  mirrortap send web.pcap --to 10.0.2.20 --vni 7 --write outer.pcap")]
pub(crate) struct Args {
    /// The capture to send; synthetic flows without one.
    file: Option<PathBuf>,
    /// Target: an address, with or without a port (4789 for vxlan, 6081 for gwlb).
    #[arg(long, value_name = "ADDR", value_parser = target)]
    to: SocketAddr,
    /// VNIs to spread flows over: 7 or 100-200,300.
    #[arg(long, value_name = "N")]
    vni: VniSet,
    /// Source address: the mirrored ENI. Default: the one that the route gives.
    #[arg(long, value_name = "ADDR")]
    source: Option<IpAddr>,
    /// vxlan: as to a network interface or Network Load Balancer; gwlb: GENEVE around it, as from a
    /// Gateway Load Balancer.
    #[arg(long, value_enum, default_value = "vxlan")]
    shape: ShapeName,
    /// The mirrored ENI's address inside GENEVE (gwlb). Default: the source, if IPv4.
    #[arg(long, value_name = "ADDR")]
    eni: Option<Ipv4Addr>,
    /// Id of the Gateway Load Balancer endpoint, 16 hex digits (gwlb).
    #[arg(long, value_name = "HEX", value_parser = endpoint)]
    endpoint: Option<Endpoint>,
    /// Cut frames so that the encapsulated IP packet is no larger (AWS: the target's MTU).
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(68..))]
    mtu: Option<u16>,
    /// Cut frames to so many bytes (AWS: the session's PacketLength).
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    packet_length: Option<u32>,
    /// Send UDP checksums, which AWS leaves out. Plain receivers need them over IPv6.
    #[arg(long)]
    checksum: bool,
    /// Packets a second, on average [default: as fast as it goes].
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Keep the times of the capture: original, or how many times as fast.
    #[arg(long, value_name = "X", conflicts_with = "rate", requires = "file", value_parser = speed)]
    speed: Option<f64>,
    /// Stop after so many packets.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Send the capture so many times; 0 is without end.
    #[arg(
        long = "loop",
        value_name = "N",
        default_value_t = 1,
        requires = "file"
    )]
    loops: u64,
    /// Number of synthetic flows.
    #[arg(long, value_name = "N", default_value_t = 256, conflicts_with = "file")]
    flows: u32,
    /// Size of synthetic frames: a number, or imix (64, 576 and 1500 bytes, 7:4:1).
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "imix",
        conflicts_with = "file"
    )]
    size: Size,
    /// What makes the flows of two runs differ.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "file")]
    seed: u64,
    /// Write the outer packets to a nanosecond pcap file instead of sending them; - is standard output.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print the report as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum ShapeName {
    Vxlan,
    Gwlb,
}

impl Args {
    /// The options for the generator, or why what was asked makes no sense together.
    pub(crate) fn options(self) -> Result<Options, String> {
        let shape = self.shape()?;
        let endless = self.count.is_none() && self.seconds.is_none();
        if self.write.is_some() && endless && (self.file.is_none() || self.loops == 0) {
            return Err("with --write say when to stop: --count N".to_owned());
        }
        if self.write.is_some() && self.seconds.is_some() {
            return Err("--seconds is for sending; with --write say --count N".to_owned());
        }
        let pace = match (self.rate, self.speed) {
            (Some(rate), _) => Pace::Rate(rate),
            (None, Some(speed)) => Pace::Original(speed),
            (None, None) => Pace::Full,
        };
        let input = match self.file {
            Some(path) => Input::Capture {
                path,
                loops: self.loops,
            },
            None => Input::Synthetic {
                flows: self.flows,
                size: self.size,
                seed: self.seed,
            },
        };
        Ok(Options {
            to: self.to,
            source: self.source,
            vnis: self.vni,
            shape,
            mtu: self.mtu,
            packet_length: self.packet_length,
            checksum: self.checksum,
            input,
            pace,
            count: self.count,
            duration: self.seconds,
            destination: self.write.map_or(Destination::Network, Destination::File),
        })
    }

    fn shape(&self) -> Result<Shape, String> {
        match self.shape {
            ShapeName::Vxlan if self.eni.is_some() || self.endpoint.is_some() => {
                Err("--eni and --endpoint are for --shape gwlb".to_owned())
            }
            ShapeName::Vxlan => Ok(Shape::Vxlan),
            ShapeName::Gwlb => {
                let made_up = Gwlb::default();
                let source = match self.source {
                    Some(IpAddr::V4(source)) => Some(source),
                    _ => None,
                };
                Ok(Shape::Gwlb(Gwlb {
                    mirrored: self.eni.or(source).unwrap_or(made_up.mirrored),
                    endpoint: self.endpoint.unwrap_or(made_up.endpoint),
                    ..made_up
                }))
            }
        }
    }
}

/// An address with a port, or without (0, which stands for the shape's own).
fn target(text: &str) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    match (text.parse(), bare.parse::<IpAddr>()) {
        (Ok(address), _) => Ok(address),
        (_, Ok(ip)) => Ok(SocketAddr::new(ip, 0)),
        _ => Err("give an IP address, with or without a port: 10.0.2.20 or [::1]:4789".to_owned()),
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map(Endpoint)
        .map_err(|_| "give up to 16 hex digits".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    if text == "original" {
        return Ok(1.0);
    }
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("give original, or a number above 0 such as 2 or 0.5".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| *s > 0.0);
    seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "give a number of seconds above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn options(line: &str) -> Result<Options, String> {
        let vni = if line.contains("--vni") {
            ""
        } else {
            "--vni 7"
        };
        let words = ["send", vni].into_iter().filter(|w| !w.is_empty());
        let words = words
            .flat_map(str::split_whitespace)
            .chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|e| e.to_string())?;
        line.args.options()
    }

    #[test]
    fn a_target_needs_no_port_and_shapes_have_their_own() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:0"),
            ("127.0.0.1:99", "127.0.0.1:99"),
            ("::1", "[::1]:0"),
            ("[::1]", "[::1]:0"),
            ("[::1]:99", "[::1]:99"),
        ] {
            let made = options(&format!("--to {text}")).unwrap();
            assert_eq!(made.to, address.parse().unwrap());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_word_on_what_would() {
        for (line, word) in [
            ("", "--to"),
            ("--to ::1 --vni=", "VNI"),
            ("--to host", "IP address"),
            ("--to ::1 --vni 16777216", "16777216"),
            ("--to ::1 --rate 0", "0"),
            ("--to ::1 --speed 2", "<FILE>"),
            ("x.pcap --to ::1 --speed 0", "above 0"),
            ("x.pcap --to ::1 --speed 2 --rate 5", "--rate"),
            ("x.pcap --to ::1 --size 64", "--size"),
            ("--to ::1 --mtu 60", "68"),
            ("--to ::1 --write out.pcap", "--count"),
            ("x.pcap --to ::1 --write out.pcap --seconds 1", "--count"),
            ("--to ::1 --eni 10.0.0.1", "gwlb"),
            ("--to ::1 --seconds 0", "above 0"),
        ] {
            let error = options(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn the_mirrored_eni_of_the_gwlb_shape_is_the_source_unless_told() {
        let eni = |line: &str| match options(line).unwrap().shape {
            Shape::Gwlb(gwlb) => gwlb.mirrored.to_string(),
            Shape::Vxlan => panic!("{line}"),
        };
        let line = "--to 10.1.0.100 --shape gwlb --source 10.9.9.9";
        assert_eq!(eni(line), "10.9.9.9");
        assert_eq!(eni(&format!("{line} --eni 10.0.0.5")), "10.0.0.5");
    }
}
