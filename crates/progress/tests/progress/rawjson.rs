use cooper_progress::{EventKind, RawJson, Stream, Vertex, Warning};

use crate::{at, cached, done, failed, id, log, merged, part, reason, started};

#[test]
fn one_status_a_line() {
    let vertex = Vertex {
        digest: id("a"),
        name: "[s 1/1] RUN a".to_owned(),
        inputs: vec![id("in")],
        stage: Some("s".to_owned()),
        line: Some(6),
    };
    let warning = Warning {
        rule: "Rule".to_owned(),
        message: "message".to_owned(),
        file: "Dockerfile".to_owned(),
        lines: (3, 4),
        url: "https://example.com/".to_owned(),
    };
    let bare = Warning { file: String::new(), lines: (0, 0), url: String::new(), ..warning.clone() };
    let (mut raw, mut text) = (RawJson::new(), String::new());
    for event in [
        at(0, EventKind::Vertex(vertex)),
        merged(0, "a", "s line 6", "t line 9"),
        reason(1, "a", "no earlier result"),
        started(120, "a"),
        part(131, "a", "extracting sha256:abc", 0, Some(7), false),
        part(132, "a", "extracting sha256:abc", 7, Some(7), true),
        log(140, "a", Stream::Stdout, b"hi\n"),
        log(141, "a", Stream::Stderr, b"\xff\x1b["),
        at(150, EventKind::Warning(warning)),
        at(150, EventKind::Warning(bare)),
        done(161, "a"),
        started(162, "a"),
        failed(163, "a", "bad"),
        cached(164, "b"),
        failed(165, "in", "context canceled"),
    ] {
        raw.render(&event, &mut text);
    }
    for (name, short) in [("in", "IN"), ("a", "A"), ("b", "B")] {
        text = text.replace(&id(name).to_string(), short);
    }
    let wanted = r#"
{"vertexes":[{"digest":"A","inputs":["IN"],"name":"[s 1/1] RUN a"}],"cooper":{"place":[{"vertex":"A","stage":"s","line":6}]}}
{"cooper":{"merged":[{"vertex":"A","first":"s line 6","second":"t line 9"}]}}
{"cooper":{"reason":[{"vertex":"A","text":"no earlier result"}]}}
{"vertexes":[{"digest":"A","inputs":["IN"],"name":"[s 1/1] RUN a","started":"2020-01-02T03:04:05.12Z"}]}
{"statuses":[{"id":"extracting sha256:abc","vertex":"A","name":"extracting","total":7,"current":0,"timestamp":"2020-01-02T03:04:05.131Z","started":"2020-01-02T03:04:05.131Z"}]}
{"statuses":[{"id":"extracting sha256:abc","vertex":"A","name":"extracting","total":7,"current":7,"timestamp":"2020-01-02T03:04:05.132Z","started":"2020-01-02T03:04:05.131Z","completed":"2020-01-02T03:04:05.132Z"}]}
{"logs":[{"vertex":"A","stream":1,"data":"aGkK","timestamp":"2020-01-02T03:04:05.14Z"}]}
{"logs":[{"vertex":"A","stream":2,"data":"/xtb","timestamp":"2020-01-02T03:04:05.141Z"}]}
{"warnings":[{"level":1,"short":"UnVsZTogbWVzc2FnZSAobGluZSAzKQ==","url":"https://example.com/","sourceInfo":{"filename":"Dockerfile"},"range":[{"start":{"line":3},"end":{"line":4}}]}]}
{"warnings":[{"level":1,"short":"UnVsZTogbWVzc2FnZQ=="}]}
{"vertexes":[{"digest":"A","inputs":["IN"],"name":"[s 1/1] RUN a","started":"2020-01-02T03:04:05.12Z","completed":"2020-01-02T03:04:05.161Z"}]}
{"vertexes":[{"digest":"A","inputs":["IN"],"name":"[s 1/1] RUN a","started":"2020-01-02T03:04:05.162Z"}]}
{"vertexes":[{"digest":"A","inputs":["IN"],"name":"[s 1/1] RUN a","started":"2020-01-02T03:04:05.162Z","completed":"2020-01-02T03:04:05.163Z","error":"bad"}]}
{"vertexes":[{"digest":"B","started":"2020-01-02T03:04:05.164Z","completed":"2020-01-02T03:04:05.164Z","cached":true}]}
{"vertexes":[{"digest":"IN","started":"2020-01-02T03:04:05.165Z","completed":"2020-01-02T03:04:05.165Z","error":"context canceled"}]}
"#;
    assert_eq!(text, wanted.trim_start());
}
