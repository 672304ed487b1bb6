//! Why a value does not fit a field.
//!
//! This module must not know which fields there are, nor where a value stands in a file.

use std::fmt::Display;

use twitcher_model::grant_syntax::GrantSyntaxError;

/// Why a value does not fit a field: the end of a sentence that begins with the field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Mismatch {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn expected(what: &str, got: impl Display) -> Self {
        Self::new(format!("must be {what}, not {got}"))
    }

    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// What a form says of a value that it does not take. What was expected, and for what, is for those around it to add.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The value is not what is expected.
    Unfit {
        /// What it is instead, where its kind would not say enough.
        got: Option<String>,
        hint: Option<String>,
    },
    /// The value is wrong in a way that has a message of its own.
    Wrong(Mismatch),
}

impl Refusal {
    pub(crate) const UNFIT: Self = Self::Unfit { got: None, hint: None };

    pub(crate) fn unfit(got: impl Into<String>) -> Self {
        Self::Unfit {
            got: Some(got.into()),
            hint: None,
        }
    }

    pub(crate) fn wrong(message: impl Into<String>) -> Self {
        Self::Wrong(Mismatch::new(message))
    }

    /// The whole of what is wrong with `value`. `sentence` makes the message from what the value is instead.
    pub(crate) fn told(self, value: impl Display, sentence: impl FnOnce(String) -> String) -> Mismatch {
        match self {
            Self::Wrong(mismatch) => mismatch,
            Self::Unfit { got, hint } => Mismatch::new(sentence(got.unwrap_or_else(|| value.to_string()))).hint(hint),
        }
    }
}

impl From<Mismatch> for Refusal {
    fn from(mismatch: Mismatch) -> Self {
        Self::Wrong(mismatch)
    }
}

impl From<GrantSyntaxError> for Refusal {
    fn from(error: GrantSyntaxError) -> Self {
        let GrantSyntaxError { message, hint } = error;
        Self::Wrong(Mismatch { message, hint })
    }
}
