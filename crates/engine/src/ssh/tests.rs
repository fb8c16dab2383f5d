use std::path::Path;
use std::process::Command;

use super::wire::remainder;
use super::*;

/// Makes a key with OpenSSH's program; `None` if that is not installed.
fn keygen(dir: &Path, name: &str, options: &[&str]) -> Option<PathBuf> {
    let path = dir.join(name);
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-f"]).arg(&path).args(options);
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(path)
        }
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "ssh-keygen: {error}");
            None
        }
    }
}

/// The public key as `ssh-keygen` wrote it beside.
fn public(path: &Path) -> Vec<u8> {
    use base64::Engine as _;
    let text = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    let word = text.split_whitespace().nth(1).unwrap();
    base64::engine::general_purpose::STANDARD.decode(word).unwrap()
}

fn sign(keys: &Keys, public: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
    let mut request = vec![SIGN_REQUEST];
    put(&mut request, public);
    put(&mut request, data);
    request.extend(flags.to_be_bytes());
    keys.clone().ask(&request).unwrap()
}

#[test]
fn keys_of_openssh_are_listed_and_sign() {
    let dir = tempfile::tempdir().unwrap();
    for (name, flags, options) in [
        ("ed", 0, &["-t", "ed25519"][..]),
        ("rsa", 2, &["-t", "rsa", "-b", "2048"]),
        ("rsa-pem", 4, &["-t", "rsa", "-b", "3072", "-m", "PEM"]),
        ("rsa-8", 4, &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]),
        ("p256", 0, &["-t", "ecdsa", "-b", "256"]),
        ("p384", 0, &["-t", "ecdsa", "-b", "384"]),
    ] {
        let options = [options, &["-N", "", "-C", "who"]].concat();
        let Some(path) = keygen(dir.path(), name, &options) else { return };
        let keys = Keys::read(std::slice::from_ref(&path)).unwrap();
        let public = public(&path);
        let listed = keys.clone().ask(&[REQUEST_IDENTITIES]).unwrap();
        let mut listed = Reader(&listed);
        assert_eq!((listed.byte(), listed.number()), (Some(IDENTITIES_ANSWER), Some(1)), "{name}");
        assert_eq!(listed.string().unwrap(), public, "{name}");
        let answer = sign(&keys, &public, b"data", flags);
        assert_eq!(answer[0], SIGN_RESPONSE, "{name}");
        verify(dir.path(), &path, &keys, flags, name);
        assert_eq!(sign(&keys, b"other", b"data", flags), [FAILURE], "{name}: of a key that is not here");
        if flags != 0 {
            assert_eq!(sign(&keys, &public, b"data", 0), [FAILURE], "{name}: SHA-1");
        }
    }
}

/// Lets OpenSSH check a signature: as one of a file, in the form of PROTOCOL.sshsig.
fn verify(dir: &Path, path: &Path, keys: &Keys, flags: u32, name: &str) {
    use base64::Engine as _;
    use std::io::Write as _;

    let message = b"a message";
    let hash = cooper_oci::Digest::of(message);
    let mut signed = b"SSHSIG".to_vec();
    for part in [&b"test"[..], b"", b"sha256", hash.as_bytes()] {
        put(&mut signed, part);
    }
    let answer = sign(keys, &public(path), &signed, flags);
    let signature = Reader(&answer[1..]).string().unwrap();
    let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
    for part in [&*public(path), b"test", b"", b"sha256", signature] {
        put(&mut blob, part);
    }
    let text = base64::engine::general_purpose::STANDARD.encode(blob);
    let lines: Vec<&str> =
        text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let file = dir.join("signature");
    let text = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"));
    std::fs::write(&file, text).unwrap();
    let signers = dir.join("signers");
    let key = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    std::fs::write(&signers, format!("who {key}")).unwrap();
    let mut check = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", "who", "-n", "test", "-f"])
        .arg(&signers)
        .arg("-s")
        .arg(&file)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(message).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_no_usable_key_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let problem = |path: &Path| Keys::read(&[path.to_owned()]).err().unwrap().to_string();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    assert!(problem(&file("empty", "")).contains("no private key"));
    assert!(problem(&dir.path().join("gone")).contains("cannot be read"));
    let damaged = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    assert!(problem(&file("damaged", damaged)).contains("damaged"));
    let Some(path) = keygen(dir.path(), "locked", &["-t", "ed25519", "-N", "secret"]) else { return };
    assert!(problem(&path).contains("passphrase"));
    let path = keygen(dir.path(), "p521", &["-t", "ecdsa", "-b", "521", "-N", ""]).unwrap();
    assert!(problem(&path).contains("not supported"));
    // Cut anywhere, a key is damaged and nothing panics.
    let path = keygen(dir.path(), "whole", &["-t", "ed25519", "-N", ""]).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    for length in (0..body.len()).step_by(4) {
        let cut = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH", &body[..length]);
        let _ = Key::parse(&cut, "");
    }
}

#[test]
fn remainders() {
    let value = |bytes: &[u8]| bytes.iter().fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
    for (number, divisor) in [
        (0_u128, 7_u128),
        (6, 7),
        (7, 7),
        (u128::MAX, 3),
        (u128::MAX, u128::MAX),
        (u128::MAX - 1, u128::MAX),
        (1 << 100, (1 << 64) + 13),
        (0x1234_5678_9abc_def0_1234_5678, 0xffff_fffe),
        (255, 256),
    ] {
        let rest = remainder(&number.to_be_bytes(), &divisor.to_be_bytes()).unwrap();
        assert_eq!(value(&rest), number % divisor, "{number} % {divisor}");
    }
    assert_eq!(remainder(&[1], &[0, 0]), None);
}
