use super::*;

fn password(user: &str, password: &str) -> Option<Credentials> {
    Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
}

fn logins(dir: &Path, files: &[&str]) -> Logins {
    let write = |(at, text): (usize, &&str)| {
        let path = dir.join(format!("{at}.json"));
        fs::write(&path, text).unwrap();
        path
    };
    let mut paths = vec![dir.join("absent.json")];
    paths.extend(files.iter().enumerate().map(write));
    Logins::new(paths)
}

#[tokio::test]
async fn files_of_docker_and_podman() {
    let dir = tempfile::tempdir().unwrap();
    let logins = logins(
        dir.path(),
        &[
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"},"a.example:5000":{"auth":"YTpi"},
                "empty.example":{},"token.example":{"auth":"YTpi","identitytoken":"t"},
                "raw.example":{"registrytoken":"r"}},"HttpHeaders":{"x":"y"}}"#,
            r#"{"auths":{"docker.io":{"auth":"c2Vjb25kOnB3"},"empty.example":{"username":"u","password":"p"},
                "p.example":{"auth":"aG9zdDpwdw=="},"p.example/team":{"auth":"dGVhbTpwdw=="},
                "p.example/team/app":{"auth":"YXBwOnB3"}}}"#,
        ],
    );
    for (host, repositories, expected) in [
        ("docker.io", &["library/python"][..], password("hub", "pw")),
        ("a.example:5000", &[], password("a", "b")),
        ("a.example", &[], None),
        ("empty.example", &[], password("u", "p")),
        ("token.example", &[], Some(Credentials::IdentityToken("t".to_owned()))),
        ("raw.example", &[], Some(Credentials::RegistryToken("r".to_owned()))),
        ("p.example", &["other"], password("host", "pw")),
        ("p.example", &["team/x"], password("team", "pw")),
        ("p.example", &["team/app"], password("app", "pw")),
        ("p.example", &["team/app2"], password("team", "pw")),
        // A mount needs one token for both: only what covers both will do.
        ("p.example", &["team/app", "other"], password("host", "pw")),
    ] {
        assert_eq!(logins.find(host, repositories).await.unwrap(), expected, "{host} {repositories:?}");
    }
}

#[tokio::test]
async fn damaged_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(logins(dir.path(), &[""]).find("a", &[]).await.unwrap(), None);
    let find = async |text: &str| logins(dir.path(), &[text]).find("a.example", &[]).await.unwrap_err();
    assert!(matches!(find("{").await, LoginsError::Parse { .. }));
    assert!(matches!(find(r#"{"auths":{"a.example":{"auth":"%"}}}"#).await, LoginsError::Entry { .. }));
    let helper = find(r#"{"credsStore":"cooper-test-absent"}"#).await;
    assert!(helper.to_string().contains("cannot be run"), "{helper}");
    assert!(matches!(find(r#"{"credHelpers":{"a.example":"../x"}}"#).await, LoginsError::Helper { .. }));
}

/// Runs with a helper on the search path: a process of its own, since that path belongs to the whole process.
#[test]
fn helpers() {
    use std::os::unix::fs::PermissionsExt as _;
    if std::env::var_os("COOPER_TEST_HELPERS").is_none() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("docker-credential-cooper-test");
        let text = "#!/bin/sh\nread -r host\ncase $host in\n\
                    https://index.docker.io/v1/) echo '{\"ServerURL\":\"x\",\"Username\":\"hub\",\"Secret\":\"pw\"}';;\n\
                    token.example) echo '{\"ServerURL\":\"x\",\"Username\":\"<token>\",\"Secret\":\"t\"}';;\n\
                    slow.example) exec sleep 60;;\n\
                    odd.example) echo secret;;\n\
                    bad.example) echo 'locked'; exit 1;;\n\
                    *) echo 'credentials not found in native keychain'; exit 1;;\nesac\n";
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        let again = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "auth::tests::helpers"])
            .env("PATH", path)
            .env("COOPER_TEST_HELPERS", "1")
            .output()
            .unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"credsStore":"cooper-test","credHelpers":{"off.example":"cooper-test-absent"},
                       "auths":{"https://index.docker.io/v1/":{},"file.example":{"auth":"YTpi"}}}"#;
        let mut logins = logins(dir.path(), &[text]);
        logins.timeout = Duration::from_millis(500);
        assert_eq!(logins.find("docker.io", &[]).await.unwrap(), password("hub", "pw"));
        assert_eq!(
            logins.find("token.example", &[]).await.unwrap(),
            Some(Credentials::IdentityToken("t".to_owned()))
        );
        assert_eq!(logins.find("file.example", &[]).await.unwrap(), password("a", "b"));
        assert_eq!(logins.find("none.example", &[]).await.unwrap(), None);
        for (host, problem) in [
            ("slow.example", "did not answer"),
            ("odd.example", "answered no login"),
            ("bad.example", "failed: locked"),
            ("off.example", "cannot be run"),
        ] {
            let error = logins.find(host, &[]).await.unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("secret"), "{host}: {error}");
        }
    });
}

#[test]
fn where_files_are() {
    let with = |set: &[(&str, &str)]| {
        let set: BTreeMap<_, _> = set.iter().copied().collect();
        let found = places(|name| set.get(name).map(PathBuf::from));
        found.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(with(&[]), [""; 0]);
    assert_eq!(with(&[("HOME", "/h")]), ["/h/.docker/config.json", "/h/.config/containers/auth.json"]);
    assert_eq!(
        with(&[
            ("HOME", "/h"),
            ("DOCKER_CONFIG", "/d"),
            ("XDG_RUNTIME_DIR", "/r"),
            ("XDG_CONFIG_HOME", "/c")
        ]),
        ["/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json"]
    );
    assert_eq!(with(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/f")]), ["/f"]);
}
