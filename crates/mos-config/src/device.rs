//! Where a model computes.

use std::fmt;
use std::str::FromStr;

/// Where a model that runs in this process computes. As text: `auto`, `cpu`, `cuda` (the first), `cuda:N`, `metal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The best that this build has.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The CUDA device of this index, counted among those that `CUDA_VISIBLE_DEVICES` shows.
    Cuda(usize),
    /// Apple's graphics processor.
    Metal,
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device; use auto, cpu, cuda:N or metal")]
pub struct UnknownDevice(String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_owned());
        match text.split_once(':') {
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            Some(_) => Err(unknown()),
            None => match text {
                "auto" => Ok(Self::Auto),
                "cpu" => Ok(Self::Cpu),
                "cuda" => Ok(Self::Cuda(0)),
                "metal" => Ok(Self::Metal),
                _ => Err(unknown()),
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChatModelConfig, Setting};
    use serde_json::json;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(7), Device::Metal] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for bad in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CPU"] {
            assert_eq!(bad.parse::<Device>(), Err(UnknownDevice(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn a_local_model_names_its_device_and_an_unknown_one_is_refused() {
        let read = |device: &str| {
            let config = json!({"backend": "local", "config": {"model_name_or_path": "m", "device": device}});
            ChatModelConfig::from_json(&config)
        };
        assert!(read("cuda:1").is_ok());
        let error = read("tpu").unwrap_err().to_string();
        assert!(error.contains("device") && error.contains("`tpu` is no device"), "{error}");
    }
}
