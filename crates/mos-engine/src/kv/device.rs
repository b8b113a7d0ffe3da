//! Keys and values on a device that computes with tensors.
//!
//! Per layer, keys and values are `[kv_heads, places, head_dim]` in the type of [`TensorDevice::attention`]. A tail
//! holds its prefix and its own tokens side by side, so that attention reads one tensor; segments keep a copy of their
//! own on the device, as long as there is room, for the next tail that begins with them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use candle_core::{DType, Device, Tensor};
use half::f16;
use half::vec::{HalfBitsVecExt, HalfFloatVecExt};
use mos_core::ModelError;

use super::{KvPrefix, KvSegment, KvShape, Largest, LayerKv};
use crate::device::TensorDevice;
use crate::error::device_failed;

/// Bytes of segments' copies that stay on a device.
const COPIES_BYTES: usize = 4 << 30;
/// A tail that grows gets this part of its length as room to spare, and at least so many places.
const SPARE: usize = 8;
const SPARE_PLACES: usize = 64;

/// Keys and values of one layer, each `[kv_heads, places, head_dim]`, contiguous.
#[derive(Clone, Debug)]
pub(crate) struct TensorKv {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

impl TensorKv {
    /// Returns some places, in tensors of their own.
    fn copied(&self, places: &Range<usize>) -> candle_core::Result<Self> {
        let copied = |tensor: &Tensor| tensor.narrow(1, places.start, places.len())?.force_contiguous();
        Ok(Self { keys: copied(&self.keys)?, values: copied(&self.values)? })
    }
}

/// Returns the bytes of some places on a device.
fn bytes(place: &TensorDevice, shape: KvShape, places: usize) -> usize {
    2 * shape.layers * shape.row() * places * place.attention.size_in_bytes()
}

/// A segment's copy on a device, if there is one. The segment owns it; the device's budget may take it away.
#[derive(Clone, Default)]
pub(crate) struct DeviceSlot(Arc<Slot>);

type Slot = Mutex<Option<DeviceCopy>>;

struct DeviceCopy {
    place: Arc<TensorDevice>,
    layers: Arc<Vec<TensorKv>>,
}

impl DeviceSlot {
    fn fill(&self, place: &Arc<TensorDevice>, layers: Arc<Vec<TensorKv>>, bytes: usize) {
        let copy = DeviceCopy { place: Arc::clone(place), layers };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
        place.copies.note(self, bytes);
    }
}

/// Bounds the copies of segments on a device; the least recently used go first.
pub(crate) struct CopyBudget {
    limit_bytes: usize,
    /// Least recently used first, with their bytes.
    copies: Mutex<VecDeque<(Weak<Slot>, usize)>>,
}

impl Default for CopyBudget {
    fn default() -> Self {
        Self::new(COPIES_BYTES)
    }
}

impl CopyBudget {
    fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, copies: Mutex::default() }
    }

    /// Notes that a copy is in use, and takes others away when it is one too many. Call it with no slot locked.
    fn note(&self, slot: &DeviceSlot, bytes: usize) {
        let used = Arc::downgrade(&slot.0);
        let mut victims = Vec::new();
        {
            let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            copies.retain(|(copy, _)| copy.strong_count() > 0 && !copy.ptr_eq(&used));
            copies.push_back((used, bytes));
            let mut total: usize = copies.iter().map(|(_, bytes)| bytes).sum();
            while total > self.limit_bytes {
                let Some((copy, bytes)) = copies.pop_front() else { break };
                total -= bytes;
                victims.extend(copy.upgrade());
            }
        }
        for victim in victims {
            *victim.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl KvSegment {
    /// Returns the keys and values of all layers on a device; copied there once, as long as there is room.
    pub(crate) fn on_device(&self, place: &Arc<TensorDevice>) -> candle_core::Result<Arc<Vec<TensorKv>>> {
        let layers = {
            let mut slot = self.device.0.lock().unwrap_or_else(PoisonError::into_inner);
            match &*slot {
                Some(copy) if copy.place.is_same(place) => Arc::clone(&copy.layers),
                _ => {
                    let upload = |layer| self.upload(place, layer);
                    let layers = Arc::new((0..self.shape.layers).map(upload).collect::<candle_core::Result<_>>()?);
                    *slot = Some(DeviceCopy { place: Arc::clone(place), layers: Arc::clone(&layers) });
                    layers
                }
            }
        };
        place.copies.note(&self.device, bytes(place, self.shape, self.len()));
        Ok(layers)
    }

    fn upload(&self, place: &TensorDevice, layer: usize) -> candle_core::Result<TensorKv> {
        let KvShape { kv_heads, head_dim, .. } = self.shape;
        let upload = |rows: Vec<u16>| {
            let rows =
                Tensor::from_vec(rows.reinterpret_into::<f16>(), (kv_heads, self.len(), head_dim), &Device::Cpu)?;
            rows.to_device(&place.device)?.to_dtype(place.attention)
        };
        Ok(TensorKv { keys: upload(self.keys(layer))?, values: upload(self.values(layer))? })
    }
}

/// A tail on a device: its prefix, then its tokens, and room for more.
#[derive(Clone)]
pub(crate) struct DeviceTail {
    place: Arc<TensorDevice>,
    /// Shared with forks until one of them writes.
    layers: Arc<Vec<TensorKv>>,
    capacity: usize,
    /// Places that were asked for ahead.
    announced: usize,
    /// What the first places hold.
    prefix: KvPrefix,
}

impl DeviceTail {
    pub(crate) fn new(place: &Arc<TensorDevice>) -> Self {
        let (layers, prefix) = (Arc::default(), KvPrefix::default());
        Self { place: Arc::clone(place), layers, capacity: 0, announced: 0, prefix }
    }

    pub(crate) fn place(&self) -> &Arc<TensorDevice> {
        &self.place
    }

    /// Bytes on the device, room to spare included.
    pub(crate) fn bytes(&self, shape: KvShape) -> usize {
        bytes(&self.place, shape, self.capacity)
    }

    /// What the first places hold.
    pub(crate) fn prefix(&self) -> &KvPrefix {
        &self.prefix
    }

    /// Says what the first places hold.
    pub(crate) fn set_prefix(&mut self, prefix: KvPrefix) {
        self.prefix = prefix;
    }

    /// Notes that there will be so many places: the next time that room is made, it is made for all of them.
    pub(crate) fn announce(&mut self, places: usize) {
        self.announced = places;
    }

    /// The layers, to read, and after [`Self::make_room`] to write to.
    pub(crate) fn layers(&self) -> &[TensorKv] {
        &self.layers
    }

    /// Makes room for `needed` places that are nobody else's; the first `kept` stay as they are.
    pub(crate) fn make_room(&mut self, shape: KvShape, kept: usize, needed: usize) -> candle_core::Result<()> {
        let is_own = Arc::get_mut(&mut self.layers).is_some();
        if is_own && needed <= self.capacity {
            return Ok(());
        }
        let grown = self.announced.max(needed + needed / SPARE).next_multiple_of(SPARE_PLACES);
        let capacity = if needed <= self.capacity { self.capacity } else { grown };
        let room = |old: Option<&TensorKv>| {
            let size = (shape.kv_heads, capacity, shape.head_dim);
            let zeros = || Tensor::zeros(size, self.place.attention, &self.place.device);
            let new = TensorKv { keys: zeros()?, values: zeros()? };
            if let Some(old) = old.filter(|_| kept > 0) {
                let TensorKv { keys, values } = old.copied(&(0..kept))?;
                new.keys.slice_set(&keys, 1, 0)?;
                new.values.slice_set(&values, 1, 0)?;
            }
            Ok(new)
        };
        let layers: candle_core::Result<Vec<_>> =
            (0..shape.layers).map(|number| room(self.layers.get(number))).collect();
        (self.layers, self.capacity, self.announced) = (Arc::new(layers?), capacity, 0);
        Ok(())
    }

    /// Returns some places in memory.
    ///
    /// # Errors
    /// [`ModelError::BadModel`] when they are not finite numbers; [`ModelError::Internal`] when the device fails.
    pub(crate) fn download(&self, shape: KvShape, places: &Range<usize>) -> Result<Vec<LayerKv>, ModelError> {
        let rows = |tensor: &Tensor| -> candle_core::Result<Vec<u16>> {
            let rows = tensor.narrow(1, places.start, places.len())?.to_dtype(DType::F16)?;
            Ok(rows.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f16>()?.reinterpret_into())
        };
        let mut largest = Largest::default();
        let mut layers = Vec::with_capacity(shape.layers);
        for TensorKv { keys, values } in self.layers.iter() {
            let keys = rows(keys).map_err(device_failed)?;
            let values = rows(values).map_err(device_failed)?;
            keys.iter().chain(&values).for_each(|&bits| largest.add(bits));
            layers.push(LayerKv::from_rows(shape, places.len(), &keys, &values));
        }
        largest.check()?;
        Ok(layers)
    }

    /// Leaves some places on the device as the copy of a segment that holds them.
    pub(crate) fn leave_copy(
        &self,
        shape: KvShape,
        places: &Range<usize>,
        slot: &DeviceSlot,
    ) -> candle_core::Result<()> {
        let layers = self.layers.iter().map(|layer| layer.copied(places)).collect::<candle_core::Result<Vec<_>>>()?;
        slot.fill(&self.place, Arc::new(layers), bytes(&self.place, shape, places.len()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::decoder::Fingerprint;

    const SHAPE: KvShape = KvShape { layers: 2, kv_heads: 3, head_dim: 16 };
    const TOKENS: usize = 21;

    fn place(limit_bytes: usize) -> Arc<TensorDevice> {
        let (device, dtype) = (Device::Cpu, DType::F32);
        let copies = CopyBudget::new(limit_bytes);
        Arc::new(TensorDevice { device, dtype, attention: dtype, tile_scores: 1, copies })
    }

    fn segment(first: u16) -> KvSegment {
        let rows: Vec<u16> = (0..SHAPE.row() * TOKENS).map(|at| first + at as u16).collect();
        let rows = |layer: usize| {
            let values: Vec<u16> = rows.iter().map(|bits| bits + layer as u16).collect();
            Ok((Cow::Owned(rows.clone()), Cow::Owned(values)))
        };
        KvSegment::from_rows(SHAPE, Fingerprint([1; 32]), 0, vec![5; TOKENS], rows).unwrap()
    }

    fn has_copy(segment: &KvSegment) -> bool {
        segment.device.0.lock().unwrap().is_some()
    }

    #[test]
    fn the_copies_used_last_stay_and_the_others_come_again() {
        let place = place(2 * bytes(&place(0), SHAPE, TOKENS));
        let segments: Vec<KvSegment> = (0..3).map(|number| segment(1000 * number)).collect();
        for (number, kept) in
            [(0, [true, false, false]), (1, [true, true, false]), (0, [true, true, false]), (2, [true, false, true])]
        {
            let copy = segments[number].on_device(&place).unwrap();
            let again = segments[number].on_device(&place).unwrap();
            assert!(Arc::ptr_eq(&copy, &again), "one copy is enough");
            assert_eq!(segments.iter().map(has_copy).collect::<Vec<_>>(), kept);
        }
        let small = self::place(1);
        let copy = segments[1].on_device(&small).unwrap();
        assert!(copy.len() == SHAPE.layers && !has_copy(&segments[1]), "used, but too large to stay");
        drop(segments);
        assert!(place.copies.copies.lock().unwrap().iter().all(|(copy, _)| copy.strong_count() == 0));
    }

    #[test]
    fn what_goes_to_a_device_comes_back_the_same() {
        let (place, segment) = (place(1 << 20), segment(300));
        let mut tail = DeviceTail::new(&place);
        tail.make_room(SHAPE, 0, 2 * TOKENS).unwrap();
        for (to, from) in tail.layers().iter().zip(segment.on_device(&place).unwrap().iter()) {
            to.keys.slice_set(&from.keys, 1, 4).unwrap();
            to.values.slice_set(&from.values, 1, 4).unwrap();
        }
        let fork = tail.clone();
        tail.make_room(SHAPE, 4 + TOKENS, 3 * TOKENS).unwrap();
        let zeros = Tensor::zeros((SHAPE.kv_heads, TOKENS, SHAPE.head_dim), DType::F32, &Device::Cpu).unwrap();
        for tail in [tail.layers(), fork.layers()] {
            let layers = DeviceTail { layers: Arc::new(tail.to_vec()), ..fork.clone() };
            for (number, layer) in layers.download(SHAPE, &(4..4 + TOKENS)).unwrap().iter().enumerate() {
                assert_eq!(layer.keys, segment.layer(number).keys);
                assert_eq!(layer.values, segment.layer(number).values);
            }
            // The other has buffers of its own.
            tail[0].keys.slice_set(&zeros, 1, 4).unwrap();
        }
    }
}
