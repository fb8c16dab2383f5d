use cooper_layer::LayerId;
use cooper_oci::{Digest, Hasher, Platform};

/// One process to run in a root: everything an executor is told, and nothing about builds.
///
/// Layers are named by id only. Secret values, paths of the host, user id maps and jobs never stand here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The process.
    pub process: Process,
    /// The platform of the root's programs.
    pub platform: Platform,
    /// The host name that the process sees; empty for [`DEFAULT_HOSTNAME`].
    pub hostname: String,
    /// Lines added to `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// Which network the process sees.
    pub network: Network,
    /// How far the process is confined.
    pub security: Security,
    /// Limits asked for; none leaves those of the builder.
    pub ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm` in bytes; `None` for 64 MiB.
    pub shm_size: Option<u64>,
    /// The root (destination `/`, exactly one) and everything mounted into it, in this order.
    pub mounts: Vec<Mount>,
}

/// The host name of a step that asks for none. It is BuildKit's, because images show it.
pub const DEFAULT_HOSTNAME: &str = "buildkitsandbox";

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// The program and its arguments. A program without a slash is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// The environment as `NAME=VALUE`.
    pub env: Vec<String>,
    /// Variables whose values are secrets; they hide others of their name.
    pub secret_env: Vec<SecretEnv>,
    /// The working directory, absolute; made with mode 0755 and the user's ids if missing. Empty for `/`.
    pub cwd: String,
    /// `USER` as in a Dockerfile: `name`, `uid`, `name:group`, `uid:gid`; empty for root. Names are looked up in the
    /// root's `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Exit codes that count as success; empty for 0 only.
    pub valid_exit_codes: Vec<i32>,
}

/// A variable whose value is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEnv {
    /// The variable.
    pub name: String,
    /// The secret's name at the one who provides it.
    pub id: String,
    /// A missing secret is an error; otherwise the variable is not set.
    pub required: bool,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub host: String,
    /// The address, as text.
    pub ip: String,
}

/// The network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The builder's own.
    #[default]
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// How far a step is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Docker's default capabilities, masks and system call filter.
    #[default]
    Sandbox,
    /// All capabilities of the builder and no filter. Refused unless the executor was configured to allow it.
    Insecure,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// The name without `RLIMIT_`, lower case: `nofile`, `nproc`, …
    pub name: String,
    /// The soft limit; -1 for none.
    pub soft: i64,
    /// The hard limit; -1 for none.
    pub hard: i64,
}

/// One mount of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where; absolute, or relative to the working directory. Links in it are followed inside the root.
    pub dest: String,
    /// What.
    pub from: MountFrom,
    /// Writing is refused.
    pub readonly: bool,
    /// What the step writes here is committed and given back in [`Done::outputs`](crate::Done::outputs). Without it,
    /// what is written to a mount that is not read-only is dropped.
    pub output: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountFrom {
    /// The merged view of layers, lowest first (none: an empty directory), or a file or directory inside it. The path
    /// is resolved inside the layers; empty or `/` for everything.
    Layers(Vec<LayerId>, String),
    /// An empty directory on disk.
    Empty,
    /// A file system in memory.
    Tmpfs {
        /// Bound in bytes; `None` for the kernel's default of half the memory.
        size: Option<u64>,
    },
    /// A directory that outlives the step.
    Cache {
        /// Its name.
        id: String,
        /// Who may use it at the same time.
        sharing: CacheSharing,
        /// What it holds when it is made: layers and a path in them.
        seed: Option<(Vec<LayerId>, String)>,
    },
    /// A secret as a file.
    Secret {
        /// Its name at the one who provides it.
        id: String,
        /// A missing secret is an error.
        required: bool,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
        /// Permission bits of the file.
        mode: u32,
    },
    /// The socket of an SSH agent.
    Agent {
        /// Its name at the one who provides it.
        id: String,
        /// A missing agent is an error.
        required: bool,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
        /// Permission bits of the socket.
        mode: u32,
    },
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheSharing {
    /// Everybody.
    #[default]
    Shared,
    /// Everybody gets one of their own.
    Private,
    /// One after the other.
    Locked,
}

impl Mount {
    /// Makes the mount of a root that is written to.
    pub fn root(layers: Vec<LayerId>) -> Self {
        Self {
            dest: "/".to_owned(),
            from: MountFrom::Layers(layers, String::new()),
            readonly: false,
            output: true,
        }
    }
}

impl Step {
    /// Makes a step with a root and otherwise defaults: this machine's platform, host network, no other mounts, sandboxed, root user.
    pub fn new(args: Vec<String>, layers: Vec<LayerId>) -> Self {
        Self {
            process: Process { args, ..Process::default() },
            platform: Platform::host(),
            hostname: String::new(),
            extra_hosts: Vec::new(),
            network: Network::default(),
            security: Security::default(),
            ulimits: Vec::new(),
            shm_size: None,
            mounts: vec![Mount::root(layers)],
        }
    }

    /// Returns the digest of everything that can change what the step makes, without the layers of its mounts: the part
    /// of a cache key that the step itself gives.
    ///
    /// | in it | not in it |
    /// |---|---|
    /// | arguments, environment, directory, user, exit codes, platform | layers (their content ids enter the key beside) |
    /// | host name, names of extra hosts, network, security, ulimits, size of `/dev/shm` | addresses of extra hosts |
    /// | of each mount: place, kind, path inside, read-only, output | contents of cache mounts and their seeds' layers |
    /// | names of secrets and agents, their owner and mode | values of secrets |
    pub fn digest(&self) -> Digest {
        let mut hash = Hasher::new();
        let process = &self.process;
        hash.field("cooper step 2");
        list(&mut hash, &process.args);
        list(&mut hash, &process.env);
        count(&mut hash, process.secret_env.len());
        for secret in &process.secret_env {
            hash.field(&secret.name);
            hash.field(&secret.id);
            hash.field([u8::from(secret.required)]);
        }
        hash.field(if process.cwd.is_empty() { "/" } else { &process.cwd });
        hash.field(&process.user);
        list(&mut hash, process.valid_exit_codes.iter().map(|code| code.to_be_bytes()));
        let platform = &self.platform;
        for text in [&platform.os, &platform.architecture, &platform.variant, &platform.os_version] {
            hash.field(text);
        }
        list(&mut hash, &platform.os_features);
        hash.field(if self.hostname.is_empty() { DEFAULT_HOSTNAME } else { &self.hostname });
        list(&mut hash, self.extra_hosts.iter().map(|host| &host.host));
        hash.field(match self.network {
            Network::Host => "host",
            Network::None => "none",
        });
        hash.field(match self.security {
            Security::Sandbox => "sandbox",
            Security::Insecure => "insecure",
        });
        count(&mut hash, self.ulimits.len());
        for limit in &self.ulimits {
            hash.field(&limit.name);
            hash.field(limit.soft.to_be_bytes());
            hash.field(limit.hard.to_be_bytes());
        }
        optional(&mut hash, self.shm_size);
        count(&mut hash, self.mounts.len());
        for mount in &self.mounts {
            mount.hash(&mut hash);
        }
        hash.finish()
    }
}

impl Mount {
    fn hash(&self, hash: &mut Hasher) {
        hash.field(&self.dest);
        hash.field([u8::from(self.readonly), u8::from(self.output)]);
        match &self.from {
            MountFrom::Layers(_, path) => {
                hash.field("layers");
                hash.field(path);
            }
            MountFrom::Empty => hash.field("empty"),
            MountFrom::Tmpfs { size } => {
                hash.field("tmpfs");
                optional(hash, *size);
            }
            MountFrom::Cache { id, sharing: _, seed } => {
                hash.field("cache");
                hash.field(id);
                hash.field(seed.as_ref().map_or("", |(_, path)| path.as_str()));
            }
            MountFrom::Secret { id, required, uid, gid, mode } => {
                hash.field("secret");
                provided(hash, id, *required, [*uid, *gid, *mode]);
            }
            MountFrom::Agent { id, required, uid, gid, mode } => {
                hash.field("agent");
                provided(hash, id, *required, [*uid, *gid, *mode]);
            }
        }
    }
}

fn provided(hash: &mut Hasher, id: &str, required: bool, numbers: [u32; 3]) {
    hash.field(id);
    hash.field([u8::from(required)]);
    for number in numbers {
        hash.field(number.to_be_bytes());
    }
}

fn count(hash: &mut Hasher, count: usize) {
    hash.field((count as u64).to_be_bytes());
}

fn optional(hash: &mut Hasher, value: Option<u64>) {
    match value {
        Some(value) => hash.field(value.to_be_bytes()),
        None => hash.field([]),
    }
}

fn list<T: AsRef<[u8]>>(hash: &mut Hasher, items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) {
    let items = items.into_iter();
    count(hash, items.len());
    for item in items {
        hash.field(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        Step::new(vec!["/bin/sh".into(), "-c".into(), "true".into()], vec![])
    }

    #[test]
    fn what_enters_the_digest() {
        let base = step().digest();
        type Change = fn(&mut Step);
        let changes: [(&str, Change); 13] = [
            ("args", |s| s.process.args.push(String::new())),
            ("env", |s| s.process.env.push("A=B".into())),
            ("secret in a variable", |s| {
                s.process.secret_env.push(SecretEnv { name: "A".into(), id: "b".into(), required: true });
            }),
            ("cwd", |s| s.process.cwd = "/a".into()),
            ("user", |s| s.process.user = "1".into()),
            ("exit codes", |s| s.process.valid_exit_codes.push(3)),
            ("platform", |s| s.platform.architecture = "arm64".into()),
            ("hostname", |s| s.hostname = "h".into()),
            ("extra host", |s| s.extra_hosts.push(ExtraHost { host: "h".into(), ip: "1.2.3.4".into() })),
            ("network", |s| s.network = Network::None),
            ("ulimit", |s| s.ulimits.push(Ulimit { name: "nofile".into(), soft: 1, hard: 1 })),
            ("readonly", |s| s.mounts[0].readonly = true),
            ("shm", |s| s.shm_size = Some(0)),
        ];
        let mut seen = vec![base];
        for (what, change) in changes {
            let mut step = step();
            change(&mut step);
            assert!(!seen.contains(&step.digest()), "{what}");
            seen.push(step.digest());
        }
    }

    #[test]
    fn what_does_not_enter_the_digest() {
        let with = |ip: &str, layers: Vec<LayerId>| {
            let mut step = Step::new(vec![], layers);
            step.extra_hosts.push(ExtraHost { host: "h".into(), ip: ip.into() });
            step.digest()
        };
        let layer = LayerId::from(Digest::of("x"));
        assert_eq!(with("1.2.3.4", vec![]), with("5.6.7.8", vec![layer]));
    }

    #[test]
    fn neighbouring_lists_are_not_confused() {
        let mut one = step();
        one.process.env.push("true".into());
        let mut other = step();
        other.process.args.push("true".into());
        assert_ne!(one.digest(), other.digest());
    }
}
