//! What is found in texts that are Python, and that nothing is found in those that are not.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn found(text: &str) -> Vec<ConfigError> {
    findings(&SourceText::new(Path::new("a.twc").into(), text.into()))
}

/// Line, column and message of each.
fn told(text: &str) -> String {
    let line = |error: &ConfigError| {
        let position = error
            .position
            .map_or_else(String::new, |at| format!("{}:{}: ", at.line, at.column));
        format!(
            "{position}{}\n    {}\n",
            error.message,
            error.hint.as_deref().unwrap_or_default()
        )
    };
    found(text).iter().map(line).collect()
}

#[test]
fn starlark_is_not_taken_for_python() {
    let text = r#"
load("lib.twc", "helper")
x = 0o755
def f(a, *args, **kwargs):
    """import os
    global x
    """
    # try: import os
    global_name, is_up, printer = 1, True, print
    g = lambda y: y + 1
    print("from x import y", 'with open("f") as f')
    if is_up and a == None:
        return {k: v for k, v in kwargs.items()}
    out = open("/tmp/x", "w")
    out.write("a" + 'b' + r'c\d' + "%s %d" % (1, 2))
    run(["date"], check = True).stdout.strip()
    for i in range(10):
        if i not in [1, 2]: break
    d = dict(time = 5, sum = 2, text = json.encode(json.decode("1")))
    return f(*args, **kwargs) if d else [z for z in (1, 2)]
RegisterWatch("/a", f, run_mode = QUEUE, timeout = 5)
RegisterWatch("/b", lambda: helper(1), notify_signal = SIGUSR1)
"#;
    assert_eq!(told(text), "");
}

#[test]
fn every_statement_is_found_where_it_stands() {
    let text = "\
import os, sys
from time import sleep, strftime as s
import mine.tools
if x: import os.path
def f():
    global x
    try:
        pass
    except ValueError, e:
        raise
    finally:
        pass
    with open('x') as g:
        while True:
            assert x is not None
            del y[0]
    print 'a', 1
    print >>sys.stderr, 'b'
    yield 1
class A(object): pass
@decorated
def g(): nonlocal z
";
    insta::assert_snapshot!(told(text));
}

#[test]
fn uses_of_modules_are_explained_one_by_one() {
    let text = "\
import os
import urllib2 as web
import signal
os.system('x'); y = os.path.join(a, b)
if os.path.exists('/x'):
    web.urlopen(url).read()
RegisterWatch('/a', Exec('x'), notify_signal=signal.SIGUSR1)
logging.info('not even imported')
os.frobnicate()
a.os.system
";
    insta::assert_snapshot!(told(text));
}

#[test]
fn words_that_only_look_alike_are_found_too() {
    let text = "\
x = 0755 + 10L
a = b = u'text'
y = 'one' \"two\"
z = x ** 2
if x <> y: pass
total = sum(n for n in xs)
if isinstance(x, str) and __name__ == '__main__': xrange(3)
w = `x`
if x:
\ty = 1
";
    insta::assert_snapshot!(told(text));
}

#[test]
fn a_file_with_names_of_its_own_keeps_them() {
    assert_eq!(
        told("time = struct(sleep = 1)\ntime.sleep\ndef round(x): return x\nround(2)\n"),
        ""
    );
}

#[test]
fn there_is_an_end_to_what_is_told() {
    let all = found(&"import os\n".repeat(10_000));
    assert_eq!(all.len(), FINDINGS_MAX + 1);
    insta::assert_snapshot!(all[FINDINGS_MAX]);
}

#[test]
fn texts_that_end_anywhere_do_no_harm() {
    let text = "import os as x\nfrom a import (b,\n c)\nprint >>\nx = '''a\n'b' \"c\\\n0777L ** <> ` @ü\tü";
    for (end, _) in text.char_indices() {
        found(&text[..end]);
    }
    // Looking for a string's end again and again, or copying, would take minutes.
    for piece in ["'", "\"\"\"", "(", "os.path.", "import ", "x=", "ü", "\\\n", "\t"] {
        found(&piece.repeat(100_000));
    }
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC*|([a-z'\"\\\\#()\\[\\]=.`@ \t\n]|import |from |print |os\\.|0[0-9])*") {
        found(&text);
    }
}
