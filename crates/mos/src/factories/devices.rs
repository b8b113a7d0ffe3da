//! Where a local model is asked to compute.

use mos_config::Device;
use mos_core::ModelError;
use mos_engine::ComputeDevice;

/// Returns where a local model is to compute: `auto`, `cpu` or `cuda:N`, counted among the devices that
/// `CUDA_VISIBLE_DEVICES` shows.
///
/// # Errors
/// [`ModelError::Invalid`] for no device, one that is hidden, and Metal; [`ModelError::NotBuilt`] for one that needs
/// another build. Whether the device answers is known when a model is opened.
pub fn compute_device(device: &str) -> Result<ComputeDevice, ModelError> {
    choose(device, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())
}

fn choose(device: &str, visible: Option<&str>) -> Result<ComputeDevice, ModelError> {
    let device: Device = device.parse().map_err(|error| ModelError::Invalid(format!("device: {error}")))?;
    let device = match device {
        Device::Auto => ComputeDevice::Auto,
        Device::Cpu => ComputeDevice::Processor,
        Device::Cuda(index) => {
            check_visible(index, visible)?;
            ComputeDevice::Cuda(index)
        }
        Device::Metal => {
            return Err(ModelError::Invalid(
                "the device `metal` is not supported in this version; use `cpu`, or `cuda:N` in a build with the \
                 `cuda` feature"
                    .to_owned(),
            ));
        }
    };
    device.check()?;
    Ok(device)
}

/// As the driver reads it: indices count what the variable lists, up to the first entry that is none.
fn check_visible(index: usize, visible: Option<&str>) -> Result<(), ModelError> {
    let Some(visible) = visible else { return Ok(()) };
    let entries = visible.split(',').map(str::trim);
    let n_devices = entries.take_while(|entry| !entry.is_empty() && !entry.starts_with('-')).count();
    if index < n_devices {
        return Ok(());
    }
    Err(ModelError::Invalid(format!(
        "there is no device `cuda:{index}`: CUDA_VISIBLE_DEVICES is `{visible}`, which shows {n_devices} of them; \
         indices count from 0"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there() {
        for (device, expected) in [("auto", ComputeDevice::Auto), ("cpu", ComputeDevice::Processor)] {
            assert_eq!(choose(device, Some("")).unwrap(), expected);
        }
    }

    #[test]
    fn a_build_without_the_feature_names_it_and_one_with_it_takes_the_device() {
        match choose("cuda:1", Some("3,1")) {
            Ok(device) => assert!(cfg!(feature = "cuda") && device == ComputeDevice::Cuda(1)),
            Err(error) => {
                assert!(!cfg!(feature = "cuda") && matches!(error, ModelError::NotBuilt { feature: "cuda", .. }));
                let text = error.to_string();
                assert!(text.contains("`cuda:1`") && text.contains("cargo build --features cuda"), "{text}");
            }
        }
    }

    #[test]
    fn metal_is_not_supported_and_no_feature_is_promised() {
        let error = choose("metal", None).unwrap_err();
        assert!(matches!(&error, ModelError::Invalid(text) if text.contains("not supported")), "{error}");
    }

    #[test]
    fn a_device_that_is_hidden_is_an_error() {
        for (device, visible) in [("cuda:0", ""), ("cuda:1", "0"), ("cuda:2", "GPU-1, GPU-2"), ("cuda:1", "0,-1,1")] {
            let error = choose(device, Some(visible)).unwrap_err().to_string();
            assert!(error.contains(device) && error.contains("CUDA_VISIBLE_DEVICES"), "{error}");
        }
    }
}
