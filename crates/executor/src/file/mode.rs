//! Changes of permissions as `chmod` writes them: `u=rwx,g+w,o-r`, `go=u-w`, `+X`.
//!
//! POSIX leaves cases open. What is decided here is what the library does that BuildKit uses (github.com/tonistiigi/
//! dchapes-mode, with a umask of 0), found out by running it: the sticky bit is nobody's, so that `=` leaves it; with
//! `t` and without a class nothing else of that operation counts; a class copied after `=` ends what `=` clears.

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;
/// What `a` stands for.
const ALL: u32 = SET_USER | SET_GROUP | 0o777;
const SEARCH: u32 = 0o111;

/// A change of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange(Vec<Step>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Add(u32),
    Clear(u32),
    /// Adds where something can be executed or is a directory.
    AddSearch(u32),
    /// Copies the permissions of one class (by its shift) to others, adding or taking away.
    Like {
        from: u32,
        to: u32,
        with: char,
    },
}

impl ModeChange {
    /// Reads a change; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)?;
            return Some(Self(vec![Step::Clear(0o7777), Step::Add(mode)]));
        }
        let mut steps = Vec::new();
        text.split(',').try_for_each(|clause| read(clause, &mut steps))?;
        Some(Self(steps))
    }

    /// Returns what becomes of the lower 12 bits of a mode.
    pub fn apply(&self, before: u32, directory: bool) -> u32 {
        let mut mode = before & 0o7777;
        let searched = before & SEARCH != 0 || directory;
        for step in &self.0 {
            match *step {
                Step::Add(bits) => mode |= bits,
                Step::Clear(bits) => mode &= !bits,
                Step::AddSearch(bits) if searched => mode |= bits,
                Step::AddSearch(_) => {}
                Step::Like { from, to, with } => {
                    let value = mode >> from & 0o7;
                    for shift in [6, 3, 0].into_iter().filter(|shift| to >> shift & 0o4 != 0) {
                        match with {
                            '+' => mode |= value << shift,
                            '-' => mode &= !(value << shift),
                            _ => mode = mode & !(0o7 << shift) | value << shift,
                        }
                    }
                }
            }
        }
        mode
    }
}

/// Reads a clause: classes, then one or more operations.
fn read(clause: &str, steps: &mut Vec<Step>) -> Option<()> {
    let classes = clause.find(|c| !matches!(c, 'a' | 'u' | 'g' | 'o'))?;
    let (classes, mut rest) = clause.split_at_checked(classes)?;
    let mut who = classes.chars().fold(0, |who, class| {
        who | match class {
            'a' => ALL,
            'u' => SET_USER | 0o700,
            'g' => SET_GROUP | 0o070,
            _ => 0o007,
        }
    });
    while let Some(operator) = rest.chars().next() {
        if !matches!(operator, '+' | '-' | '=') {
            return None;
        }
        rest = rest.get(1..)?;
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let (permissions, after) = rest.split_at_checked(end)?;
        operation(operator, permissions, &mut who, steps)?;
        rest = after;
    }
    Some(())
}

fn operation(operator: char, permissions: &str, who: &mut u32, steps: &mut Vec<Step>) -> Option<()> {
    *who &= !STICKY;
    let (mut bits, mut search, mut copied) = (0, 0, false);
    for permission in permissions.chars() {
        // What only others have is neither set-id nor sticky.
        let special = *who == 0 || *who & !0o007 != 0;
        match permission {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= SEARCH,
            'X' if operator == '-' => bits |= SEARCH,
            'X' => search = SEARCH,
            's' if special => bits |= SET_USER | SET_GROUP,
            't' if special => {
                *who |= STICKY;
                bits |= STICKY;
            }
            's' | 't' => {}
            'u' | 'g' | 'o' => {
                if bits != 0 {
                    change(operator, bits, *who, steps);
                    bits = 0;
                }
                copied |= operator == '=';
                if search != 0 {
                    steps.push(Step::AddSearch(concerned(*who) & search));
                    search = 0;
                }
                let from = match permission {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                };
                steps.push(Step::Like { from, to: concerned(*who), with: operator });
            }
            _ => return None,
        }
    }
    if bits != 0 || operator == '=' && !copied {
        change(operator, bits, *who, steps);
    }
    if search != 0 {
        steps.push(Step::AddSearch(concerned(*who) & search));
    }
    Some(())
}

fn change(operator: char, bits: u32, who: u32, steps: &mut Vec<Step>) {
    if operator == '=' {
        steps.push(Step::Clear(if who == 0 { ALL } else { who }));
    }
    let bits = bits & concerned(who);
    steps.push(if operator == '-' { Step::Clear(bits) } else { Step::Add(bits) });
}

/// Returns the bits that no class or these classes stand for.
fn concerned(who: u32) -> u32 {
    if who == 0 { 0o7777 } else { who }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Four files and three directories.
    const BEFORE: [(u32, bool); 7] = [
        (0o644, false),
        (0o755, false),
        (0o640, false),
        (0o4711, false),
        (0o2775, true),
        (0o1777, true),
        (0o600, true),
    ];

    /// What BuildKit's library makes of each; printed by it.
    #[test]
    fn as_buildkit_does() {
        for (text, expected) in [
            ("u=rwx,g+w,o-r", Some([0o760, 0o771, 0o760, 0o731, 0o2771, 0o1773, 0o720])),
            ("go-w", Some([0o644, 0o755, 0o640, 0o4711, 0o2755, 0o1755, 0o600])),
            ("=rw,+X", Some([0o666, 0o777, 0o666, 0o777, 0o777, 0o1777, 0o777])),
            ("+X", Some([0o644, 0o755, 0o640, 0o4711, 0o2775, 0o1777, 0o711])),
            ("u=rwx,go=rx", Some([0o755, 0o755, 0o755, 0o755, 0o755, 0o1755, 0o755])),
            ("u=rwx,go=u-w", Some([0o755, 0o755, 0o755, 0o755, 0o2755, 0o1755, 0o755])),
            ("go=", Some([0o600, 0o700, 0o600, 0o4700, 0o700, 0o1700, 0o600])),
            ("go=u-w", Some([0o644, 0o755, 0o644, 0o4755, 0o2755, 0o1755, 0o644])),
            ("a+x", Some([0o755, 0o755, 0o751, 0o4711, 0o2775, 0o1777, 0o711])),
            ("+x", Some([0o755, 0o755, 0o751, 0o4711, 0o2775, 0o1777, 0o711])),
            ("-x", Some([0o644, 0o644, 0o640, 0o4600, 0o2664, 0o1666, 0o600])),
            ("u+s", Some([0o4644, 0o4755, 0o4640, 0o4711, 0o6775, 0o5777, 0o4600])),
            ("g+s", Some([0o2644, 0o2755, 0o2640, 0o6711, 0o2775, 0o3777, 0o2600])),
            ("o+s", Some([0o644, 0o755, 0o640, 0o4711, 0o2775, 0o1777, 0o600])),
            ("+t", Some([0o1644, 0o1755, 0o1640, 0o5711, 0o3775, 0o1777, 0o1600])),
            ("u+t", Some([0o1644, 0o1755, 0o1640, 0o5711, 0o3775, 0o1777, 0o1600])),
            ("o+t", Some([0o644, 0o755, 0o640, 0o4711, 0o2775, 0o1777, 0o600])),
            ("a=", Some([0o0, 0o0, 0o0, 0o0, 0o0, 0o1000, 0o0])),
            ("=", Some([0o0, 0o0, 0o0, 0o0, 0o0, 0o1000, 0o0])),
            ("ug=rw", Some([0o664, 0o665, 0o660, 0o661, 0o665, 0o1667, 0o660])),
            ("g=u", Some([0o664, 0o775, 0o660, 0o4771, 0o2775, 0o1777, 0o660])),
            ("o=g", Some([0o644, 0o755, 0o644, 0o4711, 0o2777, 0o1777, 0o600])),
            ("u=o", Some([0o444, 0o555, 0o40, 0o4111, 0o2575, 0o1777, 0o0])),
            ("g+u", Some([0o664, 0o775, 0o660, 0o4771, 0o2775, 0o1777, 0o660])),
            ("o-u", Some([0o640, 0o750, 0o640, 0o4710, 0o2770, 0o1770, 0o600])),
            ("u=rwX", Some([0o644, 0o755, 0o640, 0o711, 0o2775, 0o1777, 0o700])),
            ("=rwxu", Some([0o777, 0o777, 0o777, 0o777, 0o777, 0o1777, 0o777])),
            ("g=ux", Some([0o614, 0o715, 0o610, 0o4711, 0o715, 0o1717, 0o610])),
            ("u+rw-x", Some([0o644, 0o655, 0o640, 0o4611, 0o2675, 0o1677, 0o600])),
            ("u+x,u-x", Some([0o644, 0o655, 0o640, 0o4611, 0o2675, 0o1677, 0o600])),
            ("-t", Some([0o644, 0o755, 0o640, 0o4711, 0o2775, 0o777, 0o600])),
            ("a-st", Some([0o644, 0o755, 0o640, 0o711, 0o775, 0o777, 0o600])),
            ("u=s", Some([0o4044, 0o4055, 0o4040, 0o4011, 0o6075, 0o5077, 0o4000])),
            ("+rwxXst", Some([0o1644, 0o1755, 0o1640, 0o5711, 0o3775, 0o1777, 0o1600])),
            ("u-X", Some([0o644, 0o655, 0o640, 0o4611, 0o2675, 0o1677, 0o600])),
            ("=X", Some([0o0, 0o111, 0o0, 0o111, 0o111, 0o1111, 0o111])),
            ("ugo=rwx", Some([0o777, 0o777, 0o777, 0o777, 0o777, 0o1777, 0o777])),
            ("u=gr", Some([0o444, 0o455, 0o440, 0o411, 0o2475, 0o1477, 0o400])),
            ("g=", Some([0o604, 0o705, 0o600, 0o4701, 0o705, 0o1707, 0o600])),
            ("u+r+w=x", Some([0o144, 0o155, 0o140, 0o111, 0o2175, 0o1177, 0o100])),
            ("a=rwx,o=", Some([0o770, 0o770, 0o770, 0o770, 0o770, 0o1770, 0o770])),
            ("", None),
            ("u", None),
            ("x", None),
            ("u=z", None),
            ("u+x,", None),
            (",u+x", None),
            ("755", Some([0o755, 0o755, 0o755, 0o755, 0o755, 0o755, 0o755])),
            ("8", None),
            ("77777", None),
            ("u==x", Some([0o144, 0o155, 0o140, 0o111, 0o2175, 0o1177, 0o100])),
            ("uu+x", Some([0o744, 0o755, 0o740, 0o4711, 0o2775, 0o1777, 0o700])),
        ] {
            let change = ModeChange::parse(text);
            let found = change.map(|change| BEFORE.map(|(mode, directory)| change.apply(mode, directory)));
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_a_change_or_none(text in "[augo+=,rwxXst-]{0,12}|.{0,8}", mode in 0u32..0o10000, directory: bool) {
            if let Some(change) = ModeChange::parse(&text) {
                prop_assert!(change.apply(mode, directory) <= 0o7777);
            }
        }
    }
}
