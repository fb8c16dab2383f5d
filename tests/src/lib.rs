//! Integration tests of cooper; see `tests/it`.
