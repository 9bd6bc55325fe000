//! `--device`: where a command computes.

use crate::failure::Usage;
use crate::ui::out;
use galatea_train::{Choice, Device, DeviceError};

/// The flag.
#[derive(clap::Args)]
pub(crate) struct On {
    /// Where to compute: the GPU if there is one, the GPU or nothing, the CPU
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = ["auto", "cuda", "cpu"])]
    device: String,
}

impl On {
    /// Opens the device. A GPU, and a CPU that stands in for one, are announced where `quiet` does not forbid it.
    ///
    /// # Errors
    /// If a GPU was asked for and there is none.
    pub(crate) fn open(&self, quiet: bool) -> Result<Device, Usage> {
        let choice = match self.device.as_str() {
            "cuda" => Choice::Cuda,
            "cpu" => Choice::Cpu,
            _ => Choice::Auto,
        };
        let (device, why) = Device::open(choice)
            .map_err(|error| Usage::new(error.to_string(), "`--device auto` takes what there is"))?;
        match why {
            // Nobody expects a GPU of a program that was built without one.
            None | Some(DeviceError::WithoutCuda) => {}
            Some(why) if !quiet => out::note(format_args!("device    cpu: {why}")),
            Some(_) => {}
        }
        if let (Some(name), false) = (device.gpu(), quiet) {
            out::note(format_args!("device    {name}"));
        }
        Ok(device)
    }
}
