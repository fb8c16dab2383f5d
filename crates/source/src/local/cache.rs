use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cooper_layer::LayerPath;
use cooper_oci::{Digest, Hasher};
use cooper_store::Store;

const KIND: &str = "stat";

/// A change within this time of the hashing might not be visible in the change time: file systems stamp with a coarse
/// clock, some with whole seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// Digests of files by what the file system says of them.
///
/// A digest is trusted only if inode, size, both times, mode and owner are the same and the change time lies well before
/// the hashing. Programs that write through memory maps may leave the times as they are until the kernel writes the pages
/// back; such a change is noticed then. Folders on network and user-space file systems are not cached at all.
#[derive(Debug, Default)]
pub struct StatCache {
    key: Option<Digest>,
    known: HashMap<LayerPath, (Stat, Digest)>,
    changed: bool,
}

/// What the file system says of a file, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat([u64; 8]);

impl Stat {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self([
            meta.ino(),
            meta.size(),
            nanos(meta.mtime(), meta.mtime_nsec()),
            nanos(meta.ctime(), meta.ctime_nsec()),
            u64::from(meta.mode()),
            u64::from(meta.uid()),
            u64::from(meta.gid()),
            meta.dev(),
        ])
    }

    fn changed(&self) -> u64 {
        self.0[3]
    }
}

/// Times as the kernel gives them, folded into one number; equality is all that is asked of most of them.
fn nanos(seconds: i64, nanos: i64) -> u64 {
    (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanos as u64)
}

impl StatCache {
    /// Reads what an earlier build left for a folder. Something unreadable is an empty cache.
    pub(super) fn load(root: &Path, store: Option<&Store>) -> io::Result<Self> {
        let Some(store) = store else { return Ok(Self::default()) };
        if !trusted(root)? {
            return Ok(Self::default());
        }
        let mut hash = Hasher::new();
        hash.field(b"cooper stat cache 1");
        hash.field(root.as_os_str().as_bytes());
        let key = hash.finish();
        let bytes = store.memo_get(KIND, &key).ok().flatten().map(|memo| memo.value).unwrap_or_default();
        Ok(Self { key: Some(key), known: decode(&bytes).unwrap_or_default(), changed: false })
    }

    pub(super) fn get(&self, path: &LayerPath, stat: &Stat) -> Option<Digest> {
        self.known.get(path).filter(|(known, _)| known == stat).map(|(_, digest)| *digest)
    }

    pub(super) fn put(&mut self, path: &LayerPath, stat: Stat, digest: Digest, started: SystemTime) {
        let settled = started.checked_sub(SETTLED).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        if settled.is_some_and(|settled| u128::from(stat.changed()) < settled.as_nanos()) {
            self.known.insert(path.clone(), (stat, digest));
            self.changed = true;
        }
    }

    pub(super) fn save(&mut self, store: &Store) -> Result<(), cooper_store::Error> {
        let Some(key) = self.key.filter(|_| self.changed) else { return Ok(()) };
        store.memo_put(KIND, &key, &encode(&self.known))?;
        self.changed = false;
        Ok(())
    }
}

/// Tells whether change times of this file system mean what they should.
fn trusted(root: &Path) -> io::Result<bool> {
    // NFS, SMB, CIFS, SMB2, FUSE, 9p, AFS, Ceph (include/uapi/linux/magic.h); virtiofs says FUSE.
    const REMOTE: [u64; 8] =
        [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997, 0x5346_414f, 0x00c3_6400];
    let kind = rustix::fs::statfs(root)?.f_type as u64 & 0xffff_ffff;
    Ok(!REMOTE.contains(&kind))
}

fn encode(known: &HashMap<LayerPath, (Stat, Digest)>) -> Vec<u8> {
    let mut out = Vec::with_capacity(known.len() * 140);
    for (path, (stat, digest)) in known {
        out.extend((path.as_bytes().len() as u32).to_le_bytes());
        out.extend(path.as_bytes());
        stat.0.iter().for_each(|number| out.extend(number.to_le_bytes()));
        out.extend(digest.as_bytes());
    }
    out
}

/// Reads what [`encode`] wrote; `None` if it is cut off or mangled.
fn decode(mut bytes: &[u8]) -> Option<HashMap<LayerPath, (Stat, Digest)>> {
    let mut out = HashMap::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (path, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (numbers, rest) = rest.split_first_chunk::<64>()?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let mut stat = [0; 8];
        for (slot, number) in stat.iter_mut().zip(numbers.as_chunks::<8>().0) {
            *slot = u64::from_le_bytes(*number);
        }
        out.insert(LayerPath::new(path).ok()?, (Stat(stat), Digest::from_bytes(*digest)));
        bytes = rest;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trip_and_damage() {
        let path = LayerPath::new("a/b").unwrap();
        let known = HashMap::from([(path, (Stat([1, 2, 3, 4, 5, 6, 7, u64::MAX]), Digest::of("x")))]);
        let bytes = encode(&known);
        assert_eq!(decode(&bytes), Some(known));
        for cut in 1..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_trusted() {
        let mut cache = StatCache::default();
        let path = LayerPath::new("f").unwrap();
        let at = |seconds: u64| Stat([0, 0, 0, seconds * 1_000_000_000, 0, 0, 0, 0]);
        let started = UNIX_EPOCH + Duration::from_secs(100);
        for (changed, trusted) in
            [(90, true), (97, true), (98, false), (99, false), (100, false), (200, false)]
        {
            cache.known.clear();
            cache.put(&path, at(changed), Digest::of("x"), started);
            assert_eq!(cache.get(&path, &at(changed)).is_some(), trusted, "{changed}");
        }
    }
}
