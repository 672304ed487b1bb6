//! What to write instead of Python's statements, modules and functions.
//!
//! Tables only. What they recommend is tested by running it.

/// What always works.
pub(super) const KEEP: &str = "action = Exec([\"/usr/bin/python3\", \"/etc/twitcher/scripts/NAME.py\"]) runs a script, with the znode's data on its stdin";

pub(super) fn keep() -> String {
    format!("keep it in a script: {KEEP}")
}

/// A word that a statement begins with, and that Starlark does not have: what is wrong, what to write.
pub(super) fn statement(word: &str) -> Option<(&'static str, String)> {
    let (message, hint) = match word {
        "global" | "nonlocal" => (
            "`global` does not carry over: an action runs in a process of its own, so what it assigns is lost when it ends",
            "remove it, and keep what the next run must know in a file: open(\"/var/lib/app/state\", \"w\").write(text)",
        ),
        "try" => (
            "`try` does not carry over: there are no exceptions here",
            "let it fail: the run then counts as failed, and on_failure = Retry(times = 3) repeats it; of a program that may fail, look \
             at run([...]).code",
        ),
        "raise" => (
            "`raise` does not carry over",
            "write fail(\"why\"): the run then counts as failed",
        ),
        "with" => (
            "`with` does not carry over",
            "write f = open(path, mode) on a line of its own, and what was below `with` beside it; the file need not be closed",
        ),
        "while" => (
            "`while` does not carry over",
            "write for n in range(1000): with a break in it; to wait until something works, fail(\"not yet\") with on_failure = \
             Retry(times = 10)",
        ),
        "class" => (
            "`class` does not carry over",
            "write functions, and struct(name = value) or a dict for what belongs together",
        ),
        "assert" => ("`assert` does not carry over", "write if not x: fail(\"why\")"),
        "del" => (
            "`del` does not carry over",
            "write d.pop(key), or make another list without the element",
        ),
        "async" | "await" => {
            return Some((
                "`async` does not carry over: each action has a process of its own",
                keep(),
            ));
        }
        "yield" => ("`yield` does not carry over", "collect a list, and return it"),
        _ => return None,
    };
    Some((message, hint.to_owned()))
}

/// What there is instead of a module.
pub(super) fn module(module: &str) -> String {
    let hint = match module {
        "os" => {
            "run([\"program\", \"argument\"]) runs a program, open(path) opens a file, env[\"NAME\"] is the environment"
        }
        "sys" => "stdin() is the znode's data, print(text) writes to the log, fail(\"why\") ends the run as failed",
        "subprocess" | "commands" | "popen2" => {
            "run([\"program\", \"argument\"]) runs a program to its end; it gives .code and .stdout, and fails for you with check = True"
        }
        "time" | "datetime" => {
            "to wait, give RegisterWatch settle, splay or min_interval, or on_failure = Retry(...); the date is run([\"date\"]).stdout"
        }
        "random" => "splay = 60 spreads what many hosts do over a minute",
        "logging" | "syslog" => "print(text) writes to the daemon's log, with the names of watch and run",
        "urllib" | "urllib2" | "urllib3" | "httplib" | "http" | "requests" | "socket" => {
            "run([\"curl\", \"-fsS\", url], check = True).stdout; or the plugin webhook as action = Wasm(...)"
        }
        "json" | "simplejson" => "json.decode(text) and json.encode(value) are there without it",
        "re" | "string" | "fnmatch" => {
            "strings have split, strip, startswith, replace, find and more; for patterns run([\"grep\", ...], stdin = text)"
        }
        "signal" => "SIGHUP, SIGUSR1, SIGTERM and the others are names here: notify_signal = SIGUSR1",
        "shutil" | "glob" | "tempfile" | "stat" | "fcntl" => {
            "run([\"cp\", from, to], check = True), run([\"mv\", ...]), run([\"rm\", ...]) and the like"
        }
        "pwd" | "grp" => "uid and gid of RegisterWatch take names: uid = \"deploy\"",
        "threading" | "multiprocessing" => {
            "each action has a process of its own; run_mode = PARALLEL lets several run at once"
        }
        "kazoo" | "zookeeper" | "zc" => "the znode's data is stdin(); a plugin, Wasm(...), can read and write znodes",
        "twitcher" => "remove it: RegisterWatch, Exec and the constants are there without it",
        "__future__" => "remove it",
        _ => return format!("{}; functions of your own: load(\"other.twc\", \"function\")", keep()),
    };
    hint.to_owned()
}

/// Whether it is there under the very name that a module of Python's has.
pub(super) fn is_there(module: &str, name: &str) -> bool {
    matches!((module, name), ("json", "encode" | "decode"))
}

/// Whether there is advice for the module in particular.
pub(super) fn is_known(name: &str) -> bool {
    !module(name).starts_with("keep it")
}

/// What there is instead of something of a module. `SAME` stands for the name without the module.
pub(super) fn member(module: &str, name: &str) -> Option<&'static str> {
    Some(match (module, name) {
        ("os", "system") => "run([\"/bin/sh\", \"-c\", command]).code; or without a function: action = Exec(command)",
        ("os", "popen") | ("commands", _) => "run([\"/bin/sh\", \"-c\", command]).stdout",
        ("os", "environ" | "getenv") => "env[\"NAME\"], or env.get(\"NAME\", default)",
        ("os", "path.exists" | "path.lexists") => "run([\"test\", \"-e\", path]).code == 0",
        ("os", "path.isfile") => "run([\"test\", \"-f\", path]).code == 0",
        ("os", "path.isdir") => "run([\"test\", \"-d\", path]).code == 0",
        ("os", "path.join") => "dir + \"/\" + name",
        ("os", "path.basename") => "path.split(\"/\")[-1]",
        ("os", "path.dirname") => "path.rpartition(\"/\")[0]",
        ("os", "remove" | "unlink") => "run([\"rm\", path], check = True)",
        ("os" | "shutil", "rename" | "move") => "run([\"mv\", \"-T\", old, new], check = True)",
        ("os", "mkdir" | "makedirs") => "run([\"mkdir\", \"-p\", path], check = True)",
        ("os", "chmod") => "run([\"chmod\", \"644\", path], check = True)",
        ("os", "kill") => "run([\"kill\", \"-HUP\", str(pid)], check = True)",
        ("os", "listdir") => "run([\"ls\", path]).stdout.splitlines()",
        ("os", "chdir") => "cwd = \"/dir\" in RegisterWatch",
        ("os", "setuid" | "setgid" | "setgroups") => "uid = \"user\" in RegisterWatch",
        ("os", "umask") => "umask = 0o022 in RegisterWatch",
        ("os", "uname") | ("socket", "gethostname" | "getfqdn") => "run([\"hostname\"]).stdout.strip()",
        ("subprocess", "call" | "Popen" | "run") => {
            "run([\"program\", \"argument\"]): it waits, and gives .code and .stdout"
        }
        ("subprocess", "check_call") => "run([\"program\", \"argument\"], check = True)",
        ("subprocess", "check_output") => "run([\"program\", \"argument\"], check = True).stdout",
        ("time", "sleep") => {
            "settle, splay or min_interval in RegisterWatch, or on_failure = Retry(...); or, if it must be, run([\"sleep\", \"5\"])"
        }
        ("time", "time") => "int(run([\"date\", \"+%s\"]).stdout.strip())",
        ("time", "strftime" | "ctime" | "asctime") => "run([\"date\", \"+%F %T\"]).stdout.strip()",
        ("random", _) => "splay = 60 in RegisterWatch, which spreads what many hosts do over a minute",
        ("sys", "stdin.read" | "stdin.readlines" | "stdin") => "stdin()",
        ("sys", "exit") => "return, or fail(\"why\")",
        ("sys", "stderr.write" | "stdout.write") => "print(text)",
        ("logging" | "syslog", _) => "print(text): it is in the daemon's log, with the names of watch and run",
        ("urllib" | "urllib2" | "requests", "urlopen" | "request.urlopen" | "get" | "urlretrieve") => {
            "run([\"curl\", \"-fsS\", url], check = True).stdout"
        }
        ("requests", "post" | "put") => {
            "run([\"curl\", \"-fsS\", \"--data-binary\", \"@-\", url], stdin = text, check = True)"
        }
        ("json" | "simplejson", "loads") => "json.decode(text)",
        ("json" | "simplejson", "load") => "json.decode(open(path).read())",
        ("json" | "simplejson", "dumps") => "json.encode(value)",
        ("json" | "simplejson", "dump") => "open(path, \"w\").write(json.encode(value))",
        ("shutil", "copy" | "copy2" | "copyfile") => "run([\"cp\", from, to], check = True)",
        ("shutil", "copytree") => "run([\"cp\", \"-a\", from, to], check = True)",
        ("shutil", "rmtree") => "run([\"rm\", \"-r\", path], check = True)",
        ("glob", "glob" | "iglob") => "run([\"/bin/sh\", \"-c\", \"ls -d /etc/app/*.conf\"]).stdout.splitlines()",
        ("signal", name) if name.starts_with("SIG") => "SAME, without `signal.`",
        _ => return None,
    })
}

/// What there is instead of a function of Python's that Starlark does not have.
pub(super) fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "xrange" => "write range(n)",
        "unicode" | "basestring" => "write str(x): every string is Unicode",
        "file" => "write open(path)",
        "isinstance" => "write type(x) == \"string\", \"int\", \"list\" or \"dict\"",
        "raw_input" | "input" => "write stdin(), the znode's data",
        "sum" => "add in a loop: for x in xs: total += x",
        "round" => "write int(x + 0.5)",
        "long" => "write int(x)",
        "reduce" => "write a loop",
        "execfile" | "__import__" => "write load(\"other.twc\", \"function\")",
        "next" | "iter" => "write list(x)[0], or a loop",
        "eval" => "for data, json.decode(text)",
        "Exception" => "write fail(\"why\")",
        "__name__" => "remove the condition: a file is only ever loaded",
        _ => return None,
    })
}
