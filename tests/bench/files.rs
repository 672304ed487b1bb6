//! From a file written to the end of the action it led to, without a server: `--tree` beside `inotifywait -m` and a shell's loop.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::program;
use crate::reacting::Actions;
use crate::table::Table;
use crate::{median, ratio};

const ROUNDS: usize = 400;
const WARM_UP: usize = 30;

/// Runs the command for each file that was closed after writing or renamed into place. It ends a while after the last event.
const LOOP: &str = r#"inotifywait -m -t 60 -e close_write,moved_to "$1" 2>&1 | while read -r dir what name; do
    case $what in
        CLOSE_WRITE* | MOVED_TO*) dd status=none of="$2" < "$dir$name" ;;
        *) echo "$dir $what $name" ;;
    esac
done"#;

/// A directory, and who acts on what happens to `f` in it.
struct Watched {
    dir: PathBuf,
    actions: Actions,
    _peer: Peer,
}

impl Watched {
    async fn by_twitcher(dir: &Path) -> Self {
        let tree = dir.join("tree");
        fs::create_dir(&tree).unwrap();
        let mut actions = Actions::new(dir.join("by-twitcher"));
        let config = dir.join("conf");
        fs::create_dir(&config).unwrap();
        let watch = format!("RegisterWatch('/f', Exec({:?}))\n", actions.program);
        fs::write(config.join("a.twc"), watch).unwrap();
        let state = tempfile::tempdir().unwrap();
        let mut daemon = Command::new(program::ours());
        daemon.args(["run", "--tree"]).arg(&tree).arg("--config").arg(config);
        daemon.arg("--state-dir").arg(state.path());
        daemon.arg("--logfile").arg(dir.join("log"));
        fs::write(tree.join("f"), "start").unwrap();
        let peer = Peer::of(&mut daemon, state);
        actions.end_of(b"start").await;
        Self {
            dir: tree,
            actions,
            _peer: peer,
        }
    }

    async fn by_shell(dir: &Path) -> Self {
        let watched = dir.join("watched");
        fs::create_dir(&watched).unwrap();
        let pipe = dir.join("by-shell");
        let actions = Actions::new(pipe.clone());
        let state = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", LOOP, "sh"]).arg(&watched).arg(pipe);
        let peer = Peer::of(&mut shell, state);
        peer.line("established");
        Self {
            dir: watched,
            actions,
            _peer: peer,
        }
    }

    async fn written(&mut self, round: usize) -> Duration {
        let data = format!("written {round}").into_bytes();
        let begin = Instant::now();
        fs::write(self.dir.join("f"), &data).unwrap();
        self.actions.end_of(&data).await - begin
    }

    async fn renamed(&mut self, round: usize) -> Duration {
        let data = format!("renamed {round}").into_bytes();
        // From elsewhere: the loop would act on a draft that is in the same directory, too.
        let draft = self.dir.with_extension("draft");
        fs::write(&draft, &data).unwrap();
        let begin = Instant::now();
        fs::rename(draft, self.dir.join("f")).unwrap();
        self.actions.end_of(&data).await - begin
    }
}

pub async fn measure(table: &mut Table) {
    if Command::new("inotifywait").arg("--help").output().is_err() {
        return eprintln!("files: left out, there is no inotifywait");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut ours = Watched::by_twitcher(dir.path()).await;
    let mut shell = Watched::by_shell(dir.path()).await;
    let mut samples = [const { Vec::new() }; 4];
    for round in 0..ROUNDS + WARM_UP {
        samples[0].push(shell.written(round).await);
        samples[1].push(ours.written(round).await);
        samples[2].push(shell.renamed(round).await);
        samples[3].push(ours.renamed(round).await);
    }
    let samples = samples.map(|samples| samples[WARM_UP..].to_vec());
    let [shell_written, written, shell_renamed, renamed] = samples.clone().map(median);
    let [by_shell, by_us, renamed_for_shell, renamed_for_us] = samples;
    table.beside(
        "a file written → `inotifywait -m` and a shell's loop, the command has exited",
        by_shell,
        "1",
    );
    table.beside(
        "a file written → Twitcher with `--tree`, its action has exited",
        by_us,
        ratio(written, shell_written),
    );
    table.beside("a file renamed into place → the loop", renamed_for_shell, "1");
    table.beside(
        "a file renamed into place → Twitcher",
        renamed_for_us,
        ratio(renamed, shell_renamed),
    );
}
