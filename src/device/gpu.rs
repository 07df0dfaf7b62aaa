//! Adapters of wgpu: listing them, and opening one by the route that returns an error instead of panicking.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, OnceLock};

use burn::tensor::{Device, DeviceKind};
use burn_wgpu::wgpu;
use burn_wgpu::{WgpuBackend, WgpuInitError};

use super::{Backend, DeviceError, OpenDevice};

/// One adapter, in the order of wgpu's own list.
#[derive(Debug, Clone)]
pub(super) struct Adapter {
    index: usize,
    kind: Option<DeviceKind>,
    info: wgpu::AdapterInfo,
}

impl Adapter {
    pub(super) fn name(&self) -> String {
        format!("wgpu:{}", self.index)
    }

    pub(super) fn description(&self) -> String {
        let kind = match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete GPU",
            wgpu::DeviceType::IntegratedGpu => "integrated GPU",
            wgpu::DeviceType::VirtualGpu => "virtual GPU",
            wgpu::DeviceType::Cpu => "software on the CPU",
            wgpu::DeviceType::Other => "unknown kind",
        };
        format!("{} ({kind}, {:?})", self.info.name, self.info.backend)
    }

    pub(super) fn open(&self) -> Result<OpenDevice, DeviceError> {
        open(Backend::Wgpu, Some(self.index))
    }

    fn is_real_gpu(&self) -> bool {
        !matches!(self.info.device_type, wgpu::DeviceType::Cpu | wgpu::DeviceType::Other)
    }
}

/// The adapters of the first graphics API that has any, as Burn's automatic choice does.
pub(super) fn adapters() -> &'static [Adapter] {
    static ADAPTERS: OnceLock<Vec<Adapter>> = OnceLock::new();
    ADAPTERS.get_or_init(|| super::guarded(find_adapters).unwrap_or_default())
}

fn find_adapters() -> Vec<Adapter> {
    let apis = if cfg!(target_vendor = "apple") {
        vec![wgpu::Backends::METAL, wgpu::Backends::VULKAN]
    } else {
        vec![wgpu::Backends::VULKAN, wgpu::Backends::DX12]
    };
    let found = apis.into_iter().map(adapters_of).find(|adapters| !adapters.is_empty());
    // Burn counts each kind of adapter from zero.
    let mut counts = [0_usize; 3];
    let mut next = |kind: usize| {
        counts[kind] += 1;
        counts[kind] - 1
    };
    let number = |info: &wgpu::AdapterInfo, next: &mut dyn FnMut(usize) -> usize| match info.device_type {
        wgpu::DeviceType::DiscreteGpu => Some(DeviceKind::DiscreteGpu(next(0))),
        wgpu::DeviceType::IntegratedGpu => Some(DeviceKind::IntegratedGpu(next(1))),
        wgpu::DeviceType::VirtualGpu => Some(DeviceKind::VirtualGpu(next(2))),
        wgpu::DeviceType::Cpu => Some(DeviceKind::Cpu),
        wgpu::DeviceType::Other => None,
    };
    found
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(index, info)| Adapter { index, kind: number(&info, &mut next), info })
        .collect()
}

/// The adapters of one graphics API, asked without a display: others write to stderr when there is none.
fn adapters_of(api: wgpu::Backends) -> Vec<wgpu::AdapterInfo> {
    let descriptor =
        wgpu::InstanceDescriptor { backends: api, ..wgpu::InstanceDescriptor::new_without_display_handle() };
    let instance = wgpu::Instance::new(descriptor);
    let adapters = burn::tensor::read_sync(instance.enumerate_adapters(api));
    adapters.iter().map(wgpu::Adapter::get_info).collect()
}

/// The numbers of adapters that are not software.
pub(super) fn real_gpus() -> Vec<usize> {
    adapters().iter().filter(|adapter| adapter.is_real_gpu()).map(|adapter| adapter.index).collect()
}

/// The first adapter that is not software, if it opens.
pub(super) fn open_real_gpu() -> Option<OpenDevice> {
    adapters().iter().filter(|adapter| adapter.is_real_gpu()).find_map(|adapter| adapter.open().ok())
}

/// Opens an adapter by its number in the list, or the first. An adapter is opened once in a process and remembered.
pub(super) fn open(backend: Backend, index: Option<usize>) -> Result<OpenDevice, DeviceError> {
    static OPEN: LazyLock<Mutex<HashMap<(Backend, usize), OpenDevice>>> = LazyLock::new(Mutex::default);
    let requested = super::DeviceName { backend, index }.to_string();
    let adapters = adapters();
    let position = index.unwrap_or(0);
    let Some(adapter) = adapters.get(position) else {
        let problem = match adapters.len() {
            0 => "no adapter was found: is a Vulkan, Metal or DirectX 12 driver installed?".to_string(),
            1 => "there is only one adapter, number 0".to_string(),
            n => format!("there are {n} adapters, numbers 0 to {}", n - 1),
        };
        return Err(DeviceError::NotFound { name: requested, problem });
    };
    let mut opened = OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(open) = opened.get(&(backend, position)) {
        return Ok(open.clone());
    }
    let refused = |reason: String| DeviceError::Refused { name: requested.clone(), reason };
    let kind = adapter
        .kind
        .clone()
        .ok_or_else(|| refused(format!("{} is of a kind that Burn does not open", adapter.info.name)))?;
    let api = match backend {
        Backend::Vulkan => WgpuBackend::Vulkan,
        Backend::Metal => WgpuBackend::Metal,
        _ => WgpuBackend::Auto,
    };
    let device = super::guarded(|| Device::wgpu_options().device_kind(kind).graphics_api(api).init())
        .map_err(&refused)?
        .map_err(|error: WgpuInitError| refused(error.to_string()))?;
    let name = format!("{}:{position}", backend.name());
    let software_gpu = adapter.info.device_type == wgpu::DeviceType::Cpu;
    let open = OpenDevice { software_gpu, ..OpenDevice::new(backend, device, name, adapter.description()) };
    opened.insert((backend, position), open.clone());
    Ok(open)
}
