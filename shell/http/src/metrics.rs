//! Metrics as plain values, and their text for Prometheus.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

/// The media type of [`text`]: OpenMetrics, the text format that Prometheus asks for first.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of one sample, in the order in which they are written.
pub type Labels = Vec<(&'static str, String)>;

/// One metric with all its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// With the prefix `skep_` and the unit last, without the suffix that the kind adds: `skep_commands` becomes
    /// `skep_commands_total`.
    pub name: &'static str,
    /// One phrase, without a full stop.
    pub help: &'static str,
    pub samples: Samples,
}

/// The samples of a metric, by kind, each with its labels.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// Only ever grows while the process runs.
    Counter(Vec<(Labels, u64)>),
    /// Goes up and down.
    Gauge(Vec<(Labels, f64)>),
    Histogram(Vec<(Labels, Histogram)>),
}

/// Observations by size.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub sum: f64,
    /// Upper bounds, ascending, and how many observations lie between the bound and the one before. The last bound is
    /// infinity.
    pub buckets: Vec<(f64, u64)>,
}

impl Metric {
    /// A counter without labels.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Metric {
        Metric { name, help, samples: Samples::Counter(vec![(Vec::new(), value)]) }
    }

    /// A gauge without labels.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Metric {
        Metric { name, help, samples: Samples::Gauge(vec![(Vec::new(), value)]) }
    }
}

/// All of `metrics` in the text format.
pub(crate) fn text(metrics: &[Metric]) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(All(metrics.to_vec())));
    let mut out = String::new();
    encode(&mut out, &registry).expect("a String takes every write");
    out
}

#[derive(Debug)]
struct All(Vec<Metric>);

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in &self.0 {
            let kind = match metric.samples {
                Samples::Counter(_) => MetricType::Counter,
                Samples::Gauge(_) => MetricType::Gauge,
                Samples::Histogram(_) => MetricType::Histogram,
            };
            encode_samples(
                encoder.encode_descriptor(metric.name, metric.help, None, kind)?,
                &metric.samples,
            )?;
        }
        Ok(())
    }
}

fn encode_samples(mut encoder: MetricEncoder<'_>, samples: &Samples) -> fmt::Result {
    const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;
    let encoder = &mut encoder;
    match samples {
        Samples::Counter(values) => {
            each(encoder, values, |encoder, value| encoder.encode_counter(value, NO_EXEMPLAR))
        }
        Samples::Gauge(values) => each(encoder, values, |encoder, value| encoder.encode_gauge(value)),
        Samples::Histogram(values) => each(encoder, values, |encoder, histogram| {
            let count = histogram.buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabelSet>(histogram.sum, count, &histogram.buckets, None)
        }),
    }
}

/// Encodes each value under its labels; without labels there are no braces.
fn each<V>(
    encoder: &mut MetricEncoder<'_>,
    values: &[(Labels, V)],
    encode: impl Fn(&mut MetricEncoder<'_>, &V) -> fmt::Result,
) -> fmt::Result {
    values.iter().try_for_each(|(labels, value)| match labels.is_empty() {
        true => encode(encoder, value),
        false => encode(&mut encoder.encode_family(labels)?, value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_in_the_text_format() {
        let buckets = vec![(0.001, 2), (0.01, 1), (f64::INFINITY, 1)];
        let metrics = [
            Metric::counter("skep_commands", "Commands carried out", 7),
            Metric::gauge("skep_memory_used_bytes", "Memory that values take", 1.5),
            Metric {
                name: "skep_shard_keys",
                help: "Keys by shard",
                samples: Samples::Gauge(vec![
                    (vec![("shard", "1".to_owned()), ("zone", "a\"\\\n".to_owned())], 3.0),
                    (vec![("shard", "2".to_owned()), ("zone", String::new())], 0.0),
                ]),
            },
            Metric {
                name: "skep_fsync_seconds",
                help: "Time that a sync to disk takes",
                samples: Samples::Histogram(vec![(Vec::new(), Histogram { sum: 2.0, buckets })]),
            },
            Metric { name: "skep_none", help: "Nothing yet", samples: Samples::Counter(Vec::new()) },
        ];
        assert_eq!(text(&metrics), include_str!("../testdata/metrics.txt"));
    }
}
