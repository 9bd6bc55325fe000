//! What each kernel may take: `kernels/budget.toml`, one line a kernel and architecture.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use toml::{Table, Value};

/// A kernel on an architecture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) arch: String,
    pub(super) source: String,
    pub(super) entry: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{} on {}", self.source, self.entry, self.arch)
    }
}

/// What it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// Registers of a thread.
    pub(super) registers: u32,
    /// Bytes of a thread's stack.
    pub(super) stack: u32,
    /// Bytes of registers that a thread writes to memory and reads back.
    pub(super) spills: u32,
    /// Bytes of static shared memory of a block.
    pub(super) shared: u32,
}

const FIELDS: [&str; 4] = ["registers", "stack", "spills", "shared"];

impl Use {
    fn fields(self) -> [(&'static str, u32); 4] {
        let Self { registers, stack, spills, shared } = self;
        let [a, b, c, d] = FIELDS;
        [(a, registers), (b, stack), (c, spills), (d, shared)]
    }
}

pub(super) type Budget = BTreeMap<Key, Use>;

/// Reads the file.
pub(super) fn parse(text: &str) -> Result<Budget> {
    let root: Table = text.parse().context("budget.toml is no TOML")?;
    let table = |value: &Value, what: &str| value.as_table().cloned().with_context(|| format!("{what} is no table"));
    let mut budget = Budget::new();
    for (arch, sources) in &root {
        for (source, entries) in table(sources, arch)? {
            for (entry, limits) in table(&entries, &source)? {
                let key = Key { arch: arch.clone(), source: source.clone(), entry };
                let limits = table(&limits, &key.to_string())?;
                if let Some(unknown) = limits.keys().find(|name| !FIELDS.contains(&name.as_str())) {
                    anyhow::bail!("{key}: there is no `{unknown}`, only {}", FIELDS.join(", "));
                }
                let number = |name: &str| match limits.get(name) {
                    None => Ok(0),
                    Some(value) => {
                        let number = value.as_integer().and_then(|n| u32::try_from(n).ok());
                        number.with_context(|| format!("{key}: `{name}` is {value}, expected a number"))
                    }
                };
                let [registers, stack, spills, shared] = FIELDS.map(number);
                budget.insert(key, Use { registers: registers?, stack: stack?, spills: spills?, shared: shared? });
            }
        }
    }
    Ok(budget)
}

/// The file's text, in an order that makes a change easy to read.
pub(super) fn text(budget: &Budget, compiler: &str) -> String {
    let mut text = format!(
        "# Registers, bytes of stack, spilled bytes and bytes of static shared memory that each kernel may take; what is\n\
         # not written is 0. As {compiler} compiles them, and as `cargo xtask kernels check --bless` writes them here.\n"
    );
    let mut last = "";
    for (Key { arch, source, entry }, limits) in budget {
        if last != arch {
            let _ = write!(text, "\n[{arch}]\n");
            last = arch;
        }
        let parts = limits.fields().into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} = {n}"));
        let _ = writeln!(text, "{source}.{entry} = {{ {} }}", parts.collect::<Vec<_>>().join(", "));
    }
    text
}

/// How `found` goes beyond `budget`, a sentence each; and how many kernels take less than they may.
pub(super) fn compare(budget: &Budget, found: &Budget) -> (Vec<String>, usize) {
    let (mut complaints, mut less) = (Vec::new(), 0);
    for (key, takes) in found {
        let Some(limits) = budget.get(key) else {
            complaints.push(format!("{key}: has no budget"));
            continue;
        };
        for ((name, takes), (_, limit)) in takes.fields().into_iter().zip(limits.fields()) {
            if takes > limit {
                complaints.push(format!("{key}: {takes} {name}, the budget is {limit}"));
            }
        }
        less += usize::from(takes.fields().into_iter().zip(limits.fields()).any(|(takes, limit)| takes.1 < limit.1));
    }
    let gone = budget.keys().filter(|key| !found.contains_key(key));
    complaints.extend(gone.map(|key| format!("{key}: has a budget and is no kernel")));
    (complaints, less)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(entry: &str) -> Key {
        Key { arch: "sm_90a".into(), source: "norm".into(), entry: entry.into() }
    }

    fn budget() -> Budget {
        let lean = Use { registers: 32, ..Use::default() };
        [(key("a"), lean), (key("b"), Use { registers: 255, stack: 48, spills: 124, shared: 1024 })].into()
    }

    #[test]
    fn a_budget_is_read_as_it_was_written() {
        let text = text(&budget(), "NVRTC 13.0");
        assert_eq!(parse(&text).expect("our own text"), budget());
        assert!(text.contains("\n[sm_90a]\nnorm.a = { registers = 32 }\n"), "{text}");
    }

    #[test]
    fn more_of_anything_is_a_complaint_and_less_is_not() {
        assert_eq!(compare(&budget(), &budget()), (vec![], 0));
        for more in [
            Use { registers: 33, ..Use::default() },
            Use { registers: 32, stack: 1, ..Use::default() },
            Use { registers: 32, spills: 1, ..Use::default() },
            Use { registers: 32, shared: 1, ..Use::default() },
        ] {
            let mut found = budget();
            found.insert(key("a"), more);
            assert_eq!(compare(&budget(), &found).0.len(), 1, "{more:?}");
        }
        let mut found = budget();
        found.insert(key("b"), Use { registers: 254, stack: 48, spills: 124, shared: 1024 });
        assert_eq!(compare(&budget(), &found), (vec![], 1));
    }

    #[test]
    fn a_kernel_without_a_budget_and_a_budget_without_a_kernel_are_complaints() {
        let complaint = |entry| [(key(entry), Use::default())].into();
        assert_eq!(compare(&Budget::new(), &complaint("new")).0, ["norm.new on sm_90a: has no budget"]);
        assert_eq!(compare(&complaint("old"), &Budget::new()).0, ["norm.old on sm_90a: has a budget and is no kernel"]);
    }

    #[test]
    fn a_budget_that_is_none_is_refused() {
        for text in ["[sm_80", "sm_80 = 3", "[sm_80]\nx.y = { register = 1 }", "[sm_80]\nx.y = { registers = -1 }"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
