use cooper_progress::{EventKind, Plain, Stream, Warning};

use crate::{at, cached, done, failed, id, log, merged, out, part, plain, reason, started, told};

#[test]
fn a_build_with_two_steps_that_are_one() {
    let (from, copy) = ("[base 1/2] FROM python:3.9-slim", "[base 2/2] COPY main.py .");
    let (run, last) = ("[part_1 1/1] RUN python -m main", "[combined 1/1] COPY --from=part_1 . .");
    let text = plain(&[
        told(from),
        told(copy),
        told(run),
        told(last),
        told("[unused 1/1] RUN false"),
        merged(0, run, "part_1 line 6", "part_2 line 9"),
        cached(10, from),
        reason(20, copy, "runs because main.py changed"),
        started(20, copy),
        done(140, copy),
        started(200, run),
        out(323, run, "tick 1\ntick 2\n"),
        out(12_500, run, "tick 3"),
        done(13_000, run),
        started(13_000, last),
        failed(13_040, last, "`/x` is not there\nit was never made"),
    ]);
    let wanted = "\
#1 [base 1/2] FROM python:3.9-slim
#1 CACHED

#2 [base 2/2] COPY main.py .
#2 (runs because main.py changed)
#2 DONE 0.1s

#3 [part_1 1/1] RUN python -m main
#3 part_2 line 9 is the same as part_1 line 6: runs once
#3 0.123 tick 1
#3 0.123 tick 2
#3 12.300 tick 3
#3 DONE 12.8s

#4 [combined 1/1] COPY --from=part_1 . .
#4 ERROR: `/x` is not there
#4 it was never made
";
    assert_eq!(text, wanted);
}

#[test]
fn two_that_print_at_the_same_time() {
    let text = plain(&[
        told("a"),
        told("b"),
        started(0, "a"),
        started(1, "b"),
        out(100, "a", "a one\na tw"),
        out(150, "b", "b o"),
        out(200, "a", "o\n"),
        out(250, "b", "ne\n"),
        out(300, "b", "b two\n"),
        failed(400, "a", "stopped: context canceled"),
        out(450, "b", "b three\n"),
        done(500, "b"),
    ]);
    let wanted = "\
#1 a

#2 b

#1 a
#1 0.100 a one
#1 0.100 a two

#2 b
#2 0.149 b one
#2 0.299 b two

#1 a
#1 CANCELED

#2 b
#2 0.449 b three
#2 DONE 0.5s
";
    assert_eq!(text, wanted);
}

#[test]
fn lines_come_whole_and_when_they_are() {
    let (mut renderer, mut text) = (Plain::new(), String::new());
    let mut next = |event| {
        text.clear();
        renderer.render(&event, &mut text);
        text.clone()
    };
    assert_eq!(next(told("a")), "");
    assert_eq!(next(log(0, "a", Stream::Stdout, b"early")), "");
    assert_eq!(next(started(0, "a")), "#1 a\n");
    assert_eq!(next(log(1, "a", Stream::Stderr, b"an er")), "");
    assert_eq!(next(out(2, "a", "\r\n")), "#1 0.000 early\n");
    assert_eq!(next(out(3, "a", "10%\r20%\r")), "");
    assert_eq!(next(log(4, "a", Stream::Stderr, b"ror\n\n")), "#1 0.001 an error\n#1 0.004\n");
    assert_eq!(next(out(5, "a", "\x1b[32m30%\x1b[0m")), "");
    assert_eq!(next(done(60, "a")), "#1 0.005 30%\n#1 DONE 0.1s\n");
    // The end of the pipe may come later than that of the process.
    assert_eq!(next(out(70, "a", "late\nlater")), "\n#1 a\n#1 0.070 late\n");
    text.clear();
    renderer.finish(&mut text);
    assert_eq!(text, "#1 0.070 later\n");
}

#[test]
fn status_lines_are_at_most_one_a_second() {
    let layer = "extracting sha256:abc";
    let mut events = vec![told("pull"), started(0, "pull")];
    events.extend(
        (0..=25).map(|tick| {
            part(tick * 100, "pull", layer, u64::from(tick) * 1_600_000, Some(40_100_000), false)
        }),
    );
    // What is another has its own second; what is done is done.
    events.push(part(2_510, "pull", "config", 512, None, true));
    events.push(part(2_520, "pull", layer, 40_100_000, Some(40_100_000), true));
    events.push(part(9_000, "pull", layer, 1, Some(40_100_000), false));
    events.push(part(9_010, "pull", "index", 0, None, false));
    events.push(part(9_020, "pull", "index", 1_500, None, false));
    events.push(done(9_030, "pull"));
    let wanted = "\
#1 pull
#1 extracting sha256:abc 0B / 40.1MB
#1 extracting sha256:abc 16.0MB / 40.1MB
#1 extracting sha256:abc 32.0MB / 40.1MB
#1 config 512B done
#1 extracting sha256:abc 40.1MB / 40.1MB done
#1 index
#1 index 1.5kB
#1 DONE 9.0s
";
    assert_eq!(plain(&events), wanted);
}

#[test]
fn what_is_lost_starts_again_under_its_number() {
    let text = plain(&[
        told("a"),
        told("b"),
        cached(0, "a"),
        cached(0, "a"),
        started(0, "b"),
        reason(10, "a", "the files of its result are gone: they are made again"),
        started(1_000, "a"),
        out(1_500, "a", "hello\n"),
        part(1_500, "a", "x", 1, None, false),
        done(3_000, "a"),
        done(3_000, "b"),
        failed(3_100, "b", "was not what it seemed"),
    ]);
    let wanted = "\
#1 a
#1 CACHED

#2 b

#1 a
#1 (the files of its result are gone: they are made again)
#1 0.500 hello
#1 x 1B
#1 DONE 2.0s

#2 b
#2 DONE 3.0s

#2 b
#2 ERROR: was not what it seemed
";
    assert_eq!(text, wanted);
}

#[test]
fn warnings_name_their_line() {
    let warning = |file: &str, line| {
        let (rule, message) = ("FromAsCasing".to_owned(), "\x1b[31mcasing\ndiffers".to_owned());
        at(
            0,
            EventKind::Warning(Warning {
                rule,
                message,
                file: file.to_owned(),
                lines: (line, line),
                url: String::new(),
            }),
        )
    };
    let events = [
        warning("Dockerfile", 3),
        told("a"),
        started(0, "a"),
        warning("Dockerfile", 0),
        warning("", 0),
        warning("", 4),
    ];
    let wanted = "\
WARNING: FromAsCasing: casing differs (Dockerfile:3)

#1 a
WARNING: FromAsCasing: casing differs (Dockerfile)
WARNING: FromAsCasing: casing differs
WARNING: FromAsCasing: casing differs (line 4)
";
    assert_eq!(plain(&events), wanted);
}

#[test]
fn names_and_texts_from_outside_stay_on_their_line() {
    let name = "RUN <<E\n\x1b[2Jecho\nE";
    let text = plain(&[
        told(name),
        reason(0, name, "be\ncause"),
        merged(0, name, "a\x07 line 1", "b line 2"),
        part(0, name, "x\ny", 0, None, false),
        failed(0, name, ""),
        started(0, "nobody told of it"),
    ]);
    let unknown = id("nobody told of it");
    let wanted = format!(
        "#1 RUN <<E echo E\n#1 (be cause)\n#1 b line 2 is the same as a line 1: runs once\n#1 x y\n#1 ERROR: \n\n#2 {unknown}\n"
    );
    assert_eq!(text, wanted);
}

#[test]
fn what_neither_starts_nor_ends_is_not_shown() {
    let events = [
        told("a"),
        merged(0, "a", "a line 1", "b line 1"),
        reason(0, "a", "no earlier result"),
        out(0, "a", "\x1b[0m"),
    ];
    assert_eq!(plain(&events), "");
    assert_eq!(plain(&[]), "");
}
