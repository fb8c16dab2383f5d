//! OCI distribution client: pull, push, auth, retry, resume.
