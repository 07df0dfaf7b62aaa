//! Devices: their names on the command line, opening one without a panic, and trying each.
//!
//! Only this module and [`crate::kernels`], whose kernels extend the two CPU backends, name backends and allow burn-ndarray's deprecation.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard};

use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

#[cfg(feature = "wgpu")]
mod gpu;

/// A device as a user names it: `auto`, `wgpu`, `wgpu:1`, `vulkan`, `metal`, `cuda:0`, `ndarray`, `flex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceName {
    backend: Backend,
    index: Option<usize>,
}

/// A way to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The best device that is here; an open device is never of this kind.
    Auto,
    /// A GPU by whatever graphics interface it has.
    Wgpu,
    /// A GPU by Vulkan.
    Vulkan,
    /// A GPU by Metal.
    Metal,
    /// An NVIDIA GPU by CUDA.
    Cuda,
    /// The ndarray CPU backend.
    NdArray,
    /// The fast CPU backend.
    Flex,
}

impl Backend {
    const ALL: [Self; 7] = [Self::Auto, Self::Wgpu, Self::Vulkan, Self::Metal, Self::Cuda, Self::NdArray, Self::Flex];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Cuda => "cuda",
            Self::NdArray => "ndarray",
            Self::Flex => "flex",
        }
    }

    /// Whether this program was built with it.
    fn built(self) -> bool {
        match self {
            Self::Auto | Self::NdArray | Self::Flex => true,
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// Whether it computes on the CPU.
    pub fn is_cpu(self) -> bool {
        matches!(self, Self::NdArray | Self::Flex)
    }

    fn takes_index(self) -> bool {
        matches!(self, Self::Wgpu | Self::Vulkan | Self::Metal | Self::Cuda)
    }
}

/// Why a device cannot be used. Its text is one sentence.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The name is none that exists.
    #[error(
        "unknown device '{name}': expected auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex{nearest}"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// A suggestion, or nothing.
        nearest: String,
    },
    /// A number follows a device that has only one, or is no number.
    #[error("device '{name}': {problem}")]
    Index {
        /// What was asked for.
        name: String,
        /// What is wrong with the number.
        problem: String,
    },
    /// The program was built without the backend.
    #[error("device '{name}' is not in this build: install with `--features {name}`, or use --device {instead}")]
    NotBuilt {
        /// The backend.
        name: &'static str,
        /// A device that works.
        instead: &'static str,
    },
    /// No adapter of the backend was found, or not that many.
    #[error("device '{name}': {problem}; `rekindle devices` lists what is here, and --device flex always works")]
    NotFound {
        /// What was asked for.
        name: String,
        /// How many there are.
        problem: String,
    },
    /// The driver refused.
    #[error(
        "device '{name}' cannot be opened: {reason}; `rekindle devices` lists what is here, and --device flex always works"
    )]
    Refused {
        /// What was asked for.
        name: String,
        /// The driver's words.
        reason: String,
    },
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index)),
            None => (text, None),
        };
        let Some(backend) = Backend::ALL.into_iter().find(|backend| backend.name() == name) else {
            let nearest = crate::error::nearest(name, Backend::ALL.iter().map(|backend| backend.name()));
            return Err(DeviceError::Unknown { name: text.to_string(), nearest });
        };
        let index = match index {
            None => None,
            Some(_) if !backend.takes_index() => {
                return Err(DeviceError::Index {
                    name: text.to_string(),
                    problem: format!("{name} is a single device and takes no number: write --device {name}"),
                });
            }
            Some(digits) => Some(digits.parse().map_err(|_| DeviceError::Index {
                name: text.to_string(),
                problem: format!("'{digits}' is not a device number: write {name}:0 for the first"),
            })?),
        };
        Ok(Self { backend, index })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}:{index}", self.backend.name()),
            None => f.write_str(self.backend.name()),
        }
    }
}

/// An open device with the name that it goes by.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// Burn's handle. Call [`Device::autodiff`] on it for training.
    pub device: Device,
    /// What computes.
    pub backend: Backend,
    /// The short name: `flex`, `ndarray`, `wgpu:0`.
    pub name: String,
    /// The adapter, or what the backend is.
    pub description: String,
    /// Whether it is a GPU that is computed in software, whose kernels take long to compile.
    pub software_gpu: bool,
}

impl OpenDevice {
    fn new(backend: Backend, device: Device, name: impl Into<String>, description: impl Into<String>) -> Self {
        Self { device, backend, name: name.into(), description: description.into(), software_gpu: false }
    }
}

impl DeviceName {
    /// The default: the best device here.
    pub const AUTO: Self = Self { backend: Backend::Auto, index: None };
    /// The fast CPU backend.
    pub const FLEX: Self = Self { backend: Backend::Flex, index: None };
    /// The ndarray CPU backend.
    pub const NDARRAY: Self = Self { backend: Backend::NdArray, index: None };

    /// The device of a process that shares its machine with others: where the name leaves open which adapter, it takes the one of
    /// its number, and several share one where there are not as many.
    #[must_use]
    pub fn on_rank(self, local_rank: usize) -> Self {
        let place = |count: usize| (count > 0).then(|| local_rank % count);
        let (backend, index) = match self.backend {
            _ if self.index.is_some() => return self,
            #[cfg(feature = "wgpu")]
            Backend::Wgpu | Backend::Vulkan | Backend::Metal => (self.backend, place(gpu::adapters().len())),
            #[cfg(feature = "wgpu")]
            Backend::Auto => {
                let real = gpu::real_gpus();
                match place(real.len()) {
                    Some(place) => (Backend::Wgpu, Some(real[place])),
                    None => return self,
                }
            }
            #[cfg(feature = "cuda")]
            Backend::Cuda => {
                let count = guarded(|| Device::enumerate(burn::tensor::DeviceType::Cuda).len()).unwrap_or(0);
                (self.backend, place(count))
            }
            _ => return self,
        };
        Self { backend, index }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// When this build lacks the backend, no such adapter is here, or its driver refuses.
    pub fn open(self) -> Result<OpenDevice, DeviceError> {
        if !self.backend.built() {
            return Err(DeviceError::NotBuilt { name: self.backend.name(), instead: "flex" });
        }
        match self.backend {
            Backend::Flex => Ok(flex()),
            Backend::NdArray => Ok(ndarray()),
            Backend::Auto => Ok(self.open_auto()),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu | Backend::Vulkan | Backend::Metal => gpu::open(self.backend, self.index),
            #[cfg(feature = "cuda")]
            Backend::Cuda => cuda(self.index.unwrap_or(0)),
            #[allow(unreachable_patterns, reason = "which arms remain depends on the features")]
            other => Err(DeviceError::NotBuilt { name: other.name(), instead: "flex" }),
        }
    }

    /// A real GPU if one opens, else the faster CPU backend.
    fn open_auto(self) -> OpenDevice {
        #[cfg(feature = "wgpu")]
        if let Some(open) = gpu::open_real_gpu() {
            return open;
        }
        flex()
    }
}

fn flex() -> OpenDevice {
    OpenDevice::new(Backend::Flex, Device::flex(), "flex", "CPU, burn-flex")
}

#[allow(deprecated, reason = "burn-ndarray is deprecated upstream, and kept beside flex on purpose")]
fn ndarray() -> OpenDevice {
    OpenDevice::new(Backend::NdArray, Device::ndarray(), "ndarray", "CPU, burn-ndarray")
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<OpenDevice, DeviceError> {
    let name = format!("cuda:{index}");
    let open = guarded(|| {
        let found = Device::enumerate(burn::tensor::DeviceType::Cuda).len();
        (index < found).then(|| Device::cuda(index)).ok_or(found)
    });
    match open {
        Ok(Ok(device)) => Ok(OpenDevice::new(Backend::Cuda, device, name, "NVIDIA GPU, CUDA")),
        Ok(Err(found)) => Err(DeviceError::NotFound { name, problem: format!("{found} CUDA devices were found") }),
        Err(reason) => Err(DeviceError::Refused { name, reason }),
    }
}

/// What trying a device showed.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceReport {
    /// The name for `--device`.
    pub name: String,
    /// The adapter, or what the backend is.
    pub description: String,
    /// Whether a small matrix product came out right.
    pub works: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether `auto` would take it.
    pub auto: bool,
}

/// Every backend and adapter, each tried with a small matrix product.
pub fn list() -> Vec<DeviceReport> {
    let chosen = DeviceName::AUTO.open().map(|open| open.name).unwrap_or_default();
    let mut reports = Vec::new();
    #[cfg(feature = "wgpu")]
    reports
        .extend(gpu::adapters().iter().map(|adapter| report(&adapter.name(), &adapter.description(), adapter.open())));
    for backend in [Backend::Wgpu, Backend::Vulkan, Backend::Metal, Backend::Cuda, Backend::NdArray, Backend::Flex] {
        let listed = backend == Backend::Wgpu && !reports.is_empty();
        if !listed {
            reports.push(report(backend.name(), "", DeviceName { backend, index: None }.open()));
        }
    }
    for report in &mut reports {
        report.auto = report.name == chosen;
    }
    reports
}

fn report(name: &str, description: &str, open: Result<OpenDevice, DeviceError>) -> DeviceReport {
    let mut report = DeviceReport {
        name: name.to_string(),
        description: description.to_string(),
        works: false,
        reason: None,
        auto: false,
    };
    match open {
        Err(error) => report.reason = Some(error.to_string()),
        Ok(open) => {
            report.name = open.name;
            report.description = open.description;
            match try_matmul(&open.device) {
                Ok(()) => report.works = true,
                Err(reason) => report.reason = Some(reason),
            }
        }
    }
    report
}

/// Multiplies two 64×64 matrices of small integers, whose product every float computes exactly.
fn try_matmul(device: &Device) -> Result<(), String> {
    const SIDE: usize = 64;
    let a: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 7) as f32 - 3.0).collect();
    let b: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 5) as f32 - 2.0).collect();
    let product = guarded(|| {
        let a = Tensor::<2>::from_data(TensorData::new(a.clone(), [SIDE, SIDE]), device);
        let b = Tensor::<2>::from_data(TensorData::new(b.clone(), [SIDE, SIDE]), device);
        a.matmul(b).into_data().iter::<f32>().collect::<Vec<_>>()
    })?;
    for (i, &got) in product.iter().enumerate() {
        let (row, column) = (i / SIDE, i % SIDE);
        let expected: f32 = (0..SIDE).map(|k| a[row * SIDE + k] * b[k * SIDE + column]).sum();
        if got != expected {
            return Err(format!(
                "a 64×64 matrix product is wrong: element [{row}, {column}] is {got}, expected {expected}"
            ));
        }
    }
    Ok(())
}

/// Runs code of a driver or backend that may panic, and gives its words instead.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    crate::error::without_panic_output(|| catch_unwind(AssertUnwindSafe(run)))
        .map_err(|panic| crate::error::panic_text(&*panic))
}

/// Seeds a device's random numbers. The generator is one for the whole process and backend: whoever needs a stream of random
/// numbers to himself holds [`seed_lock`] meanwhile.
pub fn seed(device: &Device, seed: u64) {
    device.seed(seed);
}

/// The lock that keeps seeded work from disturbing other seeded work in one process.
pub fn seed_lock() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
