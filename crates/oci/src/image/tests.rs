use super::*;

fn round(json: &str) -> String {
    let image = Image::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
    String::from_utf8(image.to_json().unwrap()).unwrap()
}

const LAYER: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[test]
fn full_config_keeps_its_bytes() {
    let json = format!(
        r#"{{"created":"2020-01-02T03:04:05Z","author":"me \u003cme@example.com\u003e","architecture":"arm","os":"linux","os.version":"1","os.features":["a"],"variant":"v7","rootfs":{{"type":"layers","diff_ids":["{LAYER}"]}},"history":[{{"created":"2020-01-02T03:04:05.1Z","created_by":"RUN a \u0026\u0026 b","author":"me","comment":"buildkit.dockerfile.v0"}},{{"created_by":"ENV a=b","empty_layer":true}}],"config":{{"User":"app:grp","ExposedPorts":{{"53/udp":{{}},"8080/tcp":{{}}}},"Env":["A=b"],"Entrypoint":["/e"],"Cmd":["c"],"Volumes":{{"/data":{{}}}},"WorkingDir":"/w","Labels":{{"a":"1","b":"2"}},"StopSignal":"SIGQUIT","ArgsEscaped":true,"Healthcheck":{{"Test":["CMD","true"],"Interval":30000000000,"Timeout":1,"StartPeriod":2,"StartInterval":3,"Retries":4}},"OnBuild":["COPY . ."],"Shell":["/bin/bash","-c"]}}}}"#
    );
    assert_eq!(round(&json), json);
}

#[test]
fn empty_image_is_what_go_writes() {
    let empty = r#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":null},"config":{}}"#;
    assert_eq!(String::from_utf8(Image::default().to_json().unwrap()).unwrap(), empty);
    assert_eq!(round(empty), empty);
}

#[test]
fn unknown_fields_are_kept_until_dropped() {
    let json = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null,"x":1},"history":[{"created_by":"a","y":{"z":[1.5,null]}}],"config":{"Healthcheck":{"q":1},"StopTimeout":9,"Hostname":"h"},"moby.buildkit.cache.v0":"e30=","docker_version":"1"}"#;
    assert_eq!(round(json), json);
    let mut image = Image::parse(json.as_bytes()).unwrap();
    image.drop_unknown();
    assert_eq!(
        String::from_utf8(image.to_json().unwrap()).unwrap(),
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":"a"}],"config":{"Healthcheck":{}}}"#
    );
}

#[test]
fn nulls_are_zero_values() {
    let json = r#"{"created":null,"author":null,"architecture":"amd64","os":"linux","rootfs":null,"history":null,"config":{"User":null,"ExposedPorts":null,"Env":null,"Volumes":null,"Labels":null,"Healthcheck":null,"ArgsEscaped":null,"OnBuild":null}}"#;
    assert_eq!(
        round(json),
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null},"config":{}}"#
    );
}

#[test]
fn wrong_types_are_errors() {
    for json in ["", "[]", r#"{"config":1}"#, r#"{"rootfs":{"diff_ids":["x"]}}"#, r#"{"created":"then"}"#] {
        assert!(Image::parse(json.as_bytes()).is_err(), "{json}");
    }
}

#[test]
fn chains() {
    let (a, b) = (Digest::of("a"), Digest::of("b"));
    assert_eq!(chain_id(&[]), None);
    assert_eq!(chain_id(&[a]), Some(a));
    assert_eq!(chain_id(&[a, b]), Some(Digest::of(format!("{a} {b}"))));
    assert_eq!(chain_id(&[a, b, a]), Some(Digest::of(format!("{} {a}", Digest::of(format!("{a} {b}"))))));
}
