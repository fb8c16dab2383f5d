//! What a build reads, in all forms: folders, archives, repositories, standard input.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use cooper_tests::cooper::{Env, Finished, User};
use cooper_tests::image::run;
use cooper_tests::layout::gzip;
use cooper_tests::site::{Page, Site};

const DOCKERFILE: &str = "FROM scratch\nCOPY a /\nCOPY sub /sub\n";
const OTHER: &str = "FROM scratch\nCOPY sub/b /other\n";

/// The context of the tests in a folder.
fn context(dir: &Path) {
    let files =
        [("Dockerfile", DOCKERFILE), ("a", "text of a"), ("sub/b", "text of b"), ("sub/Other", OTHER)];
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn tar(dir: &Path) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(dir).args(["-c", "."]).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Puts a repository with the folder's files on the site, as files are served by any server.
fn repository(dir: &Path, site: &Site, at: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        let bare = scratch.path().join("r.git");
        command.arg("--git-dir").arg(bare).arg("--work-tree").arg(dir);
        command.args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "init.defaultBranch=main",
        ]);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        run(command.args(words).current_dir(dir))
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "-m", "x"]);
    git(&["update-server-info"]);
    let mut folders = vec![scratch.path().join("r.git")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(scratch.path().join("r.git")).unwrap().display().to_string();
            let body = std::fs::read(&path).unwrap();
            site.put(&format!("{at}/{name}"), Page { body, ..Page::default() });
        }
    }
}

/// The files of a folder by their paths.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// Builds into a folder, and returns what is in it.
fn built(env: &Env, words: &[&str], stdin: &[u8]) -> Result<BTreeMap<String, String>, Finished> {
    let out = env.path("out");
    let _ = std::fs::remove_dir_all(&out);
    let dest = format!("type=local,dest={}", out.display());
    let mut command = env.command(&[&["build", "--progress", "plain", "-o", &dest], words].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who does not read it ends before.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let finished = Finished::from(child.wait_with_output().unwrap());
    if finished.code == 0 { Ok(files(&out)) } else { Err(finished) }
}

fn expected(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn privileged_every_form_gives_the_same() {
    let site = Site::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    context(folder.path());
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let archive = tar(folder.path());
    site.put("/ctx.tar", Page { body: archive.clone(), ..Page::default() });
    site.put("/ctx.tgz", Page { body: gzip(&archive), ..Page::default() });
    repository(folder.path(), &site, "/r.git");
    let (tar, tgz, git) = (site.url("/ctx.tar"), site.url("/ctx.tgz"), site.url("/r.git"));
    let sub = format!("{git}#main:sub");
    let dir = folder.path().to_string_lossy().into_owned();
    let all = expected(&[("a", "text of a"), ("sub/b", "text of b"), ("sub/Other", OTHER)]);
    let other = expected(&[("other", "text of b")]);
    let only = expected(&[("c", "FROM scratch\nCOPY context /c\n")]);
    site.put("/Dockerfile", Page { body: b"FROM scratch\nCOPY context /c\n".to_vec(), ..Page::default() });
    let alone = site.url("/Dockerfile");
    let packed = gzip(&archive);
    for user in [User::Root, User::SingleId] {
        let env = Env::new(user);
        for (words, stdin, expected) in [
            (&[dir.as_str()][..], &b""[..], &all),
            (&[&dir, "-f", &format!("{dir}/sub/Other")], b"", &other),
            (&[&dir, "-f", "-"], OTHER.as_bytes(), &other),
            (&["-"], &archive, &all),
            (&["-"], &packed, &all),
            (&["-", "-f", "sub/Other"], &archive, &other),
            (&[&tar], b"", &all),
            (&[&tgz], b"", &all),
            (&[&tgz, "-f", "sub/Other"], b"", &other),
            (&[&tar, "-f", "-"], OTHER.as_bytes(), &other),
            (&[&git], b"", &all),
            (&[&git, "-f", "sub/Other"], b"", &other),
            (&[&git, "-f", "-"], OTHER.as_bytes(), &other),
            (&[&alone], b"", &only),
        ] {
            let found = built(&env, words, stdin);
            let found = found.unwrap_or_else(|failed| panic!("{user:?} {words:?}: {}", failed.stderr));
            assert_eq!(&found, expected, "{user:?} {words:?}");
        }
        // A part of a repository has its own Dockerfile.
        let failed = built(&env, &[&sub], b"").unwrap_err();
        assert!(failed.stderr.contains("open Dockerfile: no such file"), "{}", failed.stderr);
        // A Dockerfile alone on standard input.
        let count =
            built(&env, &["-"], format!("FROM scratch\nADD {tar} /t\n").as_bytes()).map(|files| files.len());
        assert_eq!(count.map_err(|failed| failed.stderr), Ok(1));
        // As in BuildKit a further context behind an address is one file, whatever it holds.
        let named = "FROM scratch\nCOPY --from=one context /one\nCOPY --from=two sub/b /two\n";
        let words =
            ["-", "--build-context", &format!("one={alone}"), "--build-context", &format!("two={git}")];
        let found = built(&env, &words, named.as_bytes()).map_err(|failed| failed.stderr);
        assert_eq!(found, Ok(expected(&[("one", "FROM scratch\nCOPY context /c\n"), ("two", "text of b")])));
    }
}

#[test]
fn what_cannot_be_a_context() {
    let site = Site::start().unwrap();
    site.put("/broken.tgz", Page { body: gzip(&[b'x'; 4096])[..20].to_vec(), ..Page::default() });
    let env = Env::new(if rustix::process::geteuid().is_root() { User::Root } else { User::SingleId });
    for (words, stdin, code, text) in [
        (&["-"][..], &b""[..], 2, "standard input is empty"),
        (&["-", "-f", "-"], b"x", 2, "cannot both come from standard input"),
        (&["nowhere"], b"", 2, "cannot open the context `nowhere`"),
        (&[&site.url("/none.tar")], b"", 1, "not found"),
        (&["http://127.0.0.1:1/x.tar"], b"", 3, "cannot connect"),
        (&[&site.url("/none.git")], b"", 1, "none.git"),
        (&[&site.url("/broken.tgz")], b"", 1, "open Dockerfile: no such file"),
    ] {
        let failed = built(&env, words, stdin).unwrap_err();
        assert_eq!((failed.code, failed.stderr.contains(text)), (code, true), "{words:?}: {}", failed.stderr);
    }
}
