//! The judge of what actions are told with `payload=JSON`: whether that is what there is, and whether what they are told to have changed adds
//! up from one run to the next. Pure, as the rest of the oracle.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::journal::{Line, Start, starts};
use super::oracle::Final;
use super::watches::{File, Mode, Node as Kind, Watch};

/// So many runs of a watch are looked at, the last ones: all journals are judged after each episode.
const WINDOW: usize = 300;

/// What an action was told.
#[derive(Debug, Deserialize)]
pub struct Document {
    since: Option<String>,
    #[serde(flatten)]
    one: Part,
    znodes: Option<Vec<Part>>,
}

/// Of a znode.
#[derive(Debug, Deserialize)]
struct Part {
    znode: String,
    stat: Option<Stat>,
    data: Option<String>,
    nodes: Option<BTreeMap<String, Node>>,
    changed: Option<BTreeMap<String, String>>,
    has_changed: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Stat {
    czxid: i64,
    mzxid: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Node {
    stat: Stat,
    /// None of one that cannot be read.
    data: Option<String>,
}

/// The nodes of a znode that are shown, by their paths.
type Nodes = BTreeMap<String, Node>;

impl Document {
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("a document that is none ({error}): {text:?}"))
    }

    fn parts(&self) -> &[Part] {
        self.znodes.as_deref().unwrap_or(std::slice::from_ref(&self.one))
    }

    /// All of what it shows, but for what it says to have changed.
    fn state(&self) -> Vec<Nodes> {
        self.parts().iter().map(Part::state).collect()
    }
}

impl Part {
    fn state(&self) -> Nodes {
        match (&self.nodes, self.stat) {
            (Some(nodes), _) => nodes.clone(),
            (None, Some(stat)) => {
                let data = self.data.clone();
                Nodes::from([(self.znode.clone(), Node { stat, data })])
            }
            (None, None) => Nodes::new(),
        }
    }
}

/// Whether two documents show the same.
pub fn same(one: &str, other: &str) -> bool {
    match (Document::parse(one), Document::parse(other)) {
        (Ok(one), Ok(other)) => one.state() == other.state(),
        _ => false,
    }
}

/// (a) Whether a document shows all of a state; if not, what it should.
pub fn shows(watch: &Watch, state: &Final, text: &str) -> Result<(), String> {
    let document = Document::parse(text)?;
    let single = [(watch.znode(), state.clone())];
    let wanted = match state {
        Final::Several(all) => &all[..],
        _ => &single,
    };
    let known = |nodes: Nodes| -> BTreeMap<String, (i64, Option<String>)> {
        let known = |(path, node): (String, Node)| (path, (node.stat.mzxid, node.data));
        nodes.into_iter().map(known).collect()
    };
    let is_all = document.parts().len() == wanted.len();
    for (part, (znode, state)) in document.parts().iter().zip(wanted) {
        let state: BTreeMap<String, (i64, Option<String>)> = match state {
            Final::Data { mzxid, data } => [(znode.clone(), (*mzxid, Some(data.clone())))].into(),
            Final::Tree(nodes) => {
                let node = |node: &super::oracle::Below| (node.path.clone(), (node.mzxid, Some(node.data.clone())));
                nodes.iter().map(node).collect()
            }
            _ => BTreeMap::new(),
        };
        let shown = known(part.state());
        if part.znode != *znode || shown != state {
            return Err(format!(
                "{znode} shown with {state:?}, not {} with {shown:?}",
                part.znode
            ));
        }
    }
    match is_all {
        true => Ok(()),
        false => Err(format!("{} znodes shown, not {}", wanted.len(), document.parts().len())),
    }
}

/// What happened to nodes between two documents. Of what one of them could not read it is not said whether its data is other data.
fn changes(before: &Nodes, now: &Nodes) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (path, node) in now {
        let change = match before.get(path) {
            None => "created",
            Some(old) if old.stat.czxid != node.stat.czxid => "created",
            Some(old) if old.stat.mzxid != node.stat.mzxid => "set",
            Some(old) if old.data.is_some() && node.data.is_some() && old.data != node.data => "set",
            Some(_) => continue,
        };
        all.insert(path.clone(), change.to_owned());
    }
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    all.extend(gone.map(|path| (path.clone(), "deleted".to_owned())));
    all
}

/// What a document says wrongly to have changed since the other.
fn miscounted(before: Option<&Document>, now: &Document) -> Option<String> {
    for (at, part) in now.parts().iter().enumerate() {
        let old = before.and_then(|before| before.parts().get(at)).map(Part::state);
        let is = changes(&old.clone().unwrap_or_default(), &part.state());
        let unread = |nodes: &Nodes, path: &str| nodes.get(path).is_some_and(|node| node.data.is_none());
        let is_open = |path: &String| old.iter().chain([&part.state()]).any(|nodes| unread(nodes, path));
        if let Some(said) = &part.changed {
            let said: BTreeMap<_, _> = said
                .iter()
                .filter(|(path, _)| is.contains_key(*path) || !is_open(path))
                .collect();
            if said != is.iter().collect() {
                return Some(format!("of {} it says {said:?}, and it is {is:?}", part.znode));
            }
        }
        if let Some(said) = part.has_changed
            && said != (old.is_none() || !is.is_empty())
            && !part.state().keys().any(is_open)
        {
            return Some(format!("of {} it says {said}, and it is {is:?}", part.znode));
        }
    }
    None
}

struct Run<'a> {
    start: &'a Start,
    document: Document,
    ended: bool,
    failed: bool,
}

/// (g) Whether what runs are told to have changed is what differs from what an earlier run was told, and from which: the last that succeeded
/// for the same daemon.
pub fn adds_up(watch: &Watch, lines: &[Line]) -> Vec<String> {
    let skipped = starts(lines).count().saturating_sub(WINDOW);
    let mut seen = 0;
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut found = Vec::new();
    for line in lines {
        match line {
            Line::End { run, .. } | Line::Failed { run, .. } => {
                if let Some(run) = known.get(&**run).and_then(|at| runs.get_mut(*at)) {
                    match line {
                        Line::End { .. } => run.ended = true,
                        _ => run.failed = true,
                    }
                }
            }
            Line::Start(start) => {
                seen += 1;
                if seen <= skipped {
                    continue;
                }
                let document = match Document::parse(&start.stdin) {
                    Ok(document) => document,
                    Err(error) => {
                        found.push(format!("{}: run {}: {error}", watch.name, start.run));
                        continue;
                    }
                };
                if let Some(wrong) = misplaced(watch, start, &document, &runs, skipped > 0) {
                    found.push(format!("{}: run {}: {wrong}", watch.name, start.run));
                } else {
                    let before = document.since.as_deref().and_then(|since| known.get(since));
                    // One that is out of sight is believed.
                    if before.is_some() || document.since.is_none() {
                        let wrong = miscounted(before.map(|at| &runs[*at].document), &document);
                        found.extend(wrong.map(|wrong| format!("{}: run {}: {wrong}", watch.name, start.run)));
                    }
                }
                known.insert(&start.run, runs.len());
                runs.push(Run {
                    start,
                    document,
                    ended: false,
                    failed: false,
                });
            }
            _ => {}
        }
    }
    found
}

/// (g) The same for a program that stays and is told of one state after the other in the same run.
pub fn told_adds_up(watch: &Watch, lines: &[Line]) -> Vec<String> {
    let mut last: Option<(&str, Document)> = None;
    let mut found = Vec::new();
    for line in lines {
        let (run, text, is_told) = match line {
            Line::Start(start) => (&*start.run, &*start.stdin, false),
            Line::Told { run, data, .. } => (&**run, &**data, true),
            _ => continue,
        };
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(error) => {
                found.push(format!("{}: run {run}: {error}", watch.name));
                continue;
            }
        };
        // Another daemon knows of nothing before. What comes later has been up for what came before.
        let before = match (&last, document.since.as_deref()) {
            (Some((before, known)), Some(since)) if is_told && *before == run && since == run => Some(Some(known)),
            (_, None) => Some(None),
            _ => None,
        };
        let wrong = before.and_then(|before| miscounted(before, &document));
        found.extend(wrong.map(|wrong| format!("{}: run {run}: {wrong}", watch.name)));
        last = Some((run, document));
    }
    found
}

/// Whether the same daemon started both. A run whose daemon is killed at that moment has another parent by the time it looks; but a daemon numbers
/// its runs from the time on at which it began, in the last four digits.
fn is_of_same(one: &Start, other: &Start) -> bool {
    let began = |run: &str| {
        run.len()
            .checked_sub(4)
            .and_then(|end| run.get(..end))
            .map(str::to_owned)
    };
    one.parent == other.parent || began(&one.run).is_some_and(|first| Some(first) == began(&other.run))
}

/// What is wrong with the run that a document counts from.
fn misplaced(watch: &Watch, start: &Start, document: &Document, runs: &[Run<'_>], is_cut: bool) -> Option<String> {
    let mut earlier = runs.iter().rev().filter(|run| is_of_same(run.start, start));
    let succeeded = earlier.find(|run| run.ended && !run.failed);
    // Elsewhere what has ended well may have been terminated all the same, and a reload begins anew.
    let is_certain = watch.mode == Mode::Queue && watch.file == File::Steady;
    let Some(since) = document.since.as_deref() else {
        let succeeded = succeeded.filter(|_| is_certain)?;
        return Some(format!(
            "everything is new to it, though run {} succeeded",
            succeeded.start.run
        ));
    };
    let Some(from) = runs.iter().find(|run| run.start.run == since) else {
        return (!is_cut).then(|| format!("it counts from run {since}, which never was"));
    };
    if !is_of_same(from.start, start) {
        Some(format!("it counts from run {since}, which another daemon started"))
    } else if from.failed || !from.ended {
        Some(format!("it counts from run {since}, which did not succeed"))
    } else {
        let last = succeeded.filter(|last| is_certain && last.start.run != since)?;
        let last = &last.start.run;
        Some(format!("it counts from run {since}, though run {last} succeeded"))
    }
}

/// Two runs for one change, and runs for an older state of a node after one for a newer, by the same daemon. `anew`: from when to when servers
/// began to count from the beginning.
pub fn out_of_order(watch: &Watch, lines: &[Line], anew: &[(u64, u64)]) -> Vec<String> {
    let documents = starts(lines).rev().take(WINDOW);
    let mut documents: Vec<(&Start, Vec<Nodes>)> = documents
        .filter_map(|start| Some((start, Document::parse(&start.stdin).ok()?.state())))
        .collect();
    documents.reverse();
    let mut found = Vec::new();
    let mut handled = HashSet::new();
    for (start, state) in &documents {
        let is_change = start.attempt == 1 && matches!(&*start.event, "data" | "created");
        // That what was made goes away again is what was there before.
        let is_whole = watch.node == Kind::Data && state.iter().all(|nodes| !nodes.is_empty());
        if is_change && is_whole && !handled.insert(format!("{state:?}")) {
            found.push(format!("{}: two runs for one state: {start:?}", watch.name));
        }
    }
    for pair in documents.windows(2) {
        let [(before, old), (after, new)] = pair else { continue };
        let began_anew = anew.iter().any(|(from, to)| *from <= after.at && before.at <= *to);
        if before.parent != after.parent || began_anew {
            continue;
        }
        for (path, node) in new.iter().flatten() {
            let older = old.iter().filter_map(|nodes| nodes.get(path)).any(|known| {
                known.stat.czxid == node.stat.czxid && known.stat.mzxid > node.stat.mzxid
                    || known.stat.czxid > node.stat.czxid
            });
            if older {
                found.push(format!(
                    "{}: {path} as it was before: {after:?} after {before:?}",
                    watch.name
                ));
            }
        }
    }
    found
}
