//! An SSH agent in this process, for private keys that are given as files.
//!
//! Keys are in OpenSSH's own form (PROTOCOL.key of OpenSSH), in PKCS #1 or in PKCS #8. Ed25519, RSA of 2048 to 4096 bits,
//! and ECDSA on P-256 and P-384 sign; signatures with SHA-1 are refused, as by all servers of today.

mod key;
mod wire;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cooper_executor::{Agent, AgentSession};

use key::Key;
use wire::{Reader, put};

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Larger files are no keys.
const MAX_FILE: u64 = 100 << 10;

/// Keys that answer for themselves.
#[derive(Clone)]
pub(crate) struct Keys(Arc<Vec<Key>>);

impl Keys {
    /// Reads private keys.
    pub(crate) fn read(paths: &[PathBuf]) -> io::Result<Self> {
        use std::io::Read as _;
        let one = |path: &PathBuf| {
            let named = |text: String| io::Error::other(format!("the ssh key `{}` {text}", path.display()));
            let mut text = String::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
                .map_err(|error| named(format!("cannot be read: {error}")))?;
            Key::parse(&text, &path.to_string_lossy()).map_err(|problem| named(problem.to_owned()))
        };
        Ok(Self(Arc::new(paths.iter().map(one).collect::<io::Result<_>>()?)))
    }

    fn answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        let mut request = Reader(request);
        match request.byte()? {
            REQUEST_IDENTITIES => {
                let mut answer = vec![IDENTITIES_ANSWER];
                answer.extend(u32::try_from(self.0.len()).ok()?.to_be_bytes());
                for key in self.0.iter() {
                    put(&mut answer, key.public());
                    put(&mut answer, key.comment().as_bytes());
                }
                Some(answer)
            }
            SIGN_REQUEST => {
                let (public, data, flags) = (request.string()?, request.string()?, request.number()?);
                let key = self.0.iter().find(|key| key.public() == public)?;
                let mut answer = vec![SIGN_RESPONSE];
                put(&mut answer, &key.sign(data, flags)?);
                Some(answer)
            }
            _ => None,
        }
    }
}

impl Agent for Keys {
    fn open(&self) -> io::Result<Box<dyn AgentSession>> {
        Ok(Box::new(self.clone()))
    }
}

impl AgentSession for Keys {
    fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        Ok(self.answer(request).unwrap_or_else(|| vec![FAILURE]))
    }
}

#[cfg(test)]
mod tests;
