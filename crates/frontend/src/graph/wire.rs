//! Minimal protobuf writer.

#[derive(Default, Clone)]
pub(super) struct Msg(pub(super) Vec<u8>);

impl Msg {
    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    pub(super) fn int(mut self, field: u32, value: i64) -> Self {
        if value != 0 {
            self.raw(u64::from(field) << 3);
            self.raw(value as u64);
        }
        self
    }
    pub(super) fn int_always(mut self, field: u32, value: i64) -> Self {
        self.raw(u64::from(field) << 3);
        self.raw(value as u64);
        self
    }
    pub(super) fn flag(self, field: u32, value: bool) -> Self {
        self.int(field, i64::from(value))
    }
    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        if !value.is_empty() {
            self = self.bytes_always(field, value);
        }
        self
    }
    pub(super) fn bytes_always(mut self, field: u32, value: &[u8]) -> Self {
        self.raw(u64::from(field) << 3 | 2);
        self.raw(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
    pub(super) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }
    pub(super) fn texts(mut self, field: u32, values: &[String]) -> Self {
        for value in values {
            self = self.bytes_always(field, value.as_bytes());
        }
        self
    }
    pub(super) fn msg(self, field: u32, value: Msg) -> Self {
        self.bytes_always(field, &value.0)
    }
    pub(super) fn entry(self, field: u32, key: &str, value: impl FnOnce(Msg) -> Msg) -> Self {
        let entry = value(Msg::default().bytes_always(1, key.as_bytes()));
        self.msg(field, entry)
    }
}
