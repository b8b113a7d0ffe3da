//! Where a local model is asked to compute, and whether this build can.

use mos_config::Device;
use mos_core::ModelError;

/// Refuses a device that is not there; `visible` is the value of `CUDA_VISIBLE_DEVICES`. `auto` is the processor, the
/// only device of this build.
pub(super) fn check(device: &str, visible: Option<&str>) -> Result<(), ModelError> {
    let device: Device = device.parse().map_err(|error| ModelError::Invalid(format!("device: {error}")))?;
    let feature = match device {
        Device::Auto | Device::Cpu => return Ok(()),
        Device::Cuda(index) => {
            check_visible(index, visible)?;
            "cuda"
        }
        Device::Metal => "metal",
    };
    Err(ModelError::NotBuilt { what: format!("the device `{device}` of the local model"), feature })
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
        for device in ["auto", "cpu"] {
            assert!(check(device, Some("")).is_ok(), "{device}");
        }
    }

    #[test]
    fn a_device_that_this_build_lacks_is_named_with_its_feature() {
        for (device, feature) in [("cuda:1", "cuda"), ("metal", "metal")] {
            let error = check(device, None).unwrap_err();
            assert!(matches!(&error, ModelError::NotBuilt { feature: lacking, .. } if *lacking == feature), "{error}");
            assert!(error.to_string().contains(device), "{error}");
        }
        assert!(matches!(check("cuda:0", Some("3,1")), Err(ModelError::NotBuilt { .. })));
    }

    #[test]
    fn a_device_that_is_hidden_is_an_error() {
        for (device, visible) in [("cuda:0", ""), ("cuda:1", "0"), ("cuda:2", "GPU-1, GPU-2"), ("cuda:1", "0,-1,1")] {
            let error = check(device, Some(visible)).unwrap_err().to_string();
            assert!(error.contains(device) && error.contains("CUDA_VISIBLE_DEVICES"), "{error}");
        }
    }
}
