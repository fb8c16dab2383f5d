//! How fast layers are unpacked, scanned and compressed. Run it without other load; figures are per byte of tar.
#![allow(missing_docs, clippy::unwrap_used)] // macros of the bench harness; failing loudly is right here

use criterion::{Criterion, criterion_group, criterion_main};

#[cfg(target_os = "linux")]
fn layer(criterion: &mut Criterion) {
    use std::io::Write as _;
    use std::num::NonZeroUsize;

    use cooper_layer::{
        Compression, Compressor, Devices, Directory, Merged, OverlayXattrs, Owners, ScanOptions,
        UnpackOptions, scan, tar, unpack,
    };
    use criterion::{BatchSize, Throughput};

    // 2,000 files of 4 to 36 KiB, text that compresses to about a third.
    let mut writer = tar::Writer::new(Vec::new());
    let words = b"import os, sys\n    def name(self, value):\n        return self.value or None\n";
    let mut state = 1_u64;
    for number in 0..2000_u64 {
        let mut content = Vec::new();
        while content.len() < 4096 + (number as usize % 32) * 1024 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(number);
            content.extend_from_slice(&words[(state >> 58) as usize..]);
            content.extend_from_slice(&state.to_le_bytes());
        }
        let mut member = tar::Member::new(format!("d{}/f{number}", number % 50), tar::MemberKind::File);
        (member.size, member.mode) = (content.len() as u64, 0o644);
        writer.append(&member).unwrap();
        writer.write_all(&content).unwrap();
    }
    let archive = writer.finish().unwrap();
    let options = UnpackOptions {
        overlay: OverlayXattrs::User,
        owners: Owners::Record,
        devices: Devices::Record,
        ..UnpackOptions::default()
    };

    let mut group = criterion.benchmark_group("layer");
    group.sample_size(10).throughput(Throughput::Bytes(archive.len() as u64));
    group.bench_function("unpack", |bencher| {
        bencher.iter_batched(
            || tempfile::tempdir().unwrap(),
            |scratch| {
                unpack(&archive[..], &Directory::open(scratch.path()).unwrap(), &options).unwrap();
                scratch
            },
            BatchSize::PerIteration,
        );
    });
    let scratch = tempfile::tempdir().unwrap();
    let directory = Directory::open(scratch.path()).unwrap();
    unpack(&archive[..], &directory, &options).unwrap();
    group.bench_function("scan", |bencher| {
        bencher.iter(|| scan(&directory, Merged::new(&[]), &ScanOptions::default()).unwrap());
    });
    for threads in [1, 2] {
        for (name, compression) in
            [("gzip 6", Compression::Gzip { level: 6 }), ("zstd 3", Compression::Zstd { level: 3 })]
        {
            group.bench_function(format!("{name}, {threads} threads"), |bencher| {
                bencher.iter(|| {
                    let threads = NonZeroUsize::new(threads);
                    let mut compressor = Compressor::new(std::io::sink(), compression, threads).unwrap();
                    compressor.write_all(&archive).unwrap();
                    compressor.finish().unwrap().1
                });
            });
        }
    }
    group.finish();
}

#[cfg(not(target_os = "linux"))]
fn layer(_: &mut Criterion) {}

criterion_group!(benches, layer);
criterion_main!(benches);
