//! What one of each thing costs, as somebody measured it.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::results::ResultFile;

/// Measured with the command that the file itself names.
const BUILT_IN: &str = include_str!("../../data/coefficients.json");

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// Gateway memory without a connection, and without its shards.
    GatewayBytes,
    /// Gateway memory of each shard.
    GatewayBytesPerShard,
    /// Gateway memory of each idle vehicle, connected.
    GatewayBytesPerVehicle,
    /// Gateway memory of each idle dashboard, without its filter.
    GatewayBytesPerDashboard,
    /// Gateway memory of each vehicle in a dashboard's filter.
    GatewayBytesPerWatched,
    /// Kernel memory of the gateway's end of an idle connection.
    KernelBytesPerConnection,
    /// CPU time a second of a shard that is kept awake, whatever comes.
    CpuUsPerShardSecond,
    /// CPU time of each update that a vehicle sends.
    CpuUsPerInbound,
    /// CPU time of each frame to a dashboard.
    CpuUsPerFrame,
    /// CPU time of each update in one.
    CpuUsPerDelivery,
    /// CPU time of each connection: TCP, upgrade, token, first message.
    CpuUsPerConnect,
    /// CPU time of each ping and its pong.
    CpuUsPerHeartbeat,
    /// A vehicle's update on the wire, as WebSocket frame.
    WireBytesPerInbound,
    /// A frame to a dashboard on the wire, without the updates in it.
    WireBytesPerFrame,
    /// Each update in one.
    WireBytesPerDelivery,
    /// Gateway memory that TLS adds to an idle connection.
    TlsBytesPerConnection,
    /// CPU time of each TLS handshake.
    TlsCpuUsPerHandshake,
}

impl Key {
    /// All of them, in the order of explanations.
    pub const ALL: [Self; 17] = [
        Self::GatewayBytes,
        Self::GatewayBytesPerShard,
        Self::GatewayBytesPerVehicle,
        Self::GatewayBytesPerDashboard,
        Self::GatewayBytesPerWatched,
        Self::KernelBytesPerConnection,
        Self::CpuUsPerShardSecond,
        Self::CpuUsPerInbound,
        Self::CpuUsPerFrame,
        Self::CpuUsPerDelivery,
        Self::CpuUsPerConnect,
        Self::CpuUsPerHeartbeat,
        Self::WireBytesPerInbound,
        Self::WireBytesPerFrame,
        Self::WireBytesPerDelivery,
        Self::TlsBytesPerConnection,
        Self::TlsCpuUsPerHandshake,
    ];

    /// Of its value.
    pub fn unit(self) -> &'static str {
        match self {
            Self::CpuUsPerShardSecond => "µs/s",
            Self::CpuUsPerInbound
            | Self::CpuUsPerFrame
            | Self::CpuUsPerDelivery
            | Self::CpuUsPerConnect
            | Self::CpuUsPerHeartbeat
            | Self::TlsCpuUsPerHandshake => "µs",
            _ => "bytes",
        }
    }

    /// As it stands in files.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            // A variant without fields is a string.
            _ => format!("{self:?}"),
        }
    }

    /// Known only if TLS was measured.
    fn is_optional(self) -> bool {
        matches!(
            self,
            Self::TlsBytesPerConnection | Self::TlsCpuUsPerHandshake
        )
    }
}

/// A coefficient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coefficient {
    /// Not negative.
    pub value: f64,
    /// [`Key::unit`].
    pub unit: String,
    /// How it was measured.
    pub from: String,
}

/// All that a plan needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Coefficients(BTreeMap<Key, Coefficient>);

impl Coefficients {
    /// From what was measured.
    ///
    /// # Errors
    /// One is missing, not a quantity, or in another unit.
    pub fn new(measured: BTreeMap<Key, Coefficient>) -> anyhow::Result<Self> {
        for key in Key::ALL {
            let Some(Coefficient { value, unit, .. }) = measured.get(&key) else {
                ensure!(
                    key.is_optional(),
                    "the coefficient {} is missing: measure anew with `longhaul-bench calibrate`",
                    key.name()
                );
                continue;
            };
            ensure!(
                value.is_finite() && *value >= 0.0,
                "the coefficient {} is {value}, which is no quantity",
                key.name()
            );
            ensure!(
                unit == key.unit(),
                "the coefficient {} is in \"{unit}\" and should be in \"{}\"",
                key.name(),
                key.unit()
            );
        }
        Ok(Self(measured))
    }

    /// Those that this program comes with, and where they are from.
    ///
    /// # Errors
    /// The file is damaged (never: it is compiled in and tested).
    pub fn built_in() -> anyhow::Result<(Self, ResultFile)> {
        let value = serde_json::from_str(BUILT_IN).context("the built-in coefficients")?;
        let file = ResultFile::new("built in".to_owned(), value)?;
        Ok((Self::read(&file)?, file))
    }

    /// Those in a result of `calibrate`.
    ///
    /// # Errors
    /// It is the result of something else, or a coefficient is missing or makes no sense.
    pub fn read(file: &ResultFile) -> anyhow::Result<Self> {
        if file.command() != "calibrate" {
            bail!(
                "{} is a result of `{}`: coefficients are written by `longhaul-bench calibrate --json FILE`",
                file.name,
                file.command()
            );
        }
        let measured = BTreeMap::deserialize(&file.value["coefficients"])
            .with_context(|| format!("the coefficients in {}", file.name))?;
        Self::new(measured).with_context(|| format!("in {}", file.name))
    }

    /// One of them; none if it was not measured.
    pub fn get(&self, key: Key) -> Option<&Coefficient> {
        self.0.get(&key)
    }

    /// Its value; 0 if it was not measured.
    pub fn value(&self, key: Key) -> f64 {
        self.get(key).map_or(0.0, |coefficient| coefficient.value)
    }

    /// Whether TLS was measured.
    pub fn know_tls(&self) -> bool {
        Key::ALL
            .iter()
            .filter(|key| key.is_optional())
            .all(|key| self.0.contains_key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_built_in_is_whole() {
        let (coefficients, file) = Coefficients::built_in().unwrap();
        assert!(coefficients.know_tls());
        for key in Key::ALL {
            let coefficient = coefficients.get(key).unwrap();
            // One update more in a frame may cost less than a run can tell.
            let is_some = coefficient.value > 0.0 || key == Key::CpuUsPerDelivery;
            assert!(is_some && !coefficient.from.is_empty(), "{key:?}");
        }
        assert!(file.text("/provenance/machine/cpu").is_some());
    }

    #[test]
    fn files_that_are_of_no_use_say_why() {
        let (_, whole) = Coefficients::built_in().unwrap();
        let refused = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut file = whole.clone();
            change(&mut file.value);
            format!("{:#}", Coefficients::read(&file).unwrap_err())
        };
        let fanout = refused(&|value| value["command"] = json!("fanout"));
        assert!(fanout.contains("result of `fanout`"), "{fanout}");
        let missing = refused(&|value| {
            value["coefficients"]
                .as_object_mut()
                .unwrap()
                .remove("cpu_us_per_frame");
        });
        assert!(missing.contains("cpu_us_per_frame is missing"), "{missing}");
        let unit = refused(&|value| value["coefficients"]["gateway_bytes"]["unit"] = json!("kB"));
        assert!(
            unit.contains("\"kB\"") && unit.contains("\"bytes\""),
            "{unit}"
        );
        let negative =
            refused(&|value| value["coefficients"]["gateway_bytes"]["value"] = json!(-1));
        assert!(negative.contains("no quantity"), "{negative}");
        let unknown = refused(&|value| value["coefficients"]["speed_of_light"] = json!(3));
        assert!(unknown.contains("speed_of_light"), "{unknown}");
        assert!(refused(&|value| value["coefficients"] = json!(7)).contains("coefficients"));
    }

    #[test]
    fn without_tls_it_is_a_plan_without_tls() {
        let (_, mut file) = Coefficients::built_in().unwrap();
        file.value["coefficients"]
            .as_object_mut()
            .unwrap()
            .remove("tls_bytes_per_connection");
        assert!(!Coefficients::read(&file).unwrap().know_tls());
    }
}
