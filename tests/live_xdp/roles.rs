//! The parts that other processes play, each in a namespace: sensor, sender, and a host's other services.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mirrortap::packet::Batch;
use mirrortap::source::xdp::{self, Allow};
use mirrortap::source::{Clock, Config, Facts, Kind, Received, Source, interfaces};
use mirrortap::time;
use mirrortap::units::Size;

use crate::net_support::{DEVICE, SENSOR, SENSOR6, listen, say, socket};

/// Opens the sources and tells how, receives until it is told to stop, and tells what came.
pub(crate) fn sensor(words: &[&str]) {
    let has = |word| words.contains(&word);
    let allow = Allow {
        native: !has("generic"),
        frags: !has("whole"),
        ..Allow::default()
    };
    let mut config = Config::default();
    if has("small") {
        config.receive_buffer = Size(1 << 20);
    }
    if has("second") {
        config.listen = vec!["[::]:6081".parse().unwrap()];
    }
    let companions = xdp::companions(&config).unwrap();
    config.interface = vec![DEVICE.to_owned()];
    let receivers = if has("one") { 1 } else { 4 };
    let opened = if has("card") {
        // of a card that says it has times, and has none
        let found = interfaces::find(&config).unwrap();
        xdp::open_on(&found[0], &config, Clock::Hardware, receivers, allow)
            .map_err(|e| e.to_string())
    } else {
        xdp::open(&config, receivers, allow).map_err(|e| e.to_string())
    };
    let sources = match opened {
        Ok(sources) => sources,
        Err(error) => return say(&format!("refused: {error}")),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    let mode = sources[0].facts().mode.clone();
    let slow = has("slow");
    // so many batches hold every frame that there is
    let batches = if has("hoard") { 128 } else { 2 };
    for source in sources {
        let facts = source.facts();
        readers.push(Reader::spawn(Box::new(source), facts, &stop, slow, batches));
    }
    for source in companions {
        let facts = source.facts();
        readers.push(Reader::spawn(Box::new(source), facts, &stop, false, 2));
    }
    say(&format!("{}: {mode}", readers.len()));
    listen();
    stop.store(true, Ordering::Release);
    let mut total = Reader::default();
    for reader in readers {
        total.add(reader.join().unwrap());
    }
    say(&total.report());
}

/// What a source gave.
#[derive(Default)]
struct Reader {
    /// By kind of source.
    received: BTreeMap<&'static str, u64>,
    seen: BTreeMap<u64, u64>,
    lengths: u64,
    wrong: u64,
    refused: u64,
    late: u64,
    lost: u64,
    mixed: u64,
    /// AF_XDP sources that something came through.
    busy: u64,
}

impl Reader {
    fn spawn(
        mut source: Box<dyn Source>,
        facts: Arc<Facts>,
        stop: &Arc<AtomicBool>,
        slow: bool,
        batches: usize,
    ) -> std::thread::JoinHandle<Self> {
        let stop = Arc::clone(stop);
        std::thread::spawn(move || {
            let mut this = Self::default();
            let mut batches: Vec<Batch> = (0..batches).map(|_| source.new_batch(0)).collect();
            let count = batches.len();
            let mut order = 0;
            for turn in 0.. {
                if stop.load(Ordering::Acquire) {
                    source.stop();
                }
                let batch: &mut Batch = &mut batches[turn % count];
                source.reclaim(batch);
                batch.clear();
                let Ok(received) = source.receive(batch) else {
                    say("gone");
                    break;
                };
                assert!(batch.datagrams.iter().all(|d| d.order >= order), "order");
                order = batch.order;
                if received == Received::End {
                    break;
                }
                this.check(batch, facts.kind);
                if slow {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            this.lost = facts.lost.iter().map(|(_, n)| n.value()).sum();
            this.busy = u64::from(this.received.contains_key("xdp"));
            this.mixed = facts.stray_times.value();
            this
        })
    }

    fn check(&mut self, batch: &Batch, kind: Kind) {
        self.refused += batch.refused.received;
        if !batch.datagrams.is_empty() {
            *self.received.entry(kind.name()).or_default() += batch.datagrams.len() as u64;
        }
        let now = time::now();
        for datagram in &batch.datagrams {
            let bytes = batch.bytes(datagram.start, datagram.len);
            let number = bytes.first_chunk().map_or(0, |n| u64::from_be_bytes(*n));
            *self.seen.entry(number).or_default() += 1;
            let same = bytes == payload(number, bytes.len()) && datagram.port == 4789;
            self.wrong += u64::from(!same || datagram.cut != 0);
            self.lengths += bytes.len() as u64;
            let age = now.since(datagram.time).max(datagram.time.since(now));
            self.late += u64::from(age > Duration::from_secs(2));
        }
    }

    fn add(&mut self, other: Self) {
        for (kind, n) in other.received {
            *self.received.entry(kind).or_default() += n;
        }
        for (number, n) in other.seen {
            *self.seen.entry(number).or_default() += n;
        }
        self.lengths += other.lengths;
        self.wrong += other.wrong;
        self.refused += other.refused;
        self.late += other.late;
        self.lost += other.lost;
        self.mixed += other.mixed;
        self.busy += other.busy;
    }

    fn report(&self) -> String {
        let of = |kind| self.received.get(kind).copied().unwrap_or(0);
        let twice = self.seen.values().filter(|n| **n > 1).count();
        format!(
            "xdp={} udp={} distinct={} twice={twice} wrong={} refused={} late={} lost={} mixed={} bytes={} busy={}",
            of("xdp"),
            of("udp"),
            self.seen.len(),
            self.wrong,
            self.refused,
            self.late,
            self.lost,
            self.mixed,
            self.lengths,
            self.busy
        )
    }
}

/// A datagram's number, and bytes that follow from it.
fn payload(number: u64, len: usize) -> Vec<u8> {
    let noise = (0_u64..).map(|i| (number.wrapping_mul(31).wrapping_add(i * 7) >> 2) as u8);
    let bytes = number.to_be_bytes().into_iter().chain(noise);
    bytes.take(len).collect()
}

/// For each line `count least most`: so many datagrams of those lengths, alternately to either address; tells how many bytes.
pub(crate) fn sender() {
    // many ports, so that they spread over the queues
    let pairs = [0; 16].map(|_| ["0.0.0.0:0", "[::]:0"].map(socket));
    let targets: [SocketAddr; 2] =
        [format!("{SENSOR}:4789"), format!("[{SENSOR6}]:4789")].map(|t| t.parse().unwrap());
    while let Some(line) = listen() {
        let n: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
        let mut bytes = 0;
        for i in 0..n[0] {
            let len = n[1] + i * 37 % (n[2] - n[1] + 1);
            let way = (i % 2) as usize;
            let bytes_of = payload(i, len as usize);
            let pair = &pairs[(i / 2 % 16) as usize];
            pair[way].send_to(&bytes_of, targets[way]).unwrap();
            bytes += len;
            // a receive queue of veth holds 256
            if n.len() == 3 && i % 64 == 63 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        say(&bytes.to_string());
    }
}

/// Answers over TCP and UDP on other ports than the tunnels'.
pub(crate) fn echo() {
    let tcp = std::net::TcpListener::bind((SENSOR, 7000)).unwrap();
    let udp = UdpSocket::bind((SENSOR, 7001)).unwrap();
    say("ready");
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((n, from)) = udp.recv_from(&mut buffer) {
            udp.send_to(&buffer[..n], from).unwrap();
        }
    });
    for stream in tcp.incoming() {
        let stream = stream.unwrap();
        std::io::copy(&mut &stream, &mut &stream).unwrap();
    }
}
