//! The functions and constants that a file uses to say what is watched.
//!
//! This module must not know what the fields of a watch mean: it passes on what was given, and where.

#![allow(non_snake_case, reason = "the functions carry the names that files call them by")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use allocative::Allocative;
use nix::sys::signal::Signal;
use starlark::codemap::FileSpan;
use starlark::docs::{DocFunction, DocItem, DocMember};
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension};
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::starlark_simple_value;
use starlark::values::dict::DictRef;
use starlark::values::none::NoneType;
use starlark::values::tuple::UnpackTuple;
use starlark::values::{NoSerialize, ProvidesStaticType, StarlarkPagablePanic, StarlarkValue, Value, starlark_value};

use super::arguments::Places;
use super::{ScriptError, Session, convert, live, unknown};
use crate::fields::types::constants;
use crate::fields::{self, calls, component, deployment, group, retry, rollout};
use crate::json::WATCHES_MAX;
use crate::value::{Call, Field, Registered, Registration};

/// Everything that a file can use without loading it; and names that it uses although there is nothing behind them.
pub(super) fn globals(acting: Arc<AtomicBool>, unknown: &[String]) -> Globals {
    let library = [
        LibraryExtension::StructType,
        LibraryExtension::RecordType,
        LibraryExtension::EnumType,
        LibraryExtension::SetType,
        LibraryExtension::Map,
        LibraryExtension::Filter,
        LibraryExtension::Partial,
        LibraryExtension::Json,
        LibraryExtension::Typing,
    ];
    let mut builder = GlobalsBuilder::extended_by(&library)
        .with(registering)
        .with(live::functions);
    for name in constants() {
        builder.set(name, name);
    }
    for signal in Signal::iterator() {
        builder.set(signal.as_str(), signal as i32);
    }
    builder.set("env", live::Env { acting });
    unknown::define(unknown, &mut builder);
    builder.build()
}

/// What `Exec(…)` makes.
#[derive(Debug, Clone, PartialEq, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
pub(super) struct Exec {
    #[allocative(skip)]
    pub(super) call: Arc<Call>,
}

starlark_simple_value!(Exec);

impl fmt::Display for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.call.arguments.iter().find(|field| field.name == calls::COMMAND) {
            Some(Field { value, .. }) => write!(f, "Exec({value})"),
            None => f.write_str("Exec()"),
        }
    }
}

#[starlark_value(type = "Exec")]
impl<'v> StarlarkValue<'v> for Exec {}

/// What `Wasm(…)` makes.
#[derive(Debug, Clone, PartialEq, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
pub(super) struct Wasm {
    #[allocative(skip)]
    pub(super) call: Arc<Call>,
}

starlark_simple_value!(Wasm);

impl fmt::Display for Wasm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let component = self.call.arguments.iter().find(|field| field.name == component::REF);
        match component.map(|field| &field.value) {
            Some(value) => write!(f, "Wasm({value})"),
            None => f.write_str("Wasm()"),
        }
    }
}

#[starlark_value(type = "Wasm")]
impl<'v> StarlarkValue<'v> for Wasm {}

/// What `Deploy(…)` makes.
#[derive(Debug, Clone, PartialEq, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
pub(super) struct Deploy {
    #[allocative(skip)]
    pub(super) call: Arc<Call>,
}

starlark_simple_value!(Deploy);

impl fmt::Display for Deploy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deploy(…)")
    }
}

#[starlark_value(type = "Deploy")]
impl<'v> StarlarkValue<'v> for Deploy {}

/// What `Retry(…)` makes.
#[derive(Debug, Clone, PartialEq, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
pub(super) struct Retry {
    #[allocative(skip)]
    pub(super) call: Arc<Call>,
}

starlark_simple_value!(Retry);

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Retry(…)")
    }
}

#[starlark_value(type = "Retry")]
impl<'v> StarlarkValue<'v> for Retry {}

/// What `Rollout(…)` makes.
#[derive(Debug, Clone, PartialEq, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
pub(super) struct Rollout {
    #[allocative(skip)]
    pub(super) call: Arc<Call>,
}

starlark_simple_value!(Rollout);

impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rollout(…)")
    }
}

#[starlark_value(type = "Rollout")]
impl<'v> StarlarkValue<'v> for Rollout {}

/// What `Wave(…)` makes.
#[derive(Debug, Clone, PartialEq, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
pub(super) struct Wave {
    #[allocative(skip)]
    pub(super) call: Arc<Call>,
}

starlark_simple_value!(Wave);

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wave(…)")
    }
}

#[starlark_value(type = "Wave")]
impl<'v> StarlarkValue<'v> for Wave {}

/// What `Secret(…)` makes.
#[derive(Debug, Clone, PartialEq, ProvidesStaticType, NoSerialize, StarlarkPagablePanic, Allocative)]
pub(super) struct Secret {
    pub(super) file: String,
}

starlark_simple_value!(Secret);

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?})", self.file)
    }
}

#[starlark_value(type = "Secret")]
impl<'v> StarlarkValue<'v> for Secret {}

#[starlark_module]
fn registering(builder: &mut GlobalsBuilder) {
    /// Registers a watch.
    fn RegisterWatch<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] kwargs: DictRef<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let session = session(eval)?;
        if session.acting.load(Ordering::Relaxed) {
            return Err(ScriptError::OnlyWhileLoading("RegisterWatch()").into());
        }
        // A file registers its own watches when it is read itself, not once more for each file that loads it.
        if session.loading.get() > 0 {
            return Ok(NoneType);
        }
        let call = session.calls.get();
        session.calls.set(call.saturating_add(1));
        if let Some(wanted) = session.wanted {
            if wanted == call {
                let action = kwargs.get_str("action").or_else(|| args.items.get(1).copied());
                // The module keeps it from the garbage collector.
                eval.module().set_extra_value(action.unwrap_or_else(Value::new_none));
            }
            return Ok(NoneType);
        }
        if call as usize >= WATCHES_MAX {
            return Err(ScriptError::TooManyWatches(WATCHES_MAX).into());
        }
        let action = kwargs.get_str("action").or_else(|| args.items.get(1).copied());
        let needed = action.map(needed_arguments).unwrap_or_default();
        if !needed.is_empty() {
            return Err(ScriptError::NeedsArguments(needed.join(", ")).into());
        }
        let given = Given::of_call("RegisterWatch", fields::positional(), &args.items, &kwargs, eval)?;
        session
            .host
            .registered(given.registration(Registered::Watch, session, eval))?;
        Ok(NoneType)
    }

    /// Gives a group a limit.
    fn RegisterGroup<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] kwargs: DictRef<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let session = session(eval)?;
        if session.acting.load(Ordering::Relaxed) {
            return Err(ScriptError::OnlyWhileLoading("RegisterGroup()").into());
        }
        if session.loading.get() == 0 && session.wanted.is_none() {
            let given = Given::of_call("RegisterGroup", &group::NAMES, &args.items, &kwargs, eval)?;
            session
                .host
                .registered(given.registration(Registered::Group, session, eval))?;
        }
        Ok(NoneType)
    }

    /// A command as an action, or one of a component's: a command line for the shell, or a list of a program and its arguments. The rest is
    /// what it is to be kept from, and who a component's runs as. What its arguments may be is looked at where those of `RegisterWatch` are.
    fn Exec<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] kwargs: DictRef<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Exec> {
        let given = Given::of_call("Exec", &[calls::COMMAND], &args.items, &kwargs, eval)?;
        Ok(Exec { call: given.into() })
    }

    /// Retries as what a failure leads to. What its arguments may be is looked at where those of `RegisterWatch` are.
    fn Retry<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] kwargs: DictRef<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Retry> {
        let given = Given::of_call("Retry", &retry::NAMES[..1], &args.items, &kwargs, eval)?;
        Ok(Retry { call: given.into() })
    }

    /// How changes go out to a fleet. What its arguments may be is looked at where those of `RegisterWatch` are.
    fn Rollout<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] kwargs: DictRef<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Rollout> {
        let given = Given::of_call("Rollout", &rollout::NAMES[..1], &args.items, &kwargs, eval)?;
        Ok(Rollout { call: given.into() })
    }

    /// Some of the hosts of a fleet, for a rollout.
    fn Wave<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] kwargs: DictRef<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Wave> {
        let given = Given::of_call("Wave", &[], &args.items, &kwargs, eval)?;
        Ok(Wave { call: given.into() })
    }

    /// A value in `env` or `config` that is read from this file when a run starts.
    fn Secret(#[starlark(require = pos)] file: &str) -> starlark::Result<Secret> {
        Ok(Secret { file: file.to_owned() })
    }

    /// A component as an action. What its arguments may be is looked at where those of `RegisterWatch` are.
    fn Wasm<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] kwargs: DictRef<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Wasm> {
        let given = Given::of_call("Wasm", &[component::REF], &args.items, &kwargs, eval)?;
        Ok(Wasm { call: given.into() })
    }

    /// The installation of the bundle that the znode's data names, as an action. What its arguments may be is looked at where those of
    /// `RegisterWatch` are.
    fn Deploy<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] kwargs: DictRef<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Deploy> {
        let given = Given::of_call("Deploy", &deployment::NAMES[..1], &args.items, &kwargs, eval)?;
        Ok(Deploy { call: given.into() })
    }
}

/// The evaluation that a function is called in.
pub(super) fn session<'a>(eval: &Evaluator<'_, 'a, '_>) -> Result<&'a Session<'a>, ScriptError> {
    eval.extra
        .and_then(|extra| extra.downcast_ref::<Session<'_>>())
        .ok_or(ScriptError::NoSession)
}

/// What a function cannot be called without.
fn needed_arguments(function: Value<'_>) -> Vec<String> {
    if !function.get_type().eq("function") {
        return Vec::new();
    }
    let DocItem::Member(DocMember::Function(DocFunction { params, .. })) = function.documentation() else {
        return Vec::new();
    };
    let all = params
        .pos_only
        .into_iter()
        .chain(params.pos_or_named)
        .chain(params.named_only);
    all.filter(|one| one.default_value.is_none())
        .map(|one| one.name)
        .collect()
}

/// What the present call was given, and where that stands.
struct Given {
    /// The file of the call, unless it is the main one.
    within: Option<String>,
    call_at: u32,
    fields: Vec<Field>,
}

impl From<Given> for Arc<Call> {
    fn from(given: Given) -> Self {
        Arc::new(Call {
            within: given.within,
            at: given.call_at,
            arguments: given.fields,
        })
    }
}

impl Given {
    fn registration(self, what: Registered, session: &Session<'_>, eval: &Evaluator<'_, '_, '_>) -> Registration {
        Registration {
            what,
            within: self.within,
            call: self.call_at,
            origin: origin(session, eval),
            fields: self.fields,
        }
    }

    /// `names` are those of the arguments that can be given by position.
    fn of_call<'v>(
        function: &'static str,
        names: &[&'static str],
        args: &[Value<'v>],
        kwargs: &DictRef<'v>,
        eval: &Evaluator<'v, '_, '_>,
    ) -> Result<Self, ScriptError> {
        if args.len() > names.len() {
            return Err(ScriptError::TooManyPositional {
                function,
                most: names.len(),
                given: args.len(),
            });
        }
        let session = session(eval)?;
        let call = eval.call_stack_top_location();
        let call_at = call.as_ref().map_or(0, |call| call.span.begin().get());
        let places = call.as_ref().map(|call| places(session, call)).unwrap_or_default();
        let mut fields = Vec::with_capacity(args.len() + kwargs.len());
        for (index, (name, value)) in names.iter().zip(args).enumerate() {
            if kwargs.get_str(name).is_some() {
                return Err(ScriptError::GivenTwice { function, name });
            }
            let at = places.positional.get(index).copied().unwrap_or(call_at);
            fields.push(Field {
                name: (*name).to_owned(),
                name_at: at,
                value_at: at,
                value: convert::value(*value),
            });
        }
        for (name, value) in kwargs.iter() {
            let name = name.unpack_str().unwrap_or_default().to_owned();
            let place = places.keywords.iter().find(|(known, ..)| *known == name);
            let (name_at, value_at) = place.map_or((call_at, call_at), |(_, name_at, value_at)| (*name_at, *value_at));
            fields.push(Field {
                name,
                name_at,
                value_at,
                value: convert::value(value),
            });
        }
        let within = call
            .as_ref()
            .map(FileSpan::filename)
            .filter(|file| *file != session.main);
        Ok(Self {
            within: within.map(str::to_owned),
            call_at,
            fields,
        })
    }
}

/// Where the arguments of a call stand.
fn places(session: &Session<'_>, call: &FileSpan) -> Arc<Places> {
    let key = (call.filename().to_owned(), call.span.begin().get());
    let mut known = session.places.borrow_mut();
    let scan = || {
        let (begin, end) = (call.span.begin().get() as usize, call.span.end().get() as usize);
        Arc::new(Places::of_call(call.file.source(), begin, end))
    };
    known.entry(key).or_insert_with(scan).clone()
}

/// The place in the main file that led to the present call: a function of a loaded file may be what makes it.
fn origin(session: &Session<'_>, eval: &Evaluator<'_, '_, '_>) -> u32 {
    let calls = (0..eval.call_stack_count()).filter_map(|n| eval.call_stack_nth_location(n));
    let mut here = calls.filter(|call| call.filename() == session.main);
    here.next().map_or(0, |call| call.span.begin().get())
}
