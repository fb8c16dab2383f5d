//! An OCI runtime with runc's command line; without arguments, a container made of this machine's shell.
//!
//! ```text
//! bundle [FLAGS] run|create|start|state|kill|delete ...   (see bundle --help)
//! bundle
//! ```

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::json;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // As a part of another program would be called.
    if args.first().is_some_and(|first| first == "oci-runtime") {
        args.remove(0);
    }
    if args.is_empty() {
        return match sample() {
            Ok(code) => code,
            Err(error) => {
                let _ =
                    std::io::Write::write_all(&mut std::io::stderr(), format!("error: {error}\n").as_bytes());
                ExitCode::FAILURE
            }
        };
    }
    ExitCode::from(u8::try_from(cooper_launcher::main(args)).unwrap_or(u8::MAX))
}

/// Writes a bundle and runs it: this program again, for it replaces itself.
fn sample() -> Result<ExitCode, Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("cooper-bundle-{}", std::process::id()));
    let root = dir.join("root");
    std::fs::create_dir_all(root.join("bin"))?;
    copy_with_libraries("sh", &root)?;
    let config = json!({
        "ociVersion": "1.0.2",
        "hostname": "sample",
        "root": { "path": "root" },
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", "echo hello from process $$ in $PWD; echo /*"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }] },
    });
    std::fs::write(dir.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    let status = Command::new(std::env::current_exe()?)
        .arg("--root")
        .arg(dir.join("state"))
        .args(["run", "--bundle"])
        .arg(&dir)
        .arg("sample")
        .status()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(u8::MAX)))
}

fn copy_with_libraries(name: &str, root: &Path) -> Result<(), Box<dyn Error>> {
    let path = format!("/bin/{name}");
    let ldd = String::from_utf8(Command::new("ldd").arg(&path).output()?.stdout)?;
    for file in ldd.split_whitespace().filter(|word| word.starts_with('/')).chain([&*path]) {
        let to = root.join(file.trim_start_matches('/'));
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(file, to)?;
    }
    Ok(())
}
