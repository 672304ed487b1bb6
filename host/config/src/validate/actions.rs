//! What a watch runs, and what its failure leads to: the values that are calls of their own, with errors at their own places.

use std::sync::Arc;

use super::{Ask, Builder};
use crate::accounts::{AccountProblem, Accounts, Who};
use crate::error::SourceText;
use crate::fields::calls::{ActionSpec, FailureSpec};
use crate::fields::component::{self, Written};
use crate::fields::mismatch::Mismatch;
use crate::fields::retry;
use crate::interner::intern;
use crate::value::{Call, Registration, quoted};
use twitcher_model::{Action, FunctionAction, Grants, OnFailure, Program, Retry, WasmAction};

/// Most errors that are told of one component.
const LINES_MAX: usize = 20;

/// A component that a watch's action names, before anybody has looked for it.
pub(super) struct WantedComponent {
    pub(super) call: Arc<Call>,
    pub(super) ask: Ask,
    pub(super) users: Users,
}

/// Who commands of a component run as that are not run as the watch's user, each with the name of the command.
pub(crate) type Users = Arc<[(String, Who)]>;

/// Gives the commands the identities that the user database has for them, and says whether any is new; or whose there is not.
pub(crate) fn set_users(
    grants: &mut Grants,
    users: &[(String, Who)],
    accounts: &mut Accounts,
) -> Result<bool, (String, AccountProblem)> {
    let mut is_new = false;
    for (name, who) in users {
        let identity = accounts.resolve(who).map_err(|problem| (name.clone(), problem))?;
        // What a bundle does not request is not among them.
        for command in grants.commands.iter_mut().filter(|command| command.name == *name) {
            is_new |= command.identity.as_ref() != Some(&identity);
            command.identity = Some(identity.clone());
        }
    }
    Ok(is_new)
}

impl Builder<'_, '_> {
    /// Any action but a component or a deployment.
    pub(super) fn action(&mut self, action: ActionSpec, index: usize) -> Option<Action> {
        Some(match action {
            ActionSpec::Shell(line, _) => Action::Shell(intern(&mut self.around.interner.shells, line)),
            ActionSpec::Argv(argv, _) => Action::Argv(intern(&mut self.around.interner.argvs, argv)),
            ActionSpec::Component(_) | ActionSpec::Deploy(_) => return None,
            ActionSpec::Function => {
                let parsed = self.parsed;
                let program = self.program.get_or_insert_with(|| {
                    let pair = |load: &SourceText| (load.file.clone(), load.text.clone());
                    Arc::new(Program {
                        file: parsed.source.file.clone(),
                        source: parsed.source.text.clone(),
                        loads: parsed.loads.iter().map(pair).collect(),
                    })
                });
                Action::Function(FunctionAction {
                    program: program.clone(),
                    call: u32::try_from(index).ok()?,
                })
            }
        })
    }

    /// Reads every argument of a watch's component, if that is its action, and says of each what is wrong with it.
    pub(super) fn component(
        &mut self,
        registration: &Registration,
        action: Option<&ActionSpec>,
        refused: &mut bool,
    ) -> Option<WantedComponent> {
        let Some(ActionSpec::Component(call)) = action else {
            return None;
        };
        match component::read(call) {
            Ok(written) => {
                let Written {
                    reference,
                    mut grants,
                    users,
                    commands_at,
                } = written;
                if let Err((name, AccountProblem { message, hint, .. })) =
                    set_users(&mut grants, &users, self.around.accounts)
                {
                    let message = format!("commands for {}: {message}", quoted(&name));
                    self.call_error(registration, call, commands_at, message, hint);
                    *refused = true;
                    return None;
                }
                Some(WantedComponent {
                    call: call.clone(),
                    ask: Ask {
                        wanted: reference.meant_in(&self.place(call.within.as_deref()).file),
                        grants,
                    },
                    users: users.into(),
                })
            }
            Err(faults) => {
                for (at, Mismatch { message, hint }) in faults {
                    self.call_error(registration, call, at, message, hint);
                }
                *refused = true;
                None
            }
        }
    }

    /// What a failed run leads to. Says of each argument of a `Retry(…)` what is wrong with it.
    pub(super) fn failure(
        &mut self,
        registration: &Registration,
        spec: &FailureSpec,
        refused: &mut bool,
    ) -> (Option<Retry>, OnFailure) {
        let call = match spec {
            FailureSpec::Plain(on_failure) => return (None, *on_failure),
            FailureSpec::Retry(call) => call,
        };
        match retry::read(call) {
            Ok((retry, then)) => (Some(retry), then),
            Err(faults) => {
                for (at, Mismatch { message, hint }) in faults {
                    self.call_error(registration, call, at, message, hint);
                }
                *refused = true;
                (None, OnFailure::Keep)
            }
        }
    }

    /// The component itself; none if it cannot be used, and then the errors say why.
    pub(super) fn resolved(&mut self, registration: &Registration, call: &Call, ask: &Ask) -> Option<Arc<WasmAction>> {
        match self.around.components.resolve(&ask.wanted, &ask.grants) {
            Ok((action, notes)) => {
                for note in &*notes {
                    let place = self.place(call.within.as_deref());
                    let note = place.error(call.at as usize, format!("{}: {note}", ask.wanted));
                    if !self.around.notes.contains(&note) {
                        self.around.notes.push(note);
                    }
                }
                Some(action)
            }
            Err(lines) => {
                for line in lines.into_iter().take(LINES_MAX) {
                    self.call_error(registration, call, call.at, format!("{}: {line}", ask.wanted), None);
                }
                None
            }
        }
    }

    /// Notes an error in a call that made a value of a registration.
    pub(super) fn call_error(
        &mut self,
        registration: &Registration,
        call: &Call,
        at: u32,
        message: String,
        hint: Option<String>,
    ) {
        let place = self.place(call.within.as_deref());
        let used = call.within.is_some().then_some(("used at", registration.origin));
        self.error_in(place, at, message, hint, used);
    }
}
