//! Dockerfiles: lossless syntax, typed instructions, word expansion, ignore files.
//!
//! Three layers, each usable alone, all pure: [`tokens`] keeps every byte; [`parse`] gives instructions as words
//! ([`Node`]); [`instruction::parse`] gives stages and commands with every flag checked. The rules and the texts of
//! errors are BuildKit's, which differ in places from what the reference says. Beside them stand [`shell`], the
//! expansion of variables in words, and [`ignore`], the patterns of `.dockerignore`.
//!
//! What instructions do, which values variables have, and what an image then looks like is left to the frontend; so is
//! reading files.
//!
//! A [`Node`] and a [`Command`](instruction::Command) are easily confused: a node is what was written, split by the
//! rule of its keyword and nothing more, so it exists for instructions that do not; a command is what it means.
//!
//! ```
//! use cooper_dockerfile::{instruction, parse, shell::Lexer};
//!
//! let file = parse(b"ARG V=3.9\nFROM python:${V}-slim AS base\nCOPY --chown=$UID main.py .\n")?;
//! let mut all = instruction::parse(&file.nodes)?;
//! let env = vec!["UID=1000".to_owned()];
//! let lexer = Lexer::new(file.escape);
//! let copy = &mut all.stages[0].commands[0];
//! copy.expand(&mut |word| lexer.process_word(word, &env).map(|w| w.text).map_err(|e| e.into()))
//!     .map_err(|problem: cooper_dockerfile::Problem| problem.to_string())?;
//! let instruction::Instruction::Copy(copy) = &copy.instruction else { unreachable!() };
//! assert_eq!(copy.chown, "1000");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod dump;
mod error;
pub mod ignore;
pub mod instruction;
mod node;
mod parser;
mod position;
mod quote;
pub mod shell;
mod token;

pub use dump::{dump, to_json};
pub use error::{Error, Problem, Suggestion};
pub use node::{Directive, Heredoc, Node, Word};
pub use parser::{Dockerfile, Warning, detect_syntax, parse, parse_directive, parse_heredoc, tokens};
pub use position::{Lines, Span};
pub use quote::go_quote;
pub use token::{Token, TokenKind};
