//! Which kernel settings are a container's own.

use crate::error::Error;
use crate::plan::Namespaces;

/// Settings of the ipc namespace, besides those of message queues.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Makes paths below `/proc/sys`. What is not of a namespace that the container has for itself would change the machine.
pub(super) fn plan<'a>(
    asked: impl Iterator<Item = (&'a String, &'a String)>,
    namespaces: &Namespaces,
) -> Result<Vec<(String, String)>, Error> {
    let mut settings = Vec::new();
    for (name, value) in asked {
        // Names of network interfaces may have dots in them; such are written with slashes.
        let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        let dotted = path.replace('/', ".");
        let flag = if IPC.contains(&&*dotted) || dotted.starts_with("fs.mqueue.") {
            libc::CLONE_NEWIPC
        } else if dotted.starts_with("net.") {
            libc::CLONE_NEWNET
        } else if dotted == "kernel.domainname" {
            libc::CLONE_NEWUTS
        } else {
            return Err(Error::config(format!("`linux.sysctl`: `{name}` is not a container's own")));
        };
        if !namespaces.makes(flag) {
            return Err(Error::config(format!("`linux.sysctl`: `{name}` needs a new namespace of its kind")));
        }
        if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(Error::config(format!("`linux.sysctl`: `{name}` is no name")));
        }
        settings.push((path, value.clone()));
    }
    settings.sort();
    Ok(settings)
}
