//! Other people's programs read what the exporter writes.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)] // a test

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use cooper_exporter::{
    ArchiveOptions, Content, ImageSpec, LayerBlob, Options, Prepared, prepare, write_file,
};
use cooper_layer::tar::{Member, MemberKind, Writer};
use cooper_layer::{Compression, Compressor};
use cooper_oci::{Config, Descriptor, History, Image};

/// Runs a program; `None` if it is not there, which CI does not accept.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments:?}: {error}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{program}: {error}");
            eprintln!("skipped: {program}: {error}");
            None
        }
    }
}

/// A layer of two files.
fn layer(compression: Compression) -> LayerBlob {
    let compressor = Compressor::new(Vec::new(), compression, None).unwrap();
    let mut writer = Writer::new(compressor);
    for (name, content) in [("hello", "hello\n"), ("etc/motd", "welcome\n")] {
        let mut member = Member::new(name, MemberKind::File);
        (member.mode, member.size) = (0o644, content.len() as u64);
        writer.append(&member).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    let (blob, info) = writer.finish().unwrap().finish().unwrap();
    let media_type = format!("application/vnd.oci.image.layer.v1.{}", compression.media_suffix());
    LayerBlob {
        diff_id: info.diff_id,
        descriptor: Descriptor::new(media_type, info.digest, info.size),
        content: Content::bytes(blob),
        created: Some("2024-05-06T07:08:09Z".parse().unwrap()),
        created_by: "COPY . /".to_owned(),
    }
}

fn image(architecture: &str, compression: Compression) -> ImageSpec {
    let config = Image {
        os: "linux".into(),
        architecture: architecture.into(),
        config: Config { env: vec!["A=b".into()], cmd: vec!["/hello".into()], ..Config::default() },
        history: vec![
            History { created_by: "ENV A=b".into(), empty_layer: true, ..History::default() },
            History { created_by: "COPY . /".into(), ..History::default() },
        ],
        ..Image::default()
    };
    ImageSpec { config, layers: vec![layer(compression)], ..ImageSpec::default() }
}

fn prepared(names: &[&str]) -> Prepared {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    prepare(vec![image("amd64", Compression::default())], &Options { names, ..Options::default() }).unwrap()
}

fn write(prepared: &Prepared, path: &Path, options: &ArchiveOptions) {
    write_file(path, |out| prepared.write_archive(out, options)).unwrap();
}

#[test]
fn the_archive_is_the_same_every_time() {
    let archive = || {
        let mut out = Vec::new();
        prepared(&["app"]).write_archive(&mut out, &ArchiveOptions::default()).unwrap();
        out
    };
    let first = archive();
    assert!(first == archive());
    let mut reader = cooper_layer::tar::Reader::new(&first[..], 1 << 20);
    let mut names = Vec::new();
    while let Some(member) = reader.next().unwrap() {
        names.push(String::from_utf8(member.name).unwrap());
    }
    assert_eq!(names.len(), 7);
    assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(names[5..], ["index.json", "oci-layout"]);
}

#[test]
fn skopeo_reads_archive_and_layout() {
    let scratch = tempfile::tempdir().unwrap();
    let (archive, folder) = (scratch.path().join("a.tar"), scratch.path().join("layout"));
    let prepared = prepared(&["example.org/app:one"]);
    write(&prepared, &archive, &ArchiveOptions::default());
    prepared.write_layout(&folder).unwrap();
    for from in [format!("oci-archive:{}:one", archive.display()), format!("oci:{}:one", folder.display())] {
        let Some(text) = run("skopeo", &["inspect", &from]) else { return };
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["Digest"], prepared.response().digest.to_string());
        assert_eq!(value["Created"], "2024-05-06T07:08:09Z");
        assert_eq!(value["Env"][0], "A=b");
        // A copy verifies every digest and the uncompressed layers.
        let to = format!("dir:{}", scratch.path().join("copy").display());
        run("skopeo", &["copy", "--insecure-policy", &from, &to]);
    }
}

#[test]
fn skopeo_chooses_a_platform_of_an_index() {
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("a.tar");
    let images = vec![image("amd64", Compression::Zstd { level: 3 }), image("arm64", Compression::None)];
    let prepared = prepare(images, &Options { names: vec!["app".into()], ..Options::default() }).unwrap();
    write(&prepared, &archive, &ArchiveOptions::default());
    let from = format!("oci-archive:{}", archive.display());
    for architecture in ["amd64", "arm64"] {
        let Some(text) = run("skopeo", &["--override-arch", architecture, "inspect", &from]) else { return };
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["Architecture"], architecture);
    }
}

#[test]
fn umoci_unpacks_the_layout() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("layout");
    prepared(&["app:one"]).write_layout(&folder).unwrap();
    prepared(&["app:two"]).write_layout(&folder).unwrap();
    let image = format!("{}:one", folder.display());
    let bundle = scratch.path().join("bundle");
    let Some(_) = run("umoci", &["unpack", "--rootless", "--image", &image, bundle.to_str().unwrap()]) else {
        return;
    };
    assert_eq!(fs::read_to_string(bundle.join("rootfs/etc/motd")).unwrap(), "welcome\n");
    let config = fs::read_to_string(bundle.join("config.json")).unwrap();
    assert!(config.contains("/hello") && config.contains("A=b"));
    let listed = run("umoci", &["ls", "--layout", folder.to_str().unwrap()]).unwrap();
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["one", "two"]);
}

#[test]
fn privileged_podman_loads_the_archive_under_its_name() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "root is needed");
        return eprintln!("skipped: needs root");
    }
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (root, runroot, temporary) = (at("root"), at("run"), at("tmp"));
    let podman = |arguments: &[&str]| {
        let own = ["--root", &root, "--runroot", &runroot, "--tmpdir", &temporary];
        let fixed = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs"];
        run("podman", &[&own[..], &fixed, arguments].concat())
    };
    let archive = at("a.tar");
    for (name, docker) in [("app", false), ("example.org/team/app:3", true)] {
        let prepared = prepared(&[name]);
        write(&prepared, Path::new(&archive), &ArchiveOptions { docker });
        let Some(said) = podman(&["load", "-i", &archive]) else { return };
        let full = &prepared.response().names[0];
        assert!(said.contains(full), "{said}");
        let id = podman(&["image", "inspect", "--format", "{{.Id}}", full]).unwrap();
        assert_eq!(format!("sha256:{}", id.trim()), prepared.response().image_id().to_string());
    }
    // The same image under two names.
    let two = prepared(&["app:x", "app:y"]);
    write(&two, Path::new(&archive), &ArchiveOptions::default());
    let said = podman(&["load", "-i", &archive]).unwrap();
    assert!(said.contains("app:x") && said.contains("app:y"), "{said}");
}
