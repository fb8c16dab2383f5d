//! Private keys: their forms in files, and their signatures.

use base64::Engine as _;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};

use super::wire::{Reader, put, put_big, remainder};

/// Bits of a request to sign (draft-ietf-sshm-ssh-agent, section 3.6.1).
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// What is wrong with a key.
pub(super) type Problem = &'static str;

const BROKEN: Problem = "is damaged";
const ENCRYPTED: Problem =
    "has a passphrase: add it to an agent (`ssh-add`) and give that one's socket instead";
const UNKNOWN: Problem = "is of a kind that is not supported: Ed25519, RSA of 2048 to 4096 bits, and ECDSA on P-256 and P-384 are; add it to an agent (`ssh-add`) and give that one's socket instead";

/// A private key.
pub(super) struct Key {
    public: Vec<u8>,
    comment: String,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
    Ecdsa(EcdsaKeyPair, &'static Curve),
}

/// A curve: its name in SSH, and how it signs.
struct Curve {
    name: &'static str,
    algorithm: &'static EcdsaSigningAlgorithm,
    /// Bytes of a number.
    size: usize,
}

static CURVES: [Curve; 2] = [
    Curve { name: "nistp256", algorithm: &ECDSA_P256_SHA256_FIXED_SIGNING, size: 32 },
    Curve { name: "nistp384", algorithm: &ECDSA_P384_SHA384_FIXED_SIGNING, size: 48 },
];

impl Key {
    /// Reads a key in PEM.
    pub(super) fn parse(text: &str, comment: &str) -> Result<Self, Problem> {
        let (label, bytes) = pem(text)?;
        let pair = match label {
            "OPENSSH PRIVATE KEY" => return Self::openssh(&bytes, comment),
            "RSA PRIVATE KEY" => rsa(RsaKeyPair::from_der(&bytes))?,
            "PRIVATE KEY" => pkcs8(&bytes)?,
            "ENCRYPTED PRIVATE KEY" => return Err(ENCRYPTED),
            _ => return Err(UNKNOWN),
        };
        Ok(Self { public: pair.public(), comment: comment.to_owned(), pair })
    }

    fn openssh(bytes: &[u8], file: &str) -> Result<Self, Problem> {
        let mut outer = Reader(bytes.strip_prefix(b"openssh-key-v1\0").ok_or(BROKEN)?);
        let cipher = outer.string().ok_or(BROKEN)?;
        if cipher != b"none" {
            return Err(ENCRYPTED);
        }
        let (_, _, count) = (outer.string(), outer.string(), outer.number().ok_or(BROKEN)?);
        if count != 1 {
            return Err("holds more than one key");
        }
        let (_, inner) = (outer.string(), outer.string().ok_or(BROKEN)?);
        let mut inner = Reader(inner);
        if inner.number().ok_or(BROKEN)? != inner.number().ok_or(BROKEN)? {
            return Err(BROKEN);
        }
        let kind = inner.string().ok_or(BROKEN)?;
        let pair = match kind {
            b"ssh-ed25519" => ed25519(&mut inner)?,
            b"ssh-rsa" => rsa_parts(&mut inner)?,
            _ => {
                let curve = kind.strip_prefix(b"ecdsa-sha2-").ok_or(UNKNOWN)?;
                let curve = CURVES.iter().find(|known| known.name.as_bytes() == curve).ok_or(UNKNOWN)?;
                ecdsa(&mut inner, curve)?
            }
        };
        let comment = String::from_utf8_lossy(inner.string().ok_or(BROKEN)?).into_owned();
        let comment = if comment.is_empty() { file.to_owned() } else { comment };
        Ok(Self { public: pair.public(), comment, pair })
    }

    /// Returns the public key in SSH's form.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Returns what the key is called.
    pub(super) fn comment(&self) -> &str {
        &self.comment
    }

    /// Signs; `None` if it cannot be done so.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (name, bytes) = match &self.pair {
            Pair::Ed25519(pair) => ("ssh-ed25519".to_owned(), pair.sign(data).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let (name, encoding): (_, &dyn RsaEncoding) = if flags & RSA_SHA2_512 != 0 {
                    ("rsa-sha2-512", &RSA_PKCS1_SHA512)
                } else if flags & RSA_SHA2_256 != 0 {
                    ("rsa-sha2-256", &RSA_PKCS1_SHA256)
                } else {
                    return None;
                };
                let mut bytes = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, data, &mut bytes).ok()?;
                (name.to_owned(), bytes)
            }
            Pair::Ecdsa(pair, curve) => {
                let signature = pair.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at_checked(curve.size)?;
                let mut bytes = Vec::new();
                put_big(&mut bytes, r);
                put_big(&mut bytes, s);
                (format!("ecdsa-sha2-{}", curve.name), bytes)
            }
        };
        let mut signature = Vec::new();
        put(&mut signature, name.as_bytes());
        put(&mut signature, &bytes);
        Some(signature)
    }
}

impl Pair {
    fn public(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Ed25519(pair) => {
                put(&mut out, b"ssh-ed25519");
                put(&mut out, pair.public_key().as_ref());
            }
            Self::Rsa(pair) => {
                put(&mut out, b"ssh-rsa");
                let parts = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                put_big(&mut out, &parts.e);
                put_big(&mut out, &parts.n);
            }
            Self::Ecdsa(pair, curve) => {
                put(&mut out, format!("ecdsa-sha2-{}", curve.name).as_bytes());
                put(&mut out, curve.name.as_bytes());
                put(&mut out, pair.public_key().as_ref());
            }
        }
        out
    }
}

fn ed25519(inner: &mut Reader<'_>) -> Result<Pair, Problem> {
    let (public, secret) = (inner.string().ok_or(BROKEN)?, inner.string().ok_or(BROKEN)?);
    // The seed, and the public key once more.
    let seed = secret.get(..32).ok_or(BROKEN)?;
    Ed25519KeyPair::from_seed_and_public_key(seed, public).map(Pair::Ed25519).map_err(|_| BROKEN)
}

fn rsa_parts(inner: &mut Reader<'_>) -> Result<Pair, Problem> {
    let mut big = || inner.big().ok_or(BROKEN);
    let (n, e, d, q_inverse, p, q) = (big()?, big()?, big()?, big()?, big()?, big()?);
    // Not in the file: the private exponent for each prime.
    let exponent = |prime: &[u8]| {
        let mut less = prime.to_vec();
        // A prime is odd, so nothing is borrowed.
        *less.last_mut().ok_or(BROKEN)? &= 0xfe;
        remainder(d, &less).ok_or(BROKEN)
    };
    let parts = KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: &*exponent(p)?,
        dQ: &*exponent(q)?,
        qInv: q_inverse,
    };
    rsa(RsaKeyPair::from_components(&parts))
}

fn rsa(pair: Result<RsaKeyPair, ring::error::KeyRejected>) -> Result<Pair, Problem> {
    match pair {
        Ok(pair) => Ok(Pair::Rsa(Box::new(pair))),
        Err(error) if error.to_string().contains("Small") || error.to_string().contains("Large") => {
            Err(UNKNOWN)
        }
        Err(_) => Err(BROKEN),
    }
}

fn ecdsa(inner: &mut Reader<'_>, curve: &'static Curve) -> Result<Pair, Problem> {
    let (name, public, secret) =
        (inner.string().ok_or(BROKEN)?, inner.string().ok_or(BROKEN)?, inner.big().ok_or(BROKEN)?);
    let missing =
        curve.size.checked_sub(secret.len()).filter(|_| name == curve.name.as_bytes()).ok_or(BROKEN)?;
    let mut padded = vec![0; missing];
    padded.extend_from_slice(secret);
    EcdsaKeyPair::from_private_key_and_public_key(curve.algorithm, &padded, public, &SystemRandom::new())
        .map(|pair| Pair::Ecdsa(pair, curve))
        .map_err(|_| BROKEN)
}

fn pkcs8(bytes: &[u8]) -> Result<Pair, Problem> {
    // What OpenSSL writes for Ed25519 has no public key in it.
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes) {
        return Ok(Pair::Ed25519(pair));
    }
    for curve in &CURVES {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve.algorithm, bytes, &SystemRandom::new()) {
            return Ok(Pair::Ecdsa(pair, curve));
        }
    }
    match RsaKeyPair::from_pkcs8(bytes) {
        Ok(pair) => Ok(Pair::Rsa(Box::new(pair))),
        Err(_) => Err(UNKNOWN),
    }
}

/// Takes the first block out of a text in PEM: what it is, and its bytes.
fn pem(text: &str) -> Result<(&str, Vec<u8>), Problem> {
    const NONE: Problem = "is no private key (in PEM)";
    let (_, after) = text.split_once("-----BEGIN ").ok_or(NONE)?;
    let (label, after) = after.split_once("-----").ok_or(NONE)?;
    let (body, _) = after.split_once("-----END ").ok_or(BROKEN)?;
    if body.contains("ENCRYPTED") {
        return Err(ENCRYPTED);
    }
    let body: String = body.split_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(body).map_err(|_| BROKEN)?;
    Ok((label, bytes))
}
