use std::path::Path;

use super::*;
use twitcher_model::{Component, Digest, EntryPoint, Grants, Keep};

fn spec(watch: &str, warm: Option<u8>) -> WarmSpec {
    let component = Component {
        file: Path::new("/x.wasm").into(),
        bundle: None,
        digest: Digest([0; 32]),
        entry: EntryPoint::Handler,
        native: Path::new("/x").into(),
        keep: Keep::default(),
    };
    let grants = Grants {
        warm,
        ..Grants::default()
    };
    WarmSpec {
        watch: watch.into(),
        action: Arc::new(WasmAction { component, grants }),
        process: Arc::default(),
    }
}

struct Scene {
    pool: WarmPool,
    now: Instant,
    next: u64,
}

impl Scene {
    fn new(budget: u64) -> Self {
        let mut pool = WarmPool::new(Arc::default());
        pool.set_budget(budget);
        let now = Instant::now();
        Self { pool, now, next: 0 }
    }

    /// Makes and ends as long as there is something to; gives for which watches, in order, and `-` for each that ended.
    fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        loop {
            match self.pool.next(self.now, true) {
                Next::Make(spec) => {
                    self.next += 1;
                    self.pool.made(RunId(self.next), &spec.watch);
                    assert!(self.pool.waits(RunId(self.next), 1 << 20, self.now));
                    done.push(spec.watch.to_string());
                }
                Next::End(number) => {
                    self.pool.leaves(number);
                    done.push("-".to_owned());
                }
                Next::Wait(_) => return done,
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

#[test]
fn one_is_kept_of_what_ran_in_the_last_ten_minutes_and_none_of_what_never_may() {
    let mut scene = Scene::new(64 << 20);
    assert_eq!(scene.settle(), [""; 0]);
    let (automatic, never) = (spec("a", None), spec("n", Some(0)));
    assert!(!can_wait(&never.action));
    scene.pool.runs(&automatic, scene.now);
    assert_eq!(scene.settle(), ["a"]);
    assert!(scene.pool.has_ready(&automatic));
    scene.pass(599);
    assert_eq!(scene.settle(), [""; 0]);
    scene.pass(1);
    assert_eq!(scene.settle(), ["-"]);
}

#[test]
fn as_many_are_kept_from_the_load_on_as_the_operator_says() {
    let mut scene = Scene::new(64 << 20);
    scene.pool.reloaded(vec![spec("a", None), spec("b", Some(3))]);
    assert_eq!(scene.settle(), ["b", "b", "b"]);
    assert_eq!(scene.pool.figures.waiting(), 3);
    let taken = scene.pool.take(&spec("b", Some(3))).unwrap();
    assert!(taken.0 > 0 && scene.pool.take(&spec("a", None)).is_none());
    assert_eq!(scene.settle(), ["b"]);
    // A load ends all, and they are made anew.
    assert_eq!(scene.pool.reloaded(vec![spec("b", Some(1))]).len(), 3);
    assert_eq!(scene.settle(), ["b"]);
    scene.pool.reloaded(vec![]);
    assert_eq!(scene.settle(), [""; 0]);
}

#[test]
fn what_is_another_by_now_is_not_handed_anything() {
    let mut scene = Scene::new(64 << 20);
    scene.pool.runs(&spec("a", None), scene.now);
    scene.settle();
    let mut other = spec("a", None);
    Arc::make_mut(&mut other.action).grants.args.push("x".to_owned());
    assert!(scene.pool.take(&other).is_none());
    let stale = scene.pool.runs(&other, scene.now);
    assert_eq!(stale, [RunId(1)]);
    assert_eq!(scene.settle(), ["a"]);
    assert_eq!(scene.pool.take(&other), Some(RunId(2)));
}

#[test]
fn memory_is_bounded_and_what_has_not_run_for_long_gives_way() {
    let mut scene = Scene::new(3 << 20);
    for watch in ["a", "b", "c"] {
        scene.pool.runs(&spec(watch, None), scene.now);
        scene.pass(1);
        scene.settle();
    }
    // One that was looked at holds 1 MiB; a third is thought to hold 2.
    assert_eq!(scene.pool.len(), 2);
    scene.pass(60);
    scene.pool.runs(&spec("c", None), scene.now);
    // By then it is known that all three fit.
    assert_eq!(scene.settle(), ["-", "c", "a"]);
    assert!(scene.pool.has_ready(&spec("c", None)));
    assert_eq!(scene.pool.figures.held(), 3 << 20);
}

#[test]
fn one_that_holds_more_than_there_is_does_not_stay() {
    let mut scene = Scene::new(3 << 20);
    scene.pool.runs(&spec("a", None), scene.now);
    let Next::Make(_) = scene.pool.next(scene.now, true) else {
        panic!()
    };
    scene.pool.made(RunId(1), &"a".into());
    assert!(!scene.pool.waits(RunId(1), 4 << 20, scene.now));
    assert_eq!((scene.pool.len(), scene.settle()), (0, vec![]));
}

#[test]
fn one_that_ends_by_itself_is_replaced_ever_later_and_that_is_said_once() {
    let mut scene = Scene::new(64 << 20);
    let a = spec("a", Some(1));
    scene.pool.reloaded(vec![a.clone()]);
    let mut said = 0;
    for round in 0..4 {
        scene.settle();
        said += usize::from(scene.pool.failed(RunId(scene.next), scene.now).is_some());
        let Next::Wait(Some(at)) = scene.pool.next(scene.now, true) else {
            panic!()
        };
        assert_eq!(at - scene.now, Duration::from_secs(1 << round));
        scene.now = at;
    }
    assert_eq!((said, scene.pool.figures.ended()), (1, 4));
    scene.settle();
    assert!(scene.pool.take(&a).is_some());
    scene.pool.was_ready(&a);
    scene.settle();
    assert!(
        scene.pool.failed(RunId(scene.next), scene.now).is_some(),
        "it was of use in between"
    );
}

#[test]
fn runs_come_first_and_a_shortage_ends_all() {
    let mut scene = Scene::new(64 << 20);
    scene.pool.runs(&spec("a", None), scene.now);
    assert!(matches!(scene.pool.next(scene.now, false), Next::Wait(Some(at)) if at == scene.now + QUIET));
    scene.settle();
    assert_eq!(scene.pool.short(scene.now), [RunId(1)]);
    assert!(matches!(scene.pool.next(scene.now, true), Next::Wait(Some(_))));
    scene.pass(60);
    assert_eq!(scene.settle(), ["a"]);
}
