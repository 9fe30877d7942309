//! Named sets of items, and expressions of them such as `in_stock & shoes - adult`.
//!
//! Operators, precedence and meaning are those of Python's sets: `-` binds tighter than `&`, `&` than `^`, `^` than
//! `|`; equal operators are evaluated from the left; parentheses group.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::filter::ItemSet;
use crate::indices::Indices;

/// The longest expression, in bytes, and the deepest nesting of parentheses: expressions may come from strangers.
const MAX_LEN: usize = 4096;
const MAX_DEPTH: usize = 32;

/// Operators, the loosest first.
const OPERATORS: [(char, Combine); 4] =
    [('|', |a, b| a | b), ('^', |a, b| a ^ b), ('&', |a, b| a & b), ('-', |a, b| a & !b)];

type Combine = fn(u64, u64) -> u64;

/// Sets of items of one catalogue, by name. Immutable: a change makes new ones, which share all other sets.
#[derive(Debug, Clone)]
pub struct ItemSets {
    sets: BTreeMap<String, Arc<ItemSet>>,
    items: usize,
}

impl ItemSets {
    /// No sets, for a catalogue of `items`.
    pub fn new(items: usize) -> Self {
        ItemSets { sets: BTreeMap::new(), items }
    }

    /// The names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().map(String::as_str)
    }

    /// The set with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<ItemSet>> {
        self.sets.get(name)
    }

    /// These sets with `set` under `name`, new or in place of another.
    ///
    /// # Errors
    /// [`Error::Argument`] for a name that an expression cannot contain, and for a set of another catalogue.
    pub fn with(&self, name: &str, set: Arc<ItemSet>) -> Result<Self> {
        if name.is_empty() || !name.chars().all(is_of_name) {
            return Err(Error::Argument(format!(
                "name: expected letters, digits, '_', '.' and ':', at least one, got {name:?}"
            )));
        }
        if set.items() != self.items {
            let (got, expected) = (set.items(), self.items);
            return Err(Error::Argument(format!("items: expected a set of {expected} items, got one of {got}")));
        }
        let mut sets = self.sets.clone();
        sets.insert(name.to_owned(), set);
        Ok(ItemSets { sets, items: self.items })
    }

    /// These sets without `name`; `None` if there is none.
    pub fn without(&self, name: &str) -> Option<Self> {
        let mut sets = self.sets.clone();
        sets.remove(name).map(|_| ItemSets { sets, items: self.items })
    }

    /// The sets for a catalogue that has grown to `items`, without the items in `removed`. New items are in none.
    ///
    /// # Errors
    /// [`Error::Argument`] for a catalogue that is smaller, or for other items; [`Error::Memory`].
    pub fn for_catalogue(&self, items: usize, removed: &Indices<'_>) -> Result<Self> {
        if items < self.items {
            return Err(Error::Argument(format!("items: expected at least {}, got {items}", self.items)));
        }
        let removed = removed.below(items, "removed")?;
        let mut sets = BTreeMap::new();
        for (name, set) in &self.sets {
            sets.insert(name.clone(), Arc::new(set.for_catalogue(items, removed)?));
        }
        Ok(ItemSets { sets, items })
    }

    /// The items that `expression` describes; `what` names the argument in errors.
    ///
    /// # Errors
    /// [`Error::Argument`] for what is not an expression, with the position, and for a name without a set;
    /// [`Error::Memory`].
    pub fn evaluate(&self, what: &str, expression: &str) -> Result<ItemSet> {
        if expression.len() > MAX_LEN {
            let got = expression.len();
            return Err(Error::Argument(format!(
                "{what}: expected an expression of at most {MAX_LEN} bytes, got {got}"
            )));
        }
        let mut parser = Parser { sets: self, what, text: expression, at: 0, depth: 0 };
        let set = parser.operation(0)?;
        match parser.peek() {
            None => Ok(set),
            Some(_) => Err(parser.expected("an operator (| ^ & -) or the end")),
        }
    }
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '.' | ':')
}

/// Evaluates an expression while it reads it.
struct Parser<'a> {
    sets: &'a ItemSets,
    what: &'a str,
    text: &'a str,
    /// The position of the next byte.
    at: usize,
    /// Open parentheses.
    depth: usize,
}

impl Parser<'_> {
    /// Operands joined by the operator `OPERATORS[level]`; each holds only tighter operators.
    fn operation(&mut self, level: usize) -> Result<ItemSet> {
        let Some(&(operator, combine)) = OPERATORS.get(level) else { return self.operand() };
        let mut set = self.operation(level + 1)?;
        while self.peek() == Some(operator) {
            self.at += operator.len_utf8();
            set.combine(&self.operation(level + 1)?, combine);
        }
        Ok(set)
    }

    /// A name, or an expression in parentheses.
    fn operand(&mut self) -> Result<ItemSet> {
        match self.peek() {
            Some('(') if self.depth == MAX_DEPTH => Err(self.expected(&format!("at most {MAX_DEPTH} parentheses"))),
            Some('(') => {
                (self.at, self.depth) = (self.at + 1, self.depth + 1);
                let set = self.operation(0)?;
                if self.peek() != Some(')') {
                    return Err(self.expected("an operator (| ^ & -) or ')'"));
                }
                (self.at, self.depth) = (self.at + 1, self.depth - 1);
                Ok(set)
            }
            Some(letter) if is_of_name(letter) => {
                let rest = &self.text[self.at..];
                let name = &rest[..rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len())];
                self.at += name.len();
                match self.sets.get(name) {
                    Some(set) => set.try_clone(),
                    None => Err(self.unknown(name)),
                }
            }
            _ => Err(self.expected("the name of a set or '('")),
        }
    }

    /// The next character that is not a space.
    fn peek(&mut self) -> Option<char> {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest.chars().next()
    }

    fn expected(&mut self, expected: &str) -> Error {
        let got = self.peek().map_or("the end".to_owned(), |letter| format!("{letter:?}"));
        let at = self.text[..self.at].chars().count();
        Error::Argument(format!("{}: {:?}: expected {expected} at position {at}, got {got}", self.what, self.text))
    }

    fn unknown(&self, name: &str) -> Error {
        let names: Vec<_> = self.sets.names().take(10).collect();
        let known = if names.is_empty() { "there are none".to_owned() } else { format!("known: {}", names.join(", ")) };
        Error::Argument(format!("{}: no set is named {name:?}; {known}", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indices::IndexCheck;

    fn sets() -> ItemSets {
        let set = |indices: &[u32]| Arc::new(ItemSet::from_indices("items", indices, 70).unwrap());
        let none = ItemSets::new(70);
        none.with("a", set(&[1, 2, 3, 69])).unwrap().with("b", set(&[2, 3, 4])).unwrap().with("ü:2", set(&[3])).unwrap()
    }

    #[test]
    fn operators_bind_as_in_python() {
        for (expression, expected) in [
            ("a", vec![1, 2, 3, 69]),
            (" a&b ", vec![2, 3]),
            ("a - b | b - a", vec![1, 4, 69]),
            ("a ^ b", vec![1, 4, 69]),
            ("b & a - ü:2", vec![2]),
            ("a - b - ü:2", vec![1, 69]),
            ("a - (b - ü:2)", vec![1, 3, 69]),
            ("((b))", vec![2, 3, 4]),
            ("a ^ b & ü:2 | ü:2", vec![1, 2, 3, 69]),
        ] {
            assert_eq!(sets().evaluate("allow", expression).unwrap().indices().unwrap(), expected, "{expression}");
        }
    }

    #[test]
    fn sets_follow_their_catalogue() {
        let check = IndexCheck { what: "removed", noun: "item", bound: 70 };
        let changed = sets().for_catalogue(200, &check.all(&[3, 69][..]).unwrap()).unwrap();
        let with_new =
            changed.with("new", Arc::new(ItemSet::from_indices("items", &[150, 199], 200).unwrap())).unwrap();
        for (expression, expected) in [("a", vec![1, 2]), ("ü:2", vec![]), ("a | new", vec![1, 2, 150, 199])] {
            assert_eq!(with_new.evaluate("allow", expression).unwrap().indices().unwrap(), expected, "{expression}");
        }
        assert!(sets().for_catalogue(69, &check.made(vec![])).is_err());
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_position() {
        let deep = "(".repeat(40) + "a";
        for (expression, expected) in [
            ("", r#"allow: "": expected the name of a set or '(' at position 0, got the end"#),
            ("a b", r#"allow: "a b": expected an operator (| ^ & -) or the end at position 2, got 'b'"#),
            ("a &", r#"allow: "a &": expected the name of a set or '(' at position 3, got the end"#),
            ("(a", r#"allow: "(a": expected an operator (| ^ & -) or ')' at position 2, got the end"#),
            ("ü:2 + a", r#"allow: "ü:2 + a": expected an operator (| ^ & -) or the end at position 4, got '+'"#),
            ("c | a", r#"allow: no set is named "c"; known: a, b, ü:2"#),
            (&deep, "expected at most 32 parentheses at position 32"),
            (&"a|".repeat(3000), "allow: expected an expression of at most 4096 bytes, got 6000"),
        ] {
            let error = sets().evaluate("allow", expression).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(ItemSets::new(3).evaluate("deny", "x").unwrap_err().to_string().ends_with("; there are none"));
        assert!(sets().with("a b", sets().get("a").unwrap().clone()).is_err());
        assert!(ItemSets::new(3).with("a", sets().get("a").unwrap().clone()).is_err());
        assert!(sets().without("a").unwrap().get("a").is_none() && sets().without("c").is_none());
    }
}
