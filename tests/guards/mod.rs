//! What keeps an action from running, or from being looked into: states that lost too much, and values that nobody is shown.

mod secrets;
mod shrinking;
