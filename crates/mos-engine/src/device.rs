//! Where a model computes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device};
use mos_core::ModelError;

use crate::kv::CopyBudget;

/// Where a model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ComputeDevice {
    /// The first CUDA device, where this build has the `cuda` feature and the device answers; else the processor.
    Auto,
    /// The processor, with kernels of our own: the only one whose results are the same bit by bit.
    #[default]
    Processor,
    /// The CUDA device of this index, counted among those that `CUDA_VISIBLE_DEVICES` shows.
    Cuda(usize),
    /// What other devices compute, but in single precision; on the processor, through candle's operations, without an
    /// index. Slower than the others: for tests.
    #[doc(hidden)]
    SinglePrecision(Option<usize>),
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Processor | Self::SinglePrecision(None) => f.write_str("cpu"),
            Self::Cuda(index) | Self::SinglePrecision(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

/// CUDA devices that were opened, by index; each once per process, so that models share it.
static OPENED: Mutex<Option<HashMap<usize, Device>>> = Mutex::new(None);

impl ComputeDevice {
    /// Refuses a device that this build cannot compute on. Whether it answers is known when a model is opened.
    ///
    /// # Errors
    /// [`ModelError::NotBuilt`], naming the feature.
    pub fn check(self) -> Result<(), ModelError> {
        match self {
            Self::Cuda(_) | Self::SinglePrecision(Some(_)) if !candle_core::utils::cuda_is_available() => {
                Err(ModelError::NotBuilt { what: format!("the device `{self}` of the local model"), feature: "cuda" })
            }
            _ => Ok(()),
        }
    }

    /// Returns what [`Self::Auto`] stands for on this machine; the others stand for themselves.
    pub(crate) fn resolve(self) -> Self {
        match self {
            Self::Auto if candle_core::utils::cuda_is_available() => match cuda(0) {
                Ok(_) => Self::Cuda(0),
                Err(error) => {
                    tracing::info!(%error, "the processor computes");
                    Self::Processor
                }
            },
            Self::Auto => Self::Processor,
            other => other,
        }
    }

    /// Opens the device; `None` is the processor with kernels of our own.
    ///
    /// # Errors
    /// As [`Self::check`]; [`ModelError::Invalid`] when the device does not answer.
    pub(crate) fn open(self) -> Result<Option<Arc<TensorDevice>>, ModelError> {
        self.check()?;
        Ok(match self.resolve() {
            Self::Processor | Self::Auto => None,
            Self::Cuda(index) => Some(TensorDevice::reduced(cuda(index)?)),
            Self::SinglePrecision(None) => Some(TensorDevice::single(Device::Cpu)),
            Self::SinglePrecision(Some(index)) => Some(TensorDevice::single(cuda(index)?)),
        })
    }
}

fn cuda(index: usize) -> Result<Device, ModelError> {
    let mut guard = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = guard.get_or_insert_default();
    if let Some(device) = opened.get(&index) {
        return Ok(device.clone());
    }
    let device = start(index).map_err(|detail| {
        ModelError::Invalid(format!(
            "the device `cuda:{index}` does not answer ({detail}); see with `nvidia-smi` whether it is there and its \
             driver is new enough for this build, or use `device: cpu`"
        ))
    })?;
    opened.insert(index, device.clone());
    Ok(device)
}

/// Starts a device with a stream of its own, which orders what several threads ask for.
fn start(index: usize) -> Result<Device, String> {
    // Without a driver, the bindings to it panic when they are first asked.
    let started = std::panic::catch_unwind(|| Device::new_cuda_with_stream(index));
    match started {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => Err(first_line(&error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
            Err(first_line(text.unwrap_or("its driver cannot be loaded")))
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// An opened device, and the types that it computes with.
pub(crate) struct TensorDevice {
    pub(crate) device: Device,
    /// The type of weights and activations.
    pub(crate) dtype: DType,
    /// The type in which attention reads queries, keys and values; it holds what `f16` holds.
    pub(crate) attention: DType,
    /// Scores, of all heads together, that attention has in memory at a time (unless one token has more).
    pub(crate) tile_scores: usize,
    /// Bounds the copies of segments on this device.
    pub(crate) copies: CopyBudget,
}

impl TensorDevice {
    fn single(device: Device) -> Arc<Self> {
        Arc::new(Self::new(device, DType::F32, DType::F32))
    }

    fn new(device: Device, dtype: DType, attention: DType) -> Self {
        // A device is busy only with many; on the processor, few stay in its cache.
        let tile_scores = if device.is_cpu() { 1 << 16 } else { 1 << 26 };
        Self { device, dtype, attention, tile_scores, copies: CopyBudget::default() }
    }

    /// Half the bytes where the device can: brain floats, whose range all models fit into. Others, too, would be fewer
    /// bytes on older devices, but some models leave their range.
    fn reduced(device: Device) -> Arc<Self> {
        if has_brain_floats(&device) {
            Arc::new(Self::new(device, DType::BF16, DType::F16))
        } else {
            Self::single(device)
        }
    }

    /// Whether both are the same device, computing with the same types.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.device.same_device(&other.device) && (self.dtype, self.attention) == (other.dtype, other.attention)
    }
}

impl fmt::Display for TensorDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.device.location() {
            candle_core::DeviceLocation::Cpu => f.write_str("cpu tensors")?,
            candle_core::DeviceLocation::Cuda { gpu_id } => write!(f, "cuda:{gpu_id}")?,
            candle_core::DeviceLocation::Metal { gpu_id } => write!(f, "metal:{gpu_id}")?,
        }
        write!(f, " ({})", self.dtype.as_str())
    }
}

impl fmt::Debug for TensorDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether the device's kernels for brain floats were built and run: from compute capability 8.0 on.
#[cfg(feature = "cuda")]
fn has_brain_floats(device: &Device) -> bool {
    let major =
        device.as_cuda_device().ok().and_then(|device| device.cuda_stream().context().compute_capability().ok());
    major.is_some_and(|(major, _)| major >= 8)
}

#[cfg(not(feature = "cuda"))]
fn has_brain_floats(device: &Device) -> bool {
    device.supports_bf16()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_the_feature_names_it_and_auto_is_the_processor() {
        if candle_core::utils::cuda_is_available() {
            return;
        }
        let error = ComputeDevice::Cuda(1).check().unwrap_err();
        assert!(matches!(error, ModelError::NotBuilt { feature: "cuda", .. }));
        assert!(
            error.to_string().contains("`cuda:1`") && error.to_string().contains("cargo build --features cuda"),
            "{error}"
        );
        assert!(ComputeDevice::Auto.open().unwrap().is_none());
        assert!(ComputeDevice::Processor.open().unwrap().is_none());
    }

    #[test]
    fn with_the_feature_an_absent_device_is_named_with_what_to_do() {
        if !candle_core::utils::cuda_is_available() {
            return;
        }
        let error = ComputeDevice::Cuda(999).open().unwrap_err().to_string();
        assert!(error.contains("`cuda:999`") && error.contains("nvidia-smi"), "{error}");
        assert!(ComputeDevice::Auto.open().is_ok());
    }
}
