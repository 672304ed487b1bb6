//! The forms of values that hold others: lists, pairs and dicts.
//!
//! This module must not know fields, nor what a value is for.

use std::borrow::Cow;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::forms::{Form, Seen};
use super::mismatch::Refusal;
use crate::value::{Scalar, Value};

/// A list of values of one form. The highest number that there is stands for no bound.
pub(crate) struct List<F> {
    pub(crate) items: F,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

impl<F> List<F> {
    /// The items of a value that is such a list by its kind and number.
    pub(crate) fn items<'v>(&self, seen: Seen<'v>) -> Result<&'v [Scalar], Refusal> {
        match seen.list() {
            Some(items) if items.len() > self.most => {
                Err(Refusal::wrong(format!("must not have more than {} items", self.most)))
            }
            Some(items) if items.len() >= self.least => Ok(items),
            _ => Err(Refusal::UNFIT),
        }
    }
}

impl<F: Form> Form for List<F> {
    type Read = Vec<F::Read>;

    /// Lists of anything else are called so where they are declared.
    fn words(&self) -> Cow<'static, str> {
        "a list of strings".into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({"type": "array", "items": self.items.schema(generator)});
        if self.least > 0 {
            schema.insert("minItems".to_owned(), self.least.into());
        }
        if self.most < usize::MAX {
            schema.insert("maxItems".to_owned(), self.most.into());
        }
        schema
    }

    fn read(&self, seen: Seen<'_>) -> Result<Self::Read, Refusal> {
        let items = self.items(seen)?;
        let read: Vec<_> = items.iter().map(|item| self.items.read(Seen::Scalar(item))).collect();
        // That the list is of another kind goes before what is wrong with an item of the right kind.
        let unfit = |item: &Result<_, _>| matches!(item, Err(Refusal::Unfit { .. }));
        match read.iter().position(unfit) {
            Some(at) => Err(unfit_item(&items[at])),
            None => read.into_iter().collect(),
        }
    }
}

/// The refusal of a list that holds an item of another form.
pub(crate) fn unfit_item(item: &Scalar) -> Refusal {
    Refusal::unfit(format!("one with {item}"))
}

/// A list of exactly two values of one form.
pub(crate) struct Pair<F>(pub(crate) F);

impl<F: Form> Form for Pair<F> {
    type Read = (F::Read, F::Read);

    fn words(&self) -> Cow<'static, str> {
        "a pair".into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "minItems": 2, "maxItems": 2, "items": self.0.schema(generator)})
    }

    fn read(&self, seen: Seen<'_>) -> Result<Self::Read, Refusal> {
        match seen.list() {
            Some([first, second]) => Ok((self.0.read(Seen::Scalar(first))?, self.0.read(Seen::Scalar(second))?)),
            _ => Err(Refusal::UNFIT),
        }
    }
}

/// A dict with keys of one form and values of another. The highest number that there is stands for no bound.
pub(crate) struct Dict<K, V> {
    pub(crate) words: &'static str,
    pub(crate) keys: K,
    pub(crate) values: V,
    pub(crate) most: usize,
    /// What its entries are called.
    pub(crate) entries: &'static str,
}

/// The entries of a dict, each read or with what is wrong with it: what they are read for may find fault with an earlier one first.
pub(crate) type Entries<K, V> = Vec<Result<(K, V), Refusal>>;

impl<K: Form, V: Form> Form for Dict<K, V> {
    type Read = Entries<K::Read, V::Read>;

    fn words(&self) -> Cow<'static, str> {
        self.words.into()
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        let mut keys = self.keys.schema(generator);
        // Keys are strings in any case.
        keys.remove("type");
        let mut schema = json_schema!({
            "type": "object",
            "propertyNames": keys,
            "additionalProperties": self.values.schema(generator),
        });
        if self.most < usize::MAX {
            schema.insert("maxProperties".to_owned(), self.most.into());
        }
        schema
    }

    fn read(&self, seen: Seen<'_>) -> Result<Self::Read, Refusal> {
        let Seen::Value(Value::Dict(entries)) = seen else {
            return Err(Refusal::UNFIT);
        };
        if entries.len() > self.most {
            let message = format!("must not have more than {} {}", self.most, self.entries);
            return Err(Refusal::wrong(message));
        }
        let read = |(key, value): &(String, _)| {
            let key_seen = Seen::Key(key);
            let read_key = self.keys.read(key_seen).map_err(|refusal| {
                refusal.told(key_seen, |got| format!("has {got}, which is not {}", self.keys.words()))
            })?;
            let value = Seen::item(value);
            let read_value = self.values.read(value).map_err(|refusal| {
                refusal.told(value, |got| {
                    format!("must have {}, not {got}", self.values.words_for(key))
                })
            })?;
            Ok((read_key, read_value))
        };
        Ok(entries.iter().map(read).collect())
    }
}
