use crate::Event;

/// Everything that happened in a build, in order; only ever added to.
///
/// A reader that comes late begins at the beginning and misses nothing. The log is no channel: whoever shares it
/// between threads puts it behind a lock and wakes the readers.
#[derive(Debug, Clone, Default)]
pub struct Log {
    events: Vec<Event>,
}

/// How far one reader of a [`Log`] is; a new one is at the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(usize);

impl Log {
    /// Makes an empty log.
    pub const fn new() -> Self {
        Self { events: Vec::new() }
    }

    /// Adds an event.
    pub fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Returns what was added since the cursor was here last, and moves the cursor behind it.
    ///
    /// A cursor that is past the end, because it belongs to a longer log, stays where it is and sees nothing.
    pub fn events_since(&self, cursor: &mut Cursor) -> &[Event] {
        let new = self.events.get(cursor.0..).unwrap_or_default();
        cursor.0 += new.len();
        new
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Tells whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl Extend<Event> for Log {
    fn extend<I: IntoIterator<Item = Event>>(&mut self, events: I) {
        self.events.extend(events);
    }
}

#[cfg(test)]
mod tests {
    use cooper_oci::{Digest, Timestamp};

    use super::*;
    use crate::EventKind;

    #[test]
    fn every_reader_sees_everything_once() {
        let event = |seconds| Event {
            time: Timestamp::from_unix_seconds(seconds).unwrap(),
            kind: EventKind::Started { vertex: Digest::of("step") },
        };
        let mut log = Log::new();
        let (mut early, mut late) = (Cursor::default(), Cursor::default());
        assert!(log.is_empty() && log.events_since(&mut early).is_empty());
        log.push(event(1));
        assert_eq!(log.events_since(&mut early), [event(1)]);
        log.extend([event(2), event(3)]);
        assert_eq!(log.events_since(&mut early), [event(2), event(3)]);
        assert_eq!(log.events_since(&mut late), [event(1), event(2), event(3)]);
        assert_eq!(log.events_since(&mut late), []);
        assert_eq!((log.len(), early), (3, late));
        assert_eq!(Log::new().events_since(&mut early), []);
        assert_eq!(early, late);
    }
}
