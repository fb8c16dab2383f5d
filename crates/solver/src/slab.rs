//! Numbered slots that are used again; a handle to what was in a slot before finds nothing.

use std::ops::{Index, IndexMut};

/// Names one value of a [`Slab`], for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Handle {
    slot: u32,
    turn: u32,
}

#[derive(Debug)]
struct Entry<T> {
    turn: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    vacant: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), vacant: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Handle {
        if let Some(slot) = self.vacant.pop() {
            let entry = &mut self.entries[slot as usize];
            entry.value = Some(value);
            return Handle { slot, turn: entry.turn };
        }
        // 2^32 vertices would need some 500 GB first.
        let slot = self.entries.len() as u32;
        self.entries.push(Entry { turn: 0, value: Some(value) });
        Handle { slot, turn: 0 }
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        let entry = self.entries.get_mut(handle.slot as usize).filter(|entry| entry.turn == handle.turn)?;
        let value = entry.value.take()?;
        entry.turn = entry.turn.wrapping_add(1);
        self.vacant.push(handle.slot);
        Some(value)
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&T> {
        let entry = self.entries.get(handle.slot as usize).filter(|entry| entry.turn == handle.turn)?;
        entry.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let entry = self.entries.get_mut(handle.slot as usize).filter(|entry| entry.turn == handle.turn)?;
        entry.value.as_mut()
    }

    pub(crate) fn contains(&self, handle: Handle) -> bool {
        self.get(handle).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.vacant.len()
    }
}

/// For handles that the solver's own state keeps alive (an input is there as long as its reader).
impl<T> Index<Handle> for Slab<T> {
    type Output = T;

    fn index(&self, handle: Handle) -> &T {
        match self.get(handle) {
            Some(value) => value,
            None => unreachable!("a handle outlived its value"),
        }
    }
}

impl<T> IndexMut<Handle> for Slab<T> {
    fn index_mut(&mut self, handle: Handle) -> &mut T {
        match self.get_mut(handle) {
            Some(value) => value,
            None => unreachable!("a handle outlived its value"),
        }
    }
}
