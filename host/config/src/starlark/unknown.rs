//! What stands for a name that a file uses and that nothing defines, so that the rest of the file can be looked at all the same.
//!
//! Starlark refuses a file for its first unknown name, before any of it runs. Whoever checks a file wants to know of all that is wrong
//! with it. The file is refused in any case; so where this value gets in the way, that is no mistake of its own and is not told.

use std::fmt;

use allocative::Allocative;
use starlark::environment::GlobalsBuilder;
use starlark::eval::{Arguments, Evaluator};
use starlark::starlark_simple_value;
use starlark::values::{
    Heap, NoSerialize, ProvidesStaticType, StarlarkPagablePanic, StarlarkValue, Value, starlark_value,
};

/// What errors call such a value: those that do are of no interest.
pub(crate) const TYPE: &str = "unknown_name";
/// Most unknown names of a file that are told one by one.
pub(super) const MOST: usize = 50;

/// Stands for whatever was meant.
#[derive(Debug, Clone, Copy, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
struct Unknown;

starlark_simple_value!(Unknown);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TYPE)
    }
}

#[starlark_value(type = "unknown_name")]
impl<'v> StarlarkValue<'v> for Unknown {
    fn invoke(
        &self,
        me: Value<'v>,
        _arguments: &Arguments<'v, '_>,
        _eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        Ok(me)
    }

    fn get_attr(&self, _attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        Some(heap.alloc(Unknown))
    }

    fn at(&self, _index: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(Unknown))
    }

    fn iterate_collect(&self, _heap: Heap<'v>) -> starlark::Result<Vec<Value<'v>>> {
        Ok(Vec::new())
    }

    fn add(&self, _rhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(Ok(heap.alloc(Unknown)))
    }

    fn radd(&self, _lhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        Some(Ok(heap.alloc(Unknown)))
    }

    fn percent(&self, _rhs: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        Ok(heap.alloc(Unknown))
    }
}

/// Defines these names.
pub(super) fn define(names: &[String], builder: &mut GlobalsBuilder) {
    for name in names {
        builder.set(name, Unknown);
    }
}

/// The name that an error says is not there.
pub(super) fn name(error: &starlark::Error) -> Option<String> {
    if !matches!(error.kind(), starlark::ErrorKind::Scope(_)) {
        return None;
    }
    let span = error.span()?;
    let name = span.source_span();
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_name && !name.is_empty()).then(|| name.to_owned())
}
