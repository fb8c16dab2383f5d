use std::fmt;

use cooper_oci::{Digest, DigestError};
use serde::{Deserialize, Serialize};

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// Wraps a digest that is such an id.
            pub const fn new(digest: Digest) -> Self {
                Self(digest)
            }

            /// Returns the digest.
            pub const fn digest(&self) -> &Digest {
                &self.0
            }

            /// Returns the 32 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        impl std::str::FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

digest_newtype! {
    /// The name of one committed layer: what one step wrote, or one layer of an image. Never a chain of layers.
    ///
    /// For a layer of an image it is the layer's [`DiffId`]; for what a step wrote its owner chooses it.
    LayerId
}

digest_newtype! {
    /// The digest of a layer's uncompressed tar stream, as `rootfs.diff_ids` of an image's configuration lists it.
    DiffId
}

impl From<DiffId> for LayerId {
    fn from(id: DiffId) -> Self {
        Self(id.0)
    }
}
