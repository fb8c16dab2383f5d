//! What nodes mean: every instruction, every flag, every error.
#![allow(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use cooper_dockerfile::instruction::{
    self, Command, Instruction, Item, MountType, Network, Security, Sharing, parse_one,
};
use cooper_dockerfile::shell::Lexer;
use cooper_dockerfile::{Error, Problem, parse};

fn one(text: &str) -> Result<Item, Error> {
    parse_one(&parse(text.as_bytes()).unwrap().nodes[0])
}

fn command(text: &str) -> Command {
    match one(text).unwrap() {
        Item::Command(command) => command,
        Item::Stage(_) => panic!("{text} is a stage"),
    }
}

/// What an instruction says, with defaults left out, in one line.
fn show(text: &str) -> String {
    let debug = format!("{:?}", command(text).instruction);
    let mut out = debug;
    for default in [
        ", legacy: false",
        ", literal: false",
        ", chown: \"\"",
        ", chmod: \"\"",
        ", checksum: \"\"",
        ", link: false",
        ", exclude: []",
        ", keep_git_dir: None",
        ", unpack: None",
        ", parents: false",
        ", if_exists: false",
        ", contents: []",
        ", from: \"\"",
        ", doc: \"\"",
        ", files: []",
        ", mount_flags: []",
        ", mounts: []",
        ", network: Default",
        ", security: Sandbox",
        ", devices: []",
        ", flags_used: []",
        ", interval: 0ns",
        ", timeout: 0ns",
        ", start_period: 0ns",
        ", start_interval: 0ns",
        ", retries: 0",
    ] {
        out = out.replace(default, "");
    }
    out
}

#[test]
fn meanings() {
    for (text, want) in [
        ("ENV a=b c=\"$d\"", r#"Env([Pair { key: "a", value: "b" }, Pair { key: "c", value: "\"$d\"" }])"#),
        ("ENV a b c", r#"Env([Pair { key: "a", value: "b c", legacy: true }])"#),
        ("LABEL a=b", r#"Label(Label { labels: [Pair { key: "a", value: "b" }] })"#),
        (
            "ARG a b= c=d=e",
            r#"Arg([ArgPair { key: "a", value: None }, ArgPair { key: "b", value: Some("") }, ArgPair { key: "c", value: Some("d=e") }])"#,
        ),
        (
            "# b text of b\nARG a b",
            r#"Arg([ArgPair { key: "a", value: None }, ArgPair { key: "b", value: None, doc: "text of b" }])"#,
        ),
        ("ARG --x=y a", r#"Arg([ArgPair { key: "a", value: None }])"#),
        ("CMD a  b", r#"Cmd(CommandLine { args: ["a  b"], shell: true })"#),
        ("CMD [\"a\", \"b\"]", r#"Cmd(CommandLine { args: ["a", "b"], shell: false })"#),
        ("CMD", r#"Cmd(CommandLine { args: [], shell: true })"#),
        ("ENTRYPOINT []", r#"Entrypoint(CommandLine { args: [], shell: false })"#),
        ("COPY a b c/", r#"Copy(Copy { sources: Sources { paths: ["a", "b"], dest: "c/" } })"#),
        (
            "COPY --from=x --chown=1:2 --chmod=u+x --link --parents --exclude=*.a --exclude=*.b a c",
            r#"Copy(Copy { sources: Sources { paths: ["a"], dest: "c" }, from: "x", chown: "1:2", chmod: "u+x", link: true, exclude: ["*.a", "*.b"], parents: true })"#,
        ),
        (
            "ADD --keep-git-dir=false --checksum=sha256:00 --unpack --link=FALSE a c",
            r#"Add(Add { sources: Sources { paths: ["a"], dest: "c" }, keep_git_dir: Some(false), checksum: "sha256:00", unpack: Some(true) })"#,
        ),
        (
            "COPY <<a <<-'b' c /d/\n\tx\na\n\ty\nb",
            r#"Copy(Copy { sources: Sources { paths: ["c"], contents: [SourceContent { path: "a", data: "\tx\n", expand: true }, SourceContent { path: "b", data: "y\n", expand: false }], dest: "/d/" } })"#,
        ),
        ("COPY [\"a b\", \"c\"]", r#"Copy(Copy { sources: Sources { paths: ["a b"], dest: "c" } })"#),
        ("EXPOSE 80 443/tcp 53", r#"Expose(["443/tcp", "53", "80"])"#),
        ("HEALTHCHECK none", r#"Healthcheck(Healthcheck { test: ["NONE"] })"#),
        (
            "HEALTHCHECK --interval=5m --timeout=3s --start-period=0 --start-interval=1ms --retries=2 CMD a b",
            r#"Healthcheck(Healthcheck { test: ["CMD-SHELL", "a b"], interval: 300s, timeout: 3s, start_interval: 1ms, retries: 2 })"#,
        ),
        ("HEALTHCHECK cmd [\"a\"]", r#"Healthcheck(Healthcheck { test: ["CMD", "a"] })"#),
        ("MAINTAINER a <b>", r#"Maintainer("a <b>")"#),
        ("onbuild  run a \\\n b", r#"Onbuild("run a  b")"#),
        ("ONBUILD COPY <<a b\nx\na", r#"Onbuild("COPY <<a b\nx\na")"#),
        ("SHELL [\"a\", \"-c\"]", r#"Shell(["a", "-c"])"#),
        ("STOPSIGNAL --x=y 9", r#"StopSignal("9")"#),
        ("USER a:b", r#"User("a:b")"#),
        ("VOLUME a b", r#"Volume(["a", "b"])"#),
        ("VOLUME [\" a \", \"b c\"]", r#"Volume(["a", "b c"])"#),
        ("WORKDIR /a b", r#"Workdir("/a b")"#),
        (
            "COPY --if-exists a b",
            r#"Copy(Copy { sources: Sources { paths: ["a"], dest: "b" }, if_exists: true })"#,
        ),
        ("RUN a && b", r#"Run(Run { line: CommandLine { args: ["a && b"], shell: true } })"#),
        ("RUN [\"a\", \"b\"]", r#"Run(Run { line: CommandLine { args: ["a", "b"], shell: false } })"#),
        (
            "RUN <<-E\n\ta\nE",
            r#"Run(Run { line: CommandLine { args: ["<<-E"], shell: true }, files: [InlineFile { name: "E", data: "\ta\n", chomp: true }] })"#,
        ),
        (
            "RUN --network=none --security=insecure --device=v/c=d,required a",
            r#"Run(Run { line: CommandLine { args: ["a"], shell: true }, network: None, security: Insecure, devices: [Device { name: "v/c=d", required: true }], flags_used: ["network", "security", "device"] })"#,
        ),
    ] {
        assert_eq!(show(text), want, "{text}");
    }
}

#[test]
fn stages() {
    let text = "ARG A=1\n# base the base\nFrom --platform=$P img aS Base\nRUN x\nfrom Base\nARG A\n";
    let all = instruction::parse(&parse(text.as_bytes()).unwrap().nodes).unwrap();
    assert_eq!(all.meta_args.len(), 1);
    let [first, second] = all.stages.as_slice() else { panic!("two stages") };
    assert_eq!((first.name.as_str(), first.base.as_str(), first.platform.as_str()), ("base", "img", "$P"));
    assert_eq!((first.doc.as_str(), first.keyword.as_str(), first.lines.start), ("the base", "From", 3));
    assert_eq!((first.as_keyword.as_str(), first.written_name.as_str()), ("aS", "Base"));
    assert_eq!(first.text, "From --platform=$P img aS Base");
    assert_eq!((second.name.as_str(), second.base.as_str(), second.commands.len()), ("", "Base", 1));
    assert_eq!(first.commands[0].instruction.name(), "run");
}

#[test]
fn errors() {
    for (text, want) in [
        ("FRM a", "unknown instruction: FRM (did you mean FROM?)"),
        ("frm a", "unknown instruction: frm (did you mean from?)"),
        ("NOTHING", "unknown instruction: NOTHING"),
        ("\\\n", "unknown instruction: "),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a IS b", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1b",
            "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        (
            "FROM a AS B/c",
            "invalid name for build stage: \"B/c\", name can't start with a number or contain symbols",
        ),
        ("FROM --platfrom=x a", "unknown flag: --platfrom (did you mean platform?)"),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "ADD",
            "ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY a <<E\nE", "COPY cannot accept a heredoc as a destination"),
        ("COPY --chown a b", "missing a value on flag: --chown"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("COPY --link=x a b", "expecting boolean value for flag --link, not: x"),
        ("COPY --chown=a --chown=b a b", "duplicate flag specified: --chown"),
        ("COPY --checksum=a a b", "unknown flag: --checksum"),
        ("ADD --from=a a b", "unknown flag: --from"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV =a", "ENV names can not be blank"),
        ("LABEL", "LABEL requires at least one argument"),
        ("ENV --a b=c", "unknown flag: --a"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =a", "ARG names can not be blank"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("EXPOSE --a 1", "unknown flag: --a"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME [\"a\", \" \"]", "VOLUME specified can not be an empty string"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("SHELL", "SHELL requires at least one argument"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("SHELL a", "SHELL requires the arguments to be in JSON form"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD onbuild RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from a", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER a", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK RUN a", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --interval=1us CMD a", "Interval \"interval\" cannot be less than 1ms"),
        ("HEALTHCHECK --timeout=-1s CMD a", "Interval \"timeout\" cannot be less than 1ms"),
        ("HEALTHCHECK --timeout=5 CMD a", "time: missing unit in duration \"5\""),
        ("HEALTHCHECK --retries=x CMD a", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        (
            "HEALTHCHECK --retries=9999999999 CMD a",
            "strconv.ParseInt: parsing \"9999999999\": value out of range",
        ),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries cannot be negative (-1)"),
        ("RUN --network=x a", "invalid network mode \"x\""),
        ("RUN --security=x a", "security \"x\" is not valid"),
        ("RUN --mount= a", "failed to parse csv mounts: EOF"),
        (
            "RUN --mount=type=bind,from=$A,target=/ a",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("RUN --device= a", "failed to parse csv devices: EOF"),
        ("RUN --device=a,b a", "invalid field 'b' must be a key=value pair"),
        ("RUN --device=a,name=b a", "device name already set to a"),
        (
            "RUN --device=a,requird=true a",
            "unexpected key 'requird' in 'requird=true' (did you mean required?)",
        ),
        ("RUN --device=a,required=x a", "invalid value for required: x"),
    ] {
        let error = match parse(text.as_bytes()) {
            Ok(file) => parse_one(&file.nodes[0]).map(|item| format!("{item:?}")).unwrap_err(),
            Err(error) => error,
        };
        let prefix = if error.prefixed { "dockerfile parse error on line 1: " } else { "" };
        assert_eq!(error.to_string(), format!("{prefix}{want}"), "{text}");
    }
}

#[test]
fn places_of_errors() {
    let stages = |text: &str| instruction::parse(&parse(text.as_bytes()).unwrap().nodes);
    let error = stages("ARG a\nRUN b").unwrap_err();
    assert_eq!((error.to_string().as_str(), error.lines.start), ("no build stage in current context", 2));
    let text = "FROM a\n\nRUN --x \\\n b";
    let error = stages(text).unwrap_err();
    assert_eq!(error.to_string(), "dockerfile parse error on line 3: unknown flag: --x");
    assert_eq!((error.lines.start, error.lines.end), (3, 4));
    let at_fault = |text: &str| {
        let span = stages(text).unwrap_err().span.unwrap();
        String::from_utf8_lossy(span.of(text.as_bytes())).into_owned()
    };
    assert_eq!(at_fault("FROM a\nRUN --x=\"y z\" \\\n b"), "--x=\"y z\"", "a flag");
    assert_eq!(
        at_fault("FROM a\nRUN --mount=type=cache --mount=\"\" b"),
        "--mount=\"\"",
        "a value of a flag"
    );
    assert_eq!(at_fault("FROM a\nUSER \\\n"), "USER ", "an instruction");
}

/// Expands a command with variables `A=x` and `B="y z"`.
fn expanded(text: &str) -> Result<Command, String> {
    let mut command = command(text);
    let lexer = Lexer::new('\\');
    let env = vec!["A=x".to_owned(), "B=y z".to_owned(), "T=cache".to_owned()];
    let mut expand = |word: &str| Ok::<_, Problem>(lexer.process_word(word, &env)?.text);
    command.expand(&mut expand).map_err(|e| e.to_string())?;
    command.expand_contents(&mut expand).map_err(|e| e.to_string())?;
    Ok(command)
}

#[test]
fn expansion() {
    for (text, want) in [
        ("ENV $A=\"$B\" c='$A'", "ENV x=y z c=$A"),
        ("LABEL $A=$B", "LABEL x=y z"),
        ("ARG $A=$B q", "ARG x=y z q"),
        (
            "COPY --from=$A --chown=$A --chmod=$A --exclude=$A $A \"$B\" $B",
            "COPY from=$A chown=x chmod=x exclude=$A x|y z > y z",
        ),
        ("ADD --checksum=$A --chown=$B --chmod=$A $A $B", "ADD checksum=x chown=y z chmod=x x > y z"),
        ("COPY <<A <<'B' $A\n$A\nA\n$A\nB", "COPY from= chown= chmod= exclude=  > x A=x\n B=$A\n"),
        ("VOLUME $A $B", "VOLUME x y z"),
        ("USER $A", "USER x"),
        ("WORKDIR /$A/$B", "WORKDIR /x/y z"),
        ("STOPSIGNAL $A", "STOPSIGNAL x"),
        ("RUN echo $A", "RUN echo $A"),
        ("CMD $A", "CMD $A"),
        ("EXPOSE $A", "EXPOSE $A"),
    ] {
        let command = expanded(text).unwrap();
        let contents = |c: &[instruction::SourceContent]| {
            c.iter().map(|c| format!(" {}={}", c.path, c.data)).collect::<String>()
        };
        let pairs = |pairs: &[instruction::Pair]| {
            pairs.iter().map(|p| format!(" {}={}", p.key, p.value)).collect::<String>()
        };
        let got = match &command.instruction {
            Instruction::Env(all) => format!("ENV{}", pairs(all)),
            Instruction::Label(label) => format!("LABEL{}", pairs(&label.labels)),
            Instruction::Arg(all) => {
                let one = |a: &instruction::ArgPair| match &a.value {
                    Some(value) => format!(" {}={value}", a.key),
                    None => format!(" {}", a.key),
                };
                format!("ARG{}", all.iter().map(one).collect::<String>())
            }
            Instruction::Copy(c) => format!(
                "COPY from={} chown={} chmod={} exclude={} {} > {}{}",
                c.from,
                c.chown,
                c.chmod,
                c.exclude.concat(),
                c.sources.paths.join("|"),
                c.sources.dest,
                contents(&c.sources.contents)
            ),
            Instruction::Add(a) => format!(
                "ADD checksum={} chown={} chmod={} {} > {}",
                a.checksum,
                a.chown,
                a.chmod,
                a.sources.paths.join("|"),
                a.sources.dest
            ),
            Instruction::Volume(all) => format!("VOLUME {}", all.join(" ")),
            Instruction::Expose(all) => format!("EXPOSE {}", all.join(" ")),
            Instruction::User(word) => format!("USER {word}"),
            Instruction::Workdir(word) => format!("WORKDIR {word}"),
            Instruction::StopSignal(word) => format!("STOPSIGNAL {word}"),
            Instruction::Run(run) => format!("RUN {}", run.line.args.join(" ")),
            Instruction::Cmd(line) => format!("CMD {}", line.args.join(" ")),
            other => panic!("{other:?}"),
        };
        assert_eq!(got, want, "{text}");
        assert!(command.expands() || text.ends_with(&want[want.find(' ').unwrap()..]), "{text}");
    }
    assert!(expanded("USER ${A:").unwrap_err().ends_with("syntax error: missing '}'"));
    let mut label = command("LABEL a=$A");
    if let Instruction::Label(label) = &mut label.instruction {
        label.literal = true;
    }
    label.expand(&mut |_| Err(Problem::Empty)).unwrap();
}

fn mount(text: &str) -> Result<instruction::Mount, String> {
    match expanded(&format!("RUN --mount={text} a"))?.instruction {
        Instruction::Run(mut run) => Ok(run.mounts.remove(0)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn mounts() {
    let bind = mount("target=/$A,from=b,source=/s").unwrap();
    assert_eq!(
        (bind.kind, bind.target.as_str(), bind.from.as_str(), bind.source.as_str()),
        (MountType::Bind, "/x", "b", "/s")
    );
    assert!(bind.read_only && !mount("dst=/a,rw").unwrap().read_only);
    assert!(!mount("destination=/a,readwrite=true").unwrap().read_only);
    assert!(!mount("dst=/a,ro=0").unwrap().read_only);
    let cache = mount("type=$T,id=i,dst=/c,sharing=LOCKED,mode=0755,uid=1,gid=2").unwrap();
    assert_eq!(
        (cache.kind, cache.sharing, cache.read_only),
        (MountType::Cache, Some(Sharing::Locked), false)
    );
    assert_eq!((cache.mode, cache.uid, cache.gid, cache.id.as_str()), (Some(0o755), Some(1), Some(2), "i"));
    assert!(mount("type=cache,dst=/c,ro").unwrap().read_only);
    assert_eq!(mount("type=tmpfs,dst=/t,size=1k").unwrap().size, 1024);
    let secret = mount("type=secret,id=s,env=E,required").unwrap();
    assert_eq!((secret.required, secret.env.as_deref(), secret.read_only), (true, Some("E"), true));
    assert!(mount("type=ssh,required=true").unwrap().required);
    let quoted = mount("type=bind,\\\"target=/a,b\\\"").unwrap();
    assert_eq!(quoted.target, "/a,b", "only escaped quotes are left for the fields");

    let early = command("RUN --mount=type=nothing,from=b,mode=x a").instruction;
    let Instruction::Run(run) = early else { panic!("{early:?}") };
    assert_eq!(run.mounts[0].from, "b", "only `from` is read before variables are known");
    assert_eq!(run.mount_flags, ["type=nothing,from=b,mode=x"]);
    assert_eq!((run.network, run.security), (Network::Default, Security::Sandbox));
}

#[test]
fn mount_errors() {
    for (text, want) in [
        ("type=bnd", "unsupported mount type \"bnd\" (did you mean bind?)"),
        ("type=x", "unsupported mount type \"x\""),
        ("type=cache,sharing=lock", "unsupported sharing value \"lock\" (did you mean locked?)"),
        ("type=cache,sharing=x", "unsupported sharing value \"x\""),
        ("x", "invalid field 'x' must be a key=value pair"),
        ("\"target=/a,b\"", "invalid field 'b' must be a key=value pair"),
        ("required", "unexpected key 'required' for mount type 'bind'"),
        ("required=true,type=secret", "unexpected key 'required' for mount type 'bind'"),
        ("size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("type=ssh,required=x", "invalid value for required: x"),
        ("ro=x", "invalid value for ro: x"),
        ("rw=x", "invalid value for rw: x"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,uid=x", "invalid value x for uid"),
        ("type=cache,gid=+1", "invalid value +1 for gid"),
        ("mode=1", "mode not allowed for \"bind\" type mounts"),
        ("type=tmpfs,uid=1", "uid not allowed for \"tmpfs\" type mounts"),
        ("gid=1", "gid not allowed for \"bind\" type mounts"),
        ("Targt=/a", "unexpected key 'targt' in 'Targt=/a' (did you mean target?)"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,from=a,id=b", "secret mount should not have a from"),
        ("type=secret,sharing=locked,id=b", "secret mount should not define sharing"),
        ("type=secret,src=a,id=b", "both source and id can't be set"),
        ("sharing=locked", "invalid cache sharing set for bind mount"),
        ("dst=${A:", "failed to process \"${A:\": syntax error: missing '}'"),
    ] {
        assert_eq!(mount(text), Err(want.to_owned()), "{text}");
    }
}
