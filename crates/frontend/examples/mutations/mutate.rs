//! Damaged Dockerfiles, ignore files and words, made from a seed, and everything that is done with them.

use cooper_dockerfile::ignore::{self, Matcher};
use cooper_dockerfile::shell::Lexer;
use cooper_dockerfile::{dump, instruction, parse, to_json, tokens};

use crate::stub::Stub;

/// Texts that use much of the language; damage to these reaches further than noise does.
const TEXTS: [&str; 9] = [
    include_str!("../../tests/data/args.Dockerfile"),
    include_str!("../../tests/data/checks.Dockerfile"),
    include_str!("../../tests/data/config.Dockerfile"),
    include_str!("../../tests/data/copy.Dockerfile"),
    include_str!("../../tests/data/heredocs.Dockerfile"),
    include_str!("../../tests/data/mounts.Dockerfile"),
    include_str!("../../tests/data/onbuild.Dockerfile"),
    include_str!("../../tests/data/platforms.Dockerfile"),
    include_str!("../../tests/data/windows.Dockerfile"),
];

const IGNORES: [&str; 3] = [
    "# what is built\n/target/\n**/*.log\n!logs/keep.log\n",
    "*\n!src\nsrc/**/[a-c]?*.tmp\n\\#x\n",
    "a/../b\n./c\n [^x-z]*\n!\n",
];

const WORDS: [&str; 4] = [
    "\"${A:-x}\"-${B#p*}${C%%q?}${D//x/y}",
    "a\\ b'c'${E:+\"$F\"}$",
    "${G?not given}${H:?}${I-${J:-k}}",
    "${K/\\/a*/b}[\"x\"]<<E",
];

/// Pieces that mean something wherever they land.
const PIECES: [&str; 44] = [
    "FROM ",
    "RUN ",
    "COPY ",
    "ENV ",
    "ARG ",
    "ONBUILD ",
    "AS ",
    "--from=",
    "--mount=type=",
    "--if-exists ",
    "<<EOF",
    "EOF\n",
    "<<-",
    "\\\n",
    "`",
    "\n",
    "\n\n",
    "#",
    "# escape=`\n",
    "# check=",
    "# syntax=",
    "[\"",
    "\"]",
    "\"",
    "'",
    "$",
    "${",
    "}",
    ":-",
    "##",
    "%%",
    "//",
    "**",
    "[^",
    "]",
    "!",
    "=",
    ",",
    "\t",
    "\r\n",
    "\u{feff}",
    "\u{85}",
    "é",
    "\0",
];

/// Numbers that look random and are the same for the same seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`, 0 if that is 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or_default()
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list.get(self.below(list.len())).copied().unwrap_or_default()
    }
}

/// Damages a text in a few places.
fn damaged(text: &str, random: &mut Random) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(7) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..end, random.pick(&PIECES).bytes())),
            2 => drop(bytes.splice(at..at, random.pick(&PIECES).bytes())),
            3 => {
                let byte = u8::try_from(random.below(256)).unwrap_or_default();
                bytes.insert(at, byte);
            }
            4 => {
                // A stretch of the text again, somewhere else.
                let stretch: Vec<u8> = bytes.get(at..end).unwrap_or_default().to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, stretch));
            }
            5 => {
                let piece = random.pick(&PIECES).repeat(1 + random.below(40));
                drop(bytes.splice(at..at, piece.into_bytes()));
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// Makes one input out of a seed and does everything with it. Tells whether it was a Dockerfile that could be converted.
pub(crate) fn trial(seed: u64) -> bool {
    let mut random = Random::new(seed);
    match random.below(8) {
        0 => {
            let text = damaged(random.pick(&IGNORES), &mut random);
            if let Ok(matcher) = Matcher::new(ignore::parse(&text)) {
                for path in ["src/a.tmp", "logs/keep.log", "b", "x/y/z", ""] {
                    matcher.matches(path);
                    matcher.may_except_below(path);
                }
            }
            false
        }
        1 => {
            let text = damaged(random.pick(&WORDS), &mut random);
            let word = String::from_utf8_lossy(&text);
            let env = vec!["A=x y".to_owned(), "B=ppq".to_owned(), "D=axbx".to_owned(), "F=".to_owned()];
            for escape in ['\\', '`'] {
                let flags = random.below(16);
                let lexer = Lexer {
                    raw_quotes: flags & 1 != 0,
                    raw_escapes: flags & 2 != 0,
                    skip_process_quotes: flags & 4 != 0,
                    skip_unset_env: flags & 8 != 0,
                    ..Lexer::new(escape)
                };
                let _ = lexer.process_word(&word, &env);
                let _ = lexer.process_words(&word, &env);
            }
            false
        }
        _ => {
            let text = damaged(random.pick(&TEXTS), &mut random);
            exercise(&text)
        }
    }
}

/// Does everything with a Dockerfile. Tells whether it could be converted.
pub(crate) fn exercise(text: &[u8]) -> bool {
    let kept: usize = tokens(text).iter().map(|token| token.span.len()).sum();
    assert_eq!(kept, text.len(), "tokens do not keep every byte");
    let file = parse(text);
    to_json(&file);
    if let Ok(file) = &file {
        dump(&file.nodes);
        let errors = instruction::errors(&file.nodes);
        assert!(
            instruction::parse(&file.nodes).is_ok() || !errors.is_empty(),
            "the list of errors lacks the one that counts"
        );
    }
    let stub = Stub::new(text);
    let built = stub.build();
    assert_eq!(built.is_ok(), stub.build().is_ok(), "the same text converts differently");
    built.is_ok()
}
