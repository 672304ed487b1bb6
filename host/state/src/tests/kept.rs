use super::*;

fn running(run: u64, event: Option<Trigger>) -> StartedRun {
    StartedRun {
        run: RunId(run),
        watch: "a".into(),
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        attempt: 4,
        event: event.map(Into::into),
    }
}

#[test]
fn everything_is_there_for_the_next_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let (state, newest) = open(dir.path());
    assert_eq!(newest, None);
    let parked = Parked {
        definition: u64::MAX,
        why: "it failed".into(),
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    };
    state.handled(&watch("a"), handled(7));
    state.parked(&watch("a"), Some(parked.clone()));
    state.handled(&watch("b"), handled(8));
    state.parked(&watch("b"), Some(parked.clone()));
    state.parked(&watch("b"), None);
    state.parked(&watch("never parked"), None);
    let paused = Paused {
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_001),
        by: Some("alice as root".into()),
        reason: Some("until the release is out".into()),
    };
    state.paused(&watch("a"), Some(paused.clone()));
    state.refused(&watch("a"), Some(paused.at));
    state.paused(&watch("b"), Some(paused.clone()));
    state.paused(&watch("b"), None);
    state.paused(&watch("never parked"), None);
    state.took_names("/etc/twitcher/a.twc".into(), Some(["a".into(), "b".into()].into()));
    state.took_names("/etc/twitcher/gone.twc".into(), Some(["c".into()].into()));
    state.took_names("/etc/twitcher/gone.twc".into(), None);
    for run in 1..=3 {
        state.started(running(run, Some(Trigger::Created)));
    }
    state.ended(ended(3, "a"));
    state.started(running(4, None));
    state.forget(RunId(4));
    state.close();

    // The journal says that the first still goes on.
    let (state, newest) = StateStore::open(dir.path(), HistoryLimits::default(), vec![running(1, None)]);
    let former = state.take_former_run("a").unwrap();
    assert_eq!(former.run, RunId(3));
    assert_eq!((former.outcome, &*former.words), ("exited", "exit code 3"));
    assert_eq!(
        state.take_former_run("a"),
        None,
        "that of the daemon that asks comes next"
    );
    assert_eq!(state.take_former_run("b"), None);
    let a = state.known(&watch("a")).unwrap();
    assert_eq!((a.handled, a.parked), (Some(handled(7)), Some(parked)));
    assert_eq!((a.refused, a.paused.clone()), (Some(paused.at), Some(paused)));
    let names: WatchNames = ["a".into(), "b".into()].into();
    assert_eq!(state.names(), [("/etc/twitcher/a.twc".into(), names)].into());
    assert_eq!(state.known(&watch("b")).unwrap().parked, None);
    assert_eq!(state.known(&watch("b")).unwrap().paused, None);
    assert_eq!(state.known(&watch("never parked")), None);
    let moved = Watch {
        znode: ZnodePath::root(),
        ..watch("a")
    };
    assert_eq!(state.known(&moved), None, "another node");
    assert_eq!(newest, Some(RunId(3)));

    // Nobody saw how the other one ended; nobody will see it of the first.
    assert!(state.vanished(RunId(1)) && !state.vanished(RunId(1)));
    let history = state.history();
    state.close();
    let runs = history.of_watch("a", 10).unwrap();
    let shown: Vec<_> = runs.iter().map(|run| (run.run.0, &*run.outcome)).collect();
    assert_eq!(shown, [(3, "exited"), (2, "unknown"), (1, "unknown")]);
    // What was written down at its start is in the history also of the one that a daemon found.
    for run in &runs[1..] {
        assert_eq!((run.event.as_deref(), run.attempt), (Some("created"), 4));
    }
}

#[test]
fn a_run_that_only_the_journal_has_becomes_history_when_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    // For two daemons it goes on; its history begins once.
    for _ in 0..2 {
        let (state, newest) = StateStore::open(dir.path(), HistoryLimits::default(), vec![running(9, None)]);
        assert_eq!(newest.filter(|newest| *newest != RunId(9)), None);
        assert_eq!(state.history().newest(10).unwrap(), []);
        state.close();
    }
    let (state, _) = open(dir.path());
    let history = state.history();
    state.close();
    let runs = history.newest(10).unwrap();
    let shown: Vec<_> = runs.iter().map(|run| (run.run.0, &*run.outcome)).collect();
    assert_eq!(shown, [(9, "unknown")]);
}

#[test]
fn the_history_is_told_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path());
    state.ended(ended(1, "a"));
    let terminated = EndedRun {
        outcome: Some(Outcome::Signaled { signal: 9, core: false }),
        output_tail: Vec::new(),
        ..ended(2, "b")
    };
    state.ended(terminated);
    let long = EndedRun {
        outcome: Some(Outcome::LaunchFailed {
            step: "ü".repeat(5000),
            errno: 2,
        }),
        ..ended(3, "a")
    };
    state.ended(long);
    let history = state.history();
    state.close();
    let newest = history.newest(10).unwrap();
    assert_eq!(newest.iter().map(|run| run.run.0).collect::<Vec<_>>(), [3, 2, 1]);
    assert!(newest[0].words.len() <= 1024 && newest[0].words.starts_with("cannot ü"));
    assert_eq!(
        (&*newest[1].words, newest[1].signal, newest[1].exit_code),
        ("killed by SIGKILL", Some(9), None)
    );
    let first = history.run(RunId(1)).unwrap().unwrap();
    assert_eq!(first, newest[2]);
    let model = ended(1, "a");
    assert_eq!((&*first.watch, first.attempt, first.exit_code), ("a", 2, Some(3)));
    assert_eq!(
        (first.started, first.ended, first.elapsed),
        (model.started, model.ended, model.elapsed)
    );
    assert_eq!(
        (first.max_rss_kib, first.output_bytes, first.log_ended),
        (2000, 70_000, true)
    );
    assert_eq!(history.output(RunId(1)).unwrap(), model.output_tail);
    assert!(history.output(RunId(2)).unwrap().is_empty());
    assert_eq!(history.run(RunId(77)).unwrap(), None);
    assert_eq!(history.of_watch("a", 1).unwrap().len(), 1);
}

#[test]
fn the_history_is_bounded_in_every_way() {
    let limits = |runs, runs_per_watch, bytes| HistoryLimits {
        runs,
        runs_per_watch,
        bytes,
    };
    let large = EndedRun {
        output_tail: vec![b'x'; 10_000],
        ..ended(0, "")
    };
    for (what, limits, most) in [
        ("runs of a watch", limits(1_000_000, 80, u64::MAX), 2 * 90),
        ("runs", limits(80, 1_000_000, u64::MAX), 90),
        ("bytes", limits(1_000_000, 1_000_000, 500_000), 57),
    ] {
        let dir = tempfile::tempdir().unwrap();
        // Over several daemons, so that what is there is counted, too.
        for daemon in 0..4 {
            let (state, _) = StateStore::open(dir.path(), limits, Vec::new());
            for run in 0..250 {
                let (run, watch) = (RunId(daemon * 250 + run + 1), if run % 2 == 0 { "a" } else { "b" });
                state.ended(EndedRun {
                    run,
                    watch: watch.into(),
                    ..large.clone()
                });
            }
            let history = state.history();
            state.close();
            let left = history.newest(10_000).unwrap();
            assert_eq!(left[0].run.0, (daemon + 1) * 250, "{what}: the newest is there");
            assert!(
                left.len() <= most && left.len() >= most / 2,
                "{what}: {} left",
                left.len()
            );
            let connection = database::read_only(&dir.path().join(database::FILE)).unwrap();
            let outputs: u32 = connection
                .query_row("SELECT count(*) FROM output", [], |row| row.get(0))
                .unwrap();
            assert_eq!(outputs as usize, left.len(), "{what}: output stays with its run");
        }
    }
}

#[test]
fn what_waits_to_be_written_is_bounded_but_positions_are_not_dropped() {
    let mut book = Memory::default();
    for run in 0..20_000 {
        book.change(&watch(&format!("w{}", run % 100)), |known| {
            known.handled = Some(handled(run as i64))
        });
        book.ended(EndedRun {
            output_tail: vec![0; 64 * 1024],
            ..ended(run, "a")
        });
    }
    let batch = book.take(false);
    assert!(batch.ended.len() <= 256, "{} runs of 64 KiB wait", batch.ended.len());
    assert_eq!(batch.dropped + batch.ended.len() as u64, 20_000);
    assert_eq!(batch.watches.len(), 100);
    assert_eq!(batch.ended.last().unwrap().run, RunId(19_999));
    assert!(!book.has_news());
}

#[test]
fn what_could_not_be_written_is_all_written_next_time() {
    let mut book = Memory::default();
    book.change(&watch("a"), |known| known.handled = Some(handled(1)));
    book.started(running(1, None));
    book.started(running(2, None));
    book.take(false);
    book.started(running(3, None));
    book.ended(ended(1, "a"));
    let batch = book.take(false);
    assert_eq!((batch.gone.clone(), batch.started.len()), (vec![RunId(1)], 1));
    book.give_back(batch);
    book.ended(ended(2, "a"));
    let batch = book.take(true);
    assert!(batch.anew);
    assert_eq!(batch.watches.len(), 1);
    assert_eq!(batch.started.iter().map(|run| run.run.0).collect::<Vec<_>>(), [3]);
    assert_eq!(batch.ended.iter().map(|run| run.run.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(batch.gone, []);
}

#[test]
fn history_is_found_by_watch_by_outcome_and_page_by_page_and_what_just_ended_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path());
    for run in 1..=6 {
        let outcome = (run != 4).then_some(Outcome::Exited((run % 2) as i32));
        state.ended(EndedRun {
            outcome,
            ..ended(run, if run < 3 { "a" } else { "b" })
        });
    }
    let history = state.history();
    history.catch_up();
    let find = |watch: Option<&str>, outcome: Option<&str>, before: Option<u64>, limit| {
        let query = RunQuery {
            watch: watch.map(str::to_owned),
            outcome: outcome.map(str::to_owned),
            before: before.map(RunId),
            limit,
        };
        history
            .find(&query)
            .unwrap()
            .iter()
            .map(|record| record.run.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(find(None, None, None, 100), [6, 5, 4, 3, 2, 1]);
    assert_eq!(find(None, None, None, 2), [6, 5]);
    assert_eq!(find(None, None, Some(5), 2), [4, 3]);
    assert_eq!(find(Some("a"), None, None, 100), [2, 1]);
    assert_eq!(find(None, Some("success"), None, 100), [6, 2]);
    assert_eq!(find(Some("b"), Some("exited"), Some(5), 100), [3]);
    assert_eq!(find(None, Some("unknown"), None, 100), [4]);
    assert_eq!(find(Some("' OR 1 --"), None, None, 100), [0; 0]);
}

#[test]
fn of_removed_watches_only_the_last_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path());
    for (age, name) in ["older", "in force", "old", "new"].into_iter().enumerate() {
        let at = handled(1).at + Duration::from_secs(age as u64);
        state.handled(&watch(name), Handled { at, ..handled(1) });
    }
    // Some are on the disk already, and have to go from there.
    until("they are stored", || stored(dir.path(), "new").is_some());
    state.book().forget_removed(|name| name == "in force", 1);
    state.loaded(|_| true);
    state.close();
    let (state, _) = open(dir.path());
    let known = |name| state.known(&watch(name)).is_some();
    assert!(known("in force") && known("new"));
    assert!(!known("old") && !known("older"));
}
