//! Programs from the distribution: which are missing, and installing them where that is allowed.

use anyhow::{Result, bail};

use crate::sh;

/// A program and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// Name of the program on PATH.
    pub(crate) program: &'static str,
    /// Name of Debian's package.
    pub(crate) package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// What the stand-in base image is made with.
pub(crate) const FIXTURE: &[Tool] = &[tool("debootstrap", "debootstrap")];

/// Everything that the tests run against.
pub(crate) const TEST: &[Tool] = &[
    tool("crun", "crun"),
    tool("runc", "runc"),
    tool("podman", "podman"),
    tool("skopeo", "skopeo"),
    tool("umoci", "umoci"),
    tool("docker-registry", "docker-registry"),
    tool("newuidmap", "uidmap"),
    tool("debootstrap", "debootstrap"),
    tool("setpriv", "util-linux"),
    tool("git", "git"),
    tool("busybox", "busybox-static"),
    tool("python3", "python3"),
    tool("ssh-keygen", "openssh-client"),
    tool("cc", "gcc"),
];

/// Says whether apt can be used here: root, on Debian or a child of it.
pub(crate) fn can_install() -> bool {
    is_root() && is_debian()
}

/// Says whether this process is root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Says whether this is Debian or a child of it.
pub(crate) fn is_debian() -> bool {
    std::path::Path::new("/etc/debian_version").exists() && sh::which("apt-get").is_some()
}

/// Makes sure that `tools` are there: installs what is missing as root on Debian, after printing the list,
/// else says which command does it.
pub(crate) fn ensure(tools: &[Tool], why: &str, may_install: bool) -> Result<()> {
    let mut packages: Vec<&str> =
        tools.iter().filter(|tool| sh::which(tool.program).is_none()).map(|tool| tool.package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let remedy = if is_debian() {
        format!("apt-get install --no-install-recommends {list}")
    } else {
        format!("install the packages (Debian's names): {list}")
    };
    if !may_install {
        bail!(
            "{why} needs packages that are missing, and --no-install forbids to install them; run: {remedy}"
        );
    }
    if !can_install() {
        bail!("{why} needs packages that are missing; as root run: {remedy}");
    }
    println!("installing with apt, for {why}: {list}");
    let apt = |words: &[&str]| {
        let mut command = sh::command("apt-get", words);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
        sh::run(&mut command)
    };
    apt(&["update", "-qq"])?;
    let mut words = vec!["install", "-y", "-qq", "--no-install-recommends"];
    words.extend(&packages);
    apt(&words)?;
    for tool in tools {
        if sh::which(tool.program).is_none() {
            bail!("`{}` is still missing after installing package `{}`", tool.program, tool.package);
        }
    }
    Ok(())
}
