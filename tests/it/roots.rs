//! Where cooper itself runs: roots that are not an ordinary machine's.

use cooper_tests::cooper::{Env, User, base, binary};
use cooper_tests::image::Image;

/// A folder with everything of `/` mounted into it, which is no mount itself: what `chroot` makes of an unpacked system.
///
/// All mounts are shared, as systemd has them: none of cooper's may be seen by the one who started it, neither while it
/// runs nor afterwards.
const CHROOT: &str = r#"set -e; root=$1/root; shift; mkdir -p "$root"; mount --make-rshared /
for name in /*; do
  if [ -L "$name" ]; then cp -P "$name" "$root$name"
  elif [ -d "$name" ]; then mkdir "$root$name"; mount --rbind "$name" "$root$name"; fi
done
count() { wc -l < /proc/self/mountinfo; }
before=$(count)
chroot "$root" "$@" & cooper=$!
while kill -0 $cooper 2>/dev/null; do
  [ "$(count)" = "$before" ] || { echo "a mount came out" >&2; exit 9; }
  sleep 0.05
done
wait $cooper"#;

#[test]
fn privileged_in_a_chroot() {
    let Some(layout) = base("in_a_chroot") else { return };
    let env = Env::new(User::Root);
    env.write(
        "Dockerfile",
        "FROM python:3.9-slim\nCOPY Dockerfile /\nRUN cat /Dockerfile > /copy && test ! -e /proc/2\n",
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", CHROOT, "sh"]).arg(env.path("chroot"));
    command.arg(binary()).args(["build", "--progress", "plain", "--build-context"]);
    command.arg(format!("python:3.9-slim=oci-layout://{}", layout.display()));
    command.arg("-o").arg(format!("type=oci,dest={}", env.path("out.tar").display()));
    command.arg(env.path("ctx")).env("COOPER_ROOT", env.path("store"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let image = Image::open(&env.path("out.tar"));
    assert!(image.text("copy").starts_with("FROM python"));
}
