//! The values of a tensor on a CPU backend, as slices.

use std::borrow::Cow;

use burn::backend::flex::FlexTensor;
use burn::backend::ndarray::{NdArrayTensor, SharedArray};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchDevice, Flex, NdArray};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use rekindle_kernels::WeightOrder;

/// A backend whose tensors of 32-bit floats lie in this process's memory.
pub trait HostBackend: Backend {
    /// The values in order, without a copy when they lie in order.
    fn values(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]>;

    /// The values in order, without a copy when nobody else holds them.
    fn into_values(tensor: FloatTensor<Self>) -> Vec<f32>;

    /// The weight `[inputs, outputs]` of a linear layer, without a copy when it or its transpose lies in order.
    fn weight(tensor: &FloatTensor<Self>) -> (Cow<'_, [f32]>, WeightOrder);

    /// A tensor of these values, without a copy.
    fn tensor(values: Vec<f32>, shape: Shape) -> FloatTensor<Self>;

    /// The tensor by the name of its backend.
    fn held(tensor: FloatTensor<Self>) -> Held;
}

impl HostBackend for Flex {
    fn values(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        match tensor.as_slice() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(Self::into_values(tensor.clone())),
        }
    }

    fn into_values(tensor: FloatTensor<Self>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("only tensors of 32-bit floats are passed")
    }

    fn weight(tensor: &FloatTensor<Self>) -> (Cow<'_, [f32]>, WeightOrder) {
        let layout = tensor.layout();
        if let [1, stride] = *layout.strides()
            && !layout.is_contiguous()
            && stride as usize == layout.shape()[0]
        {
            let values = &tensor.storage::<f32>()[layout.start_offset()..][..layout.num_elements()];
            return (Cow::Borrowed(values), WeightOrder::OutputsFirst);
        }
        (Self::values(tensor), WeightOrder::InputsFirst)
    }

    fn tensor(values: Vec<f32>, shape: Shape) -> FloatTensor<Self> {
        FlexTensor::from_data(TensorData::new(values, shape))
    }

    fn held(tensor: FloatTensor<Self>) -> Held {
        Held::Flex(tensor)
    }
}

impl HostBackend for NdArray {
    fn values(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        let NdArrayTensor::F32(storage) = tensor else { unreachable!("only tensors of 32-bit floats are passed") };
        let view = storage.view();
        match view.to_slice() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(view.iter().copied().collect()),
        }
    }

    fn into_values(tensor: FloatTensor<Self>) -> Vec<f32> {
        let NdArrayTensor::F32(storage) = tensor else { unreachable!("only tensors of 32-bit floats are passed") };
        let array = storage.into_shared();
        if !array.is_standard_layout() {
            return array.iter().copied().collect();
        }
        let len = array.len();
        let (mut values, start) = array.into_owned().into_raw_vec_and_offset();
        let start = start.unwrap_or(0);
        if (start, values.len()) != (0, len) {
            values.copy_within(start..start + len, 0);
            values.truncate(len);
        }
        values
    }

    fn weight(tensor: &FloatTensor<Self>) -> (Cow<'_, [f32]>, WeightOrder) {
        let NdArrayTensor::F32(storage) = tensor else { unreachable!("only tensors of 32-bit floats are passed") };
        match storage.view().reversed_axes().to_slice() {
            Some(values) => (Cow::Borrowed(values), WeightOrder::OutputsFirst),
            None => (Self::values(tensor), WeightOrder::InputsFirst),
        }
    }

    fn tensor(values: Vec<f32>, shape: Shape) -> FloatTensor<Self> {
        let array = SharedArray::from_shape_vec(shape.to_vec(), values).expect("as many values as the shape says");
        NdArrayTensor::from(array)
    }

    fn held(tensor: FloatTensor<Self>) -> Held {
        Held::NdArray(tensor)
    }
}

/// A CPU backend, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// burn-flex.
    Flex,
    /// burn-ndarray.
    NdArray,
}

impl Host {
    /// The CPU backend of a device, with or without autodiff; none for others.
    pub fn of(device: &Device) -> Option<Self> {
        fn of(device: &DispatchDevice) -> Option<Host> {
            match device {
                DispatchDevice::Flex(_) => Some(Host::Flex),
                DispatchDevice::NdArray(_) => Some(Host::NdArray),
                DispatchDevice::Autodiff(device) => of(device),
                _ => None,
            }
        }
        of(device.as_dispatch())
    }

    /// A tensor of these values, without a copy.
    pub fn tensor<const D: usize>(self, values: Vec<f32>, shape: Shape) -> Tensor<D> {
        match self {
            Self::Flex => Tensor::from_primitive::<Flex>(Flex::tensor(values, shape)),
            Self::NdArray => Tensor::from_primitive::<NdArray>(NdArray::tensor(values, shape)),
        }
    }
}

/// A tensor of 32-bit floats on a CPU backend.
#[derive(Clone)]
pub enum Held {
    /// Of burn-flex.
    Flex(FlexTensor),
    /// Of burn-ndarray.
    NdArray(NdArrayTensor),
}

impl Held {
    /// Takes hold of a tensor; none on other devices, with other values, or under autodiff.
    pub fn of<const D: usize>(tensor: Tensor<D>) -> Option<Self> {
        if tensor.dtype() != DType::F32 {
            return None;
        }
        match Host::of(&tensor.device())? {
            Host::Flex => tensor.try_into_primitive::<Flex>().ok().map(Self::Flex),
            Host::NdArray => tensor.try_into_primitive::<NdArray>().ok().map(Self::NdArray),
        }
    }

    /// The tensor as Burn's.
    pub fn tensor<const D: usize>(&self) -> Tensor<D> {
        match self {
            Self::Flex(tensor) => Tensor::from_primitive::<Flex>(tensor.clone()),
            Self::NdArray(tensor) => Tensor::from_primitive::<NdArray>(tensor.clone()),
        }
    }

    /// The values in order.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Flex(tensor) => Flex::values(tensor),
            Self::NdArray(tensor) => NdArray::values(tensor),
        }
    }

    /// The values, where they lie in order.
    pub fn slice(&self) -> Option<&[f32]> {
        match self {
            Self::Flex(tensor) => tensor.as_slice(),
            Self::NdArray(NdArrayTensor::F32(storage)) => storage.view().to_slice(),
            Self::NdArray(_) => None,
        }
    }

    /// The values in order, without a copy when nobody else holds them.
    pub fn into_values(self) -> Vec<f32> {
        match self {
            Self::Flex(tensor) => Flex::into_values(tensor),
            Self::NdArray(tensor) => NdArray::into_values(tensor),
        }
    }

    /// Where the first value lies.
    pub fn address(&self) -> u64 {
        match self {
            Self::Flex(tensor) => tensor.bytes().as_ptr() as u64,
            Self::NdArray(NdArrayTensor::F32(storage)) => storage.view().as_ptr() as u64,
            Self::NdArray(_) => 0,
        }
    }

    /// Whether both are the same memory in the same order.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Flex(a), Self::Flex(b)) => a.bytes().as_ptr() == b.bytes().as_ptr() && a.layout() == b.layout(),
            (Self::NdArray(NdArrayTensor::F32(a)), Self::NdArray(NdArrayTensor::F32(b))) => {
                let (a, b) = (a.view(), b.view());
                a.as_ptr() == b.as_ptr() && a.shape() == b.shape() && a.strides() == b.strides()
            }
            _ => false,
        }
    }

    /// Whether nobody else holds the tensor any more: its network is gone.
    pub fn forgotten(&self) -> bool {
        match self {
            Self::Flex(tensor) => tensor.is_unique(),
            Self::NdArray(NdArrayTensor::F32(storage)) => storage.is_unique(),
            Self::NdArray(_) => true,
        }
    }
}
