//! Maps of user and group ids.

use std::process::{Command, Stdio};

use crate::error::Error;
use crate::plan::Namespaces;

/// Writes the maps of a new user namespace: by hand where this process may, else with the programs that may.
pub(crate) fn write(pid: i32, namespaces: &Namespaces) -> Result<(), Error> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for (file, program, maps, own) in
        [("uid_map", "newuidmap", &namespaces.uids, own.0), ("gid_map", "newgidmap", &namespaces.gids, own.1)]
    {
        // The one id that needs nobody's permission; without the right to drop groups, though.
        if matches!(maps.as_slice(), [(_, outside, 1)] if *outside == own) && file == "gid_map" && own != 0 {
            let path = format!("/proc/{pid}/setgroups");
            std::fs::write(&path, "deny").map_err(Error::io("forbid the setting of groups"))?;
        }
        let text: String =
            maps.iter().map(|(inside, outside, length)| format!("{inside} {outside} {length}\n")).collect();
        // The kernel takes a map in one write.
        let Err(error) = std::fs::write(format!("/proc/{pid}/{file}"), &text) else { continue };
        if error.raw_os_error() != Some(libc::EPERM) {
            return Err(Error::io(format!("map ids {maps:?}"))(error));
        }
        let output = Command::new(program)
            .arg(pid.to_string())
            .args(text.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io(format!("run `{program}`")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Refused(format!("`{program}` refused the map {maps:?}: {said}")));
        }
    }
    Ok(())
}
