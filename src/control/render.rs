//! A snapshot as Prometheus or OpenMetrics text.
//!
//! Takes: a [`Snapshot`], when somebody scrapes. Gives: the text. Holds: nothing is kept between scrapes; the
//! numbers live with the rooms that own them.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder,
    NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::control::families::{FAMILIES, Family, Kind};
use crate::control::view::{Sample, Value, View};
use crate::control::{Snapshot, UdpErrors};

/// Which text a scraper understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Style {
    /// What the `Accept` header asks for: OpenMetrics where it is named, else the older text.
    pub fn of_accept(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The `Content-Type` of this text.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Renders `snapshot` as `/metrics` shows it.
///
/// # Errors
/// When a number can't be formatted, which no number that we have does.
pub fn metrics(
    snapshot: Snapshot,
    healthy: bool,
    udp: UdpErrors,
    style: Style,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("mirrortap");
    registry.register_collector(Box::new(Scrape {
        snapshot,
        healthy,
        udp,
    }));
    let mut out = String::with_capacity(16 * 1024);
    match style {
        Style::Prometheus => prometheus_text::encode(&mut out, &registry)?,
        Style::OpenMetrics => text::encode(&mut out, &registry)?,
    }
    Ok(out)
}

/// The numbers of one scrape, as the registry wants them.
#[derive(Debug)]
struct Scrape {
    snapshot: Snapshot,
    healthy: bool,
    udp: UdpErrors,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = View::new(&self.snapshot, self.healthy, self.udp);
        for family in FAMILIES {
            let samples = Samples {
                kind: family.kind,
                samples: (family.read)(&view),
            };
            samples.encode(descriptor(&mut encoder, family, samples.metric_type())?)?;
        }
        Ok(())
    }
}

fn descriptor<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    family: &'s Family,
    kind: MetricType,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    encoder.encode_descriptor(family.name, family.help, None, kind)
}

struct Samples<'a> {
    kind: Kind,
    samples: Vec<Sample<'a>>,
}

impl EncodeMetric for Samples<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for sample in &self.samples {
            let (kind, value) = (self.kind, &sample.value);
            match (kind, sample.labels.is_empty()) {
                (Kind::Info, _) => encoder.encode_info(&sample.labels)?,
                (_, true) => encode_number(&mut encoder, kind, value)?,
                (_, false) => {
                    encode_number(&mut encoder.encode_family(&sample.labels)?, kind, value)?;
                }
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Info => MetricType::Info,
        }
    }
}

fn encode_number(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
        Kind::Gauge | Kind::Info => encoder.encode_gauge(value),
    }
}

impl EncodeGaugeValue for Value {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::GaugeValueEncoder<'_>,
    ) -> fmt::Result {
        match self {
            Self::Whole(n) => EncodeGaugeValue::encode(n, encoder),
            Self::Signed(n) => EncodeGaugeValue::encode(n, encoder),
            Self::Real(n) => EncodeGaugeValue::encode(n, encoder),
        }
    }
}

impl EncodeCounterValue for Value {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::CounterValueEncoder<'_>,
    ) -> fmt::Result {
        match self {
            Self::Whole(n) => EncodeCounterValue::encode(n, encoder),
            Self::Signed(n) => EncodeCounterValue::encode(&u64::try_from(*n).unwrap_or(0), encoder),
            Self::Real(n) => EncodeCounterValue::encode(n, encoder),
        }
    }
}
