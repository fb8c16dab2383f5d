//! Ordered lists of variables.

use std::collections::HashMap;
use std::rc::Rc;

use cooper_dockerfile::shell::Env;

/// Variables in the order of their last assignment, which is the order in which they stand in LLB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnvList(Rc<Vec<(String, String)>>);

impl EnvList {
    /// Sets a variable, as the last one.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let list = Rc::make_mut(&mut self.0);
        list.retain(|(name, _)| name != key);
        list.push((key.to_owned(), value.to_owned()));
    }

    /// Removes a variable.
    pub(crate) fn remove(&mut self, key: &str) {
        if self.lookup(key).is_some() {
            Rc::make_mut(&mut self.0).retain(|(name, _)| name != key);
        }
    }

    /// All of them.
    pub(crate) fn vars(&self) -> Vars<'_> {
        Vars(&self.0)
    }

    /// The value of a variable.
    pub(crate) fn lookup(&self, key: &str) -> Option<&str> {
        self.vars().lookup(key)
    }
}

/// Makes a list of many variables: finds them by name, which an [`EnvList`] does not.
#[derive(Debug, Default)]
pub(crate) struct EnvBuilder {
    /// In the order of assignment; what was assigned again later is empty.
    list: Vec<Option<(String, String)>>,
    places: HashMap<String, usize>,
}

impl EnvBuilder {
    /// Sets a variable, as the last one.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        if let Some(old) = self.places.insert(key.to_owned(), self.list.len())
            && let Some(slot) = self.list.get_mut(old)
        {
            *slot = None;
        }
        self.list.push(Some((key.to_owned(), value.to_owned())));
    }

    /// The list.
    pub(crate) fn finish(self) -> EnvList {
        EnvList(Rc::new(self.list.into_iter().flatten().collect()))
    }
}

impl From<&EnvList> for EnvBuilder {
    fn from(env: &EnvList) -> EnvBuilder {
        let mut builder = EnvBuilder::default();
        env.0.iter().for_each(|(key, value)| builder.set(key, value));
        builder
    }
}

impl Env for EnvBuilder {
    fn get(&self, name: &str) -> Option<&str> {
        let slot = self.list.get(*self.places.get(name)?)?;
        slot.as_ref().map(|(_, value)| value.as_str())
    }
}

/// Variables by name, in order, each name once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vars<'a>(pub(crate) &'a [(String, String)]);

impl<'a> Vars<'a> {
    /// The value of a variable.
    pub(crate) fn lookup(self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Names in order.
    pub(crate) fn keys(self) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl Env for Vars<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.lookup(name)
    }
}

impl Env for EnvList {
    fn get(&self, name: &str) -> Option<&str> {
        self.lookup(name)
    }
}

/// Variables, some of which hide others: secrets are shown as stars.
pub(crate) struct Masked<'a> {
    pub(crate) base: Vars<'a>,
    pub(crate) hidden: Vec<&'a str>,
}

impl Env for Masked<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        if self.hidden.contains(&name) { Some("****") } else { self.base.lookup(name) }
    }
}

/// Takes a `NAME=value` text apart.
pub(crate) fn split_pair(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_assignment_orders() {
        let mut env = EnvList::default();
        env.set("A", "1");
        env.set("B", "2");
        let before = env.clone();
        env.set("A", "3");
        env.remove("C");
        assert_eq!(env.vars().keys().collect::<Vec<_>>(), ["B", "A"]);
        assert_eq!(before.lookup("A"), Some("1"));
        env.remove("B");
        assert_eq!(env.lookup("B"), None);
        let mut builder = EnvBuilder::from(&before);
        builder.set("A", "3");
        assert_eq!((builder.get("A"), builder.get("C")), (Some("3"), None));
        assert_eq!(builder.finish().vars().keys().collect::<Vec<_>>(), ["B", "A"]);
        let masked = Masked { base: env.vars(), hidden: vec!["T"] };
        assert_eq!((masked.get("T"), masked.get("A"), masked.get("x")), (Some("****"), Some("3"), None));
    }
}
