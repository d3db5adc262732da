//! The macro behind the table of metrics, and what it calls to encode.
#![forbid(unsafe_code)]

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Turns a table of metrics into a struct of cells and the function that encodes the sum of many such structs.
///
/// A family is `kind "name" "help" { fields }`. The kinds:
/// - `counter`: summed over the shards
/// - `gauge`: summed over the shards
/// - `busy`: a counter of nanoseconds, shown in seconds for each shard, because a sum would hide the busiest
///
/// A field is `field,` or, if the family has a label, `field: label = "value",`.
macro_rules! shard_metrics {
    (
        $(#[$attribute:meta])*
        pub struct $Struct:ident {
            $($kind:ident $name:literal $help:literal {
                $($field:ident $(: $label:ident = $value:literal)?),+ $(,)?
            })+
        }
    ) => {
        $(#[$attribute])*
        pub struct $Struct {
            $($(
                #[doc = $help]
                $(#[doc = concat!("\n\n`", stringify!($label), " = \"", $value, "\"`")])?
                pub $field: $crate::metrics::family::cell!($kind),
            )+)+
        }

        impl $Struct {
            /// Encodes the sum of these blocks.
            pub(super) fn encode(
                shards: &[std::sync::Arc<Self>],
                encoder: &mut prometheus_client::encoding::DescriptorEncoder,
            ) -> std::fmt::Result {
                $({
                    let mut family = $crate::metrics::family::$kind(encoder, $name, $help)?;
                    $({
                        let label: Option<(&str, &str)> = [$((stringify!($label), $value),)?].first().copied();
                        family.series(label, shards.iter().map(|shard| shard.$field.get()))?;
                    })+
                })+
                Ok(())
            }
        }
    };
}

/// The type of cell for a kind of family.
macro_rules! cell {
    (counter) => {
        $crate::metrics::Counter
    };
    (gauge) => {
        $crate::metrics::Gauge
    };
    (busy) => {
        $crate::metrics::Counter
    };
}

pub(super) use {cell, shard_metrics};

/// Encodes one series from its label and the values of each shard.
type EncodeSeries =
    fn(&mut MetricEncoder, Option<(&str, &str)>, &mut dyn Iterator<Item = u64>) -> fmt::Result;

/// Encodes the series of one family from the values of each shard.
pub(super) struct Family<'a> {
    encoder: MetricEncoder<'a>,
    encode: EncodeSeries,
}

impl Family<'_> {
    pub(super) fn series(
        &mut self,
        label: Option<(&str, &str)>,
        mut values: impl Iterator<Item = u64>,
    ) -> fmt::Result {
        (self.encode)(&mut self.encoder, label, &mut values)
    }
}

pub(super) fn counter<'a>(
    encoder: &'a mut DescriptorEncoder,
    name: &'a str,
    help: &str,
) -> Result<Family<'a>, fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    Ok(Family {
        encoder,
        encode: |encoder, label, values| {
            let sum = values.fold(0, u64::wrapping_add);
            match label {
                Some(label) => encoder
                    .encode_family(&[label])?
                    .encode_counter::<NoLabelSet, _, u64>(&sum, None),
                None => encoder.encode_counter::<NoLabelSet, _, u64>(&sum, None),
            }
        },
    })
}

pub(super) fn gauge<'a>(
    encoder: &'a mut DescriptorEncoder,
    name: &'a str,
    help: &str,
) -> Result<Family<'a>, fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    Ok(Family {
        encoder,
        encode: |encoder, label, values| {
            let sum = values.fold(0, u64::saturating_add);
            match label {
                Some(label) => encoder.encode_family(&[label])?.encode_gauge(&sum),
                None => encoder.encode_gauge(&sum),
            }
        },
    })
}

pub(super) fn busy<'a>(
    encoder: &'a mut DescriptorEncoder,
    name: &'a str,
    help: &str,
) -> Result<Family<'a>, fmt::Error> {
    const NANOSECONDS: f64 = 1e9;
    let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    Ok(Family {
        encoder,
        encode: |encoder, _, values| {
            for (shard, nanoseconds) in values.enumerate() {
                let seconds = nanoseconds as f64 / NANOSECONDS;
                encoder
                    .encode_family(&[("shard", shard as u64)])?
                    .encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
            }
            Ok(())
        },
    })
}
