//! Starting, supervising and reaping the processes of actions.
