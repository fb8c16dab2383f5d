use cooper_layer::LayerId;
use cooper_oci::Digest;

/// Something that was in the store by its own account, but is missing or damaged. It counts as not there from then on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The files of a layer are gone or bad.
    #[error("files of layer `{layer}`: {reason}")]
    Snapshot {
        /// The layer.
        layer: LayerId,
        /// What is wrong.
        reason: String,
    },
    /// A blob is gone or bad.
    #[error("blob `{digest}`: {reason}")]
    Blob {
        /// The blob.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
}
