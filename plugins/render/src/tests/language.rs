//! What a template can say.

use super::*;

#[track_caller]
fn becomes(host: Host, template: &str, expected: &str) {
    assert_eq!(render_with(host, template).as_deref(), Ok(expected), "{template}");
}

#[track_caller]
fn fails(host: Host, template: &str, words: &str) {
    let failure = render_with(host, template).unwrap_err();
    assert!(failure.contains(words), "{template}: {failure}");
}

fn nodes() -> Host {
    tree(&[
        ("/app/db", ""),
        ("/app/db/host", "db1"),
        ("/app/db/port", "5432"),
        ("/app/name", "shop"),
        ("/app/upstream", ""),
        ("/app/upstream/app1", "10.0.1.10:8080"),
        ("/app/upstream/app2", "10.0.1.11:8080"),
        ("/app/upstream/app2/weight", "3"),
    ])
}

#[test]
fn a_subtree_is_a_map_and_each_path_can_be_written_in_three_ways() {
    for path in ["db/host", "/db/host", "/app/db/host"] {
        becomes(
            nodes(),
            &format!("{{{{ tree['{path}'] }}}} {{{{ getv('{path}') }}}}"),
            "db1 db1",
        );
    }
    becomes(nodes(), "{{ tree.name }}", "shop");
    becomes(
        nodes(),
        "{% for path, value in tree | items %}{{ path }}={{ value }} {% endfor %}",
        "db/host=db1 db/port=5432 name=shop upstream/app1=10.0.1.10:8080 upstream/app2=10.0.1.11:8080 upstream/app2/weight=3 ",
    );
    becomes(
        nodes(),
        "{% for path in tree('db') %}{{ path }} {% endfor %}",
        "host port ",
    );
    becomes(
        nodes(),
        "{{ tree('db').host }} {{ tree('/app/db')['port'] }}",
        "db1 5432",
    );
    becomes(nodes(), "{{ tree('upstream')('db') | length }}", "2");
    becomes(nodes(), "{{ 'db/host' in tree }} {{ 'db/none' in tree }}", "true false");
    becomes(
        nodes(),
        "{{ tree['none'] | default('x') }} {{ tree['none'] is defined }}",
        "x false",
    );
    becomes(
        nodes(),
        "{{ (tree | explode).db.port }} {{ (tree('upstream') | explode).app1 }}",
        "5432 10.0.1.10:8080",
    );
    becomes(
        Host::new()
            .path("/")
            .tree_node("/", "")
            .tree_node("/a", "1")
            .tree_node("/a/b", "2"),
        "{{ tree.a }}{{ tree['/a/b'] }} {{ ls('/') | join(',') }} {{ gets('/*') | length }}",
        "12 a 1",
    );
}

#[test]
fn keys_are_looked_up_as_confd_does() {
    becomes(nodes(), "{{ getv('db/none', 'x') }}{{ getv('db/host', 'x') }}", "xdb1");
    becomes(
        nodes(),
        "{% for kv in gets('/upstream/*') %}{{ kv.key | base }}={{ kv.value }} {% endfor %}",
        "app1=10.0.1.10:8080 app2=10.0.1.11:8080 ",
    );
    becomes(nodes(), "{{ getvs('/db/*') | join(',') }}", "db1,5432");
    becomes(
        nodes(),
        "{{ getvs('/*/p?rt') | join(',') }} {{ gets('/none/*') | length }}",
        "5432 0",
    );
    becomes(
        nodes(),
        "{{ get('/db/host').key }} {{ get('/db/host').value }}",
        "/app/db/host db1",
    );
    becomes(
        nodes(),
        "{{ ls('/') | join(',') }} {{ ls('/upstream/app2') | join(',') }} {{ ls('/none') | length }}",
        "db,name,upstream weight 0",
    );
    becomes(
        nodes(),
        "{{ lsdir('/') | join(',') }} {{ lsdir('/upstream') | join(',') }}",
        "db,upstream app2",
    );
    becomes(nodes(), "{{ exists('/db') }} {{ exists('/db/none') }}", "true false");
    fails(
        nodes(),
        "{{ getv('/db/none') }}",
        "template_text:1: invalid operation: there is no znode /app/db/none in getv('/db/none')",
    );
    fails(nodes(), "{{ get('/db/none').value }}", "there is no znode /app/db/none");
    fails(nodes(), "{{ ls('/', 1) }}", "too many arguments");
    // A key that was found means itself, wherever it lies.
    let deep = tree(&[("/app/app", ""), ("/app/app/x", "inner"), ("/app/x", "outer")]);
    becomes(
        deep,
        "{% for kv in gets('app/*') %}{{ getv(kv.key) }}{% endfor %}",
        "inner",
    );
}

#[test]
fn what_cannot_be_read_is_said_where_it_is_used() {
    let host = || {
        nodes()
            .unreadable_tree_node("/app/secret")
            .tree_node("/app/raw", b"\xff".to_vec())
    };
    becomes(host(), "{{ tree.name }}", "shop");
    fails(
        host(),
        "{{ tree.secret }}",
        "template_text:1: invalid operation: the znode /app/secret cannot be read",
    );
    fails(host(), "{{ getv('secret', 'x') }}", "cannot be read");
    fails(
        host(),
        "{% for kv in gets('*') %}{{ kv.value }}{% endfor %}",
        "the data of /app/raw is not UTF-8",
    );
    let plain = || Host::new().path("/x");
    for template in [
        "{{ tree.x }}",
        "{{ getv('x') }}",
        "{% for kv in gets('*') %}{% endfor %}",
    ] {
        fails(
            plain(),
            template,
            "the watch must have watch_type = WATCH_TREE, payload = JSON",
        );
    }
}

#[test]
fn of_several_znodes_each_is_at_its_path() {
    let document = |znodes: &str| {
        format!(
            r#"{{"version": 1, "run": "1m82xp1tf0000", "watch": "test", "znode": "/nginx", "stat": null, "znodes": [{znodes}]}}"#
        )
    };
    let stat = r#""stat": {"czxid": 1, "mzxid": 1, "version": 0}"#;
    let trees = document(&format!(
        r#"{{"znode": "/nginx", {stat}, "nodes": {{"/nginx": {{{stat}, "data": ""}}, "/nginx/domain": {{{stat}, "data": "example.com"}}}}}},
           {{"znode": "/app/upstream", {stat}, "nodes": {{"/app/upstream/a": {{{stat}, "data_base64": "MTA="}},
                "/app/upstream/b": {{{stat}, "unreadable": true}}}}}},
           {{"znode": "/gone", "stat": null, "nodes": {{}}}}"#
    ));
    let run = |data: &str, template: &str| {
        let scene = Scene::new(template);
        // The one that changed first is gone, and the others are not.
        let ended = scene.host.clone().stat(None).run(on_change, data);
        ended.map(|()| scene.text()).map_err(|failure| failure.to_string())
    };
    let template = "{{ getv('/nginx/domain') }} {{ tree['app/upstream/a'] }} {{ ls('/app/upstream') | join(',') }} {{ exists('/gone') }}";
    assert_eq!(run(&trees, template).as_deref(), Ok("example.com 10 a,b false"));
    assert!(
        run(&trees, "{{ tree['app/upstream/b'] }}")
            .unwrap_err()
            .contains("cannot be read")
    );
    assert!(
        run(&trees, "{{ data }}")
            .unwrap_err()
            .contains("the watch has several znodes: what they hold is in tree")
    );

    let plain = document(&format!(
        r#"{{"znode": "/a", {stat}, "data": "1"}}, {{"znode": "/b/c", {stat}, "data": "2"}}"#
    ));
    assert_eq!(run(&plain, "{{ tree.a }} {{ getv('/b/c') }}").as_deref(), Ok("1 2"));
    let children = document(&format!(
        r#"{{"znode": "/a", {stat}, "children": {{"names": ["x", "y"]}}}}"#
    ));
    assert_eq!(run(&children, "{{ ls('/a') | join(',') }}").as_deref(), Ok("x,y"));

    // All of them gone, and data that only looks like such a document.
    let scene = Scene::new("x");
    assert_eq!(scene.run(&document(r#"{"znode": "/a", "stat": null}"#)), Ok(()));
    assert!(!scene.path("app.conf").exists() && scene.said("the znode is gone"));
    let scene = Scene::new("{{ data.znodes | length }}");
    assert_eq!(scene.run(r#"{"run": "0", "watch": "test", "znodes": []}"#), Ok(()));
    assert_eq!(scene.text(), "0");
}

#[test]
fn data_is_json_and_text_is_what_is_there() {
    let run = |data: &str, template: &str| {
        let scene = Scene::new(template);
        scene
            .run(data)
            .map(|()| scene.text())
            .map_err(|failure| failure.to_string())
    };
    assert_eq!(
        run("80", "{{ text }} {{ data + 1 }} {{ watch }}"),
        Ok("80 81 test".to_owned())
    );
    assert_eq!(run("10.0.0.1", "{{ text }}"), Ok("10.0.0.1".to_owned()));
    let words = run("10.0.0.1", "{{ data }}").unwrap_err();
    assert!(
        words.contains("the znode's data is not JSON: ") && words.contains("it is the variable text"),
        "{words}"
    );
    becomes(Host::new().content(r#"{"a": 1}"#), "{{ data.a }}", "1");
    becomes(
        tree(&[]).tree_node("/app", r#"{"a": 1}"#),
        "{{ data.a }} {{ text }}",
        r#"1 {"a": 1}"#,
    );
    becomes(Host::new().children(&["b", "a"]), "{{ children | join(',') }}", "a,b");
}

#[test]
fn filters_do_what_confd_and_consul_template_have_functions_for() {
    for (template, expected) in [
        (
            "{{ '/a/b' | base }} {{ '/a/b/' | base }} {{ 'a' | base }} {{ '/' | base }} {{ '' | base }}",
            "b b a / .",
        ),
        (
            "{{ '/a/b' | dir }} {{ 'a' | dir }} {{ '/a' | dir }} {{ 'a/b/c' | dir }}",
            "/a . / a/b",
        ),
        ("{{ 'a:b' | split(':') | first }}{{ ('a:b' | split(':'))[1] }}", "ab"),
        ("{{ ['a', 'b'] | join(',') }}", "a,b"),
        ("{{ ('{\"a\": [1, 2]}' | json).a | sum }}", "3"),
        ("{% for x in '[\"a\", \"b\"]' | json %}{{ x }}{% endfor %}", "ab"),
        (
            "{{ {'b': 1, 'a': [true, none]} | tojson }}",
            r#"{"a": [true, null], "b": 1}"#,
        ),
        (
            "{{ 'Value' | base64_encode }} {{ 'VmFsdWU=' | base64_decode }}",
            "VmFsdWU= Value",
        ),
        (
            "{{ '??>>' | base64_encode(url=true) }} {{ 'Pz8-Pg' | base64_decode }}",
            "Pz8-Pg== ??>>",
        ),
        ("{{ 'a' | upper }}{{ 'B' | lower }}{{ 'ab cd' | title }}", "AbAb Cd"),
        (
            "{{ 'a-b-c' | replace('-', '_') }} {{ 'a-b-c' | replace('-', '_', 1) }}",
            "a_b_c a_b-c",
        ),
        ("{{ 'x' in 'axb' }} {{ 'x' in ['x'] }}", "true true"),
        (
            "{{ ' a ' | trim }}{{ 'a.conf' | trim_suffix('.conf') }}{{ 'v1' | trim_prefix('v') }}",
            "aa1",
        ),
        (
            "{{ 'true' | parse_bool }} {{ '0' | parse_bool }} {{ true | parse_bool }}",
            "true false true",
        ),
        (
            "{{ '3' | int + 1 }} {{ '3' | parse_int * 2 }} {{ 7 // 2 }} {{ 7 % 2 }} {{ 7 - 2 }}",
            "4 6 3 1 5",
        ),
        ("{{ seq(1, 3) | join(',') }} {{ seq(2, 1) | length }}", "1,2,3 0"),
        ("{{ ['ccc', 'a', 'bb'] | sort_by_length | join(',') }}", "a,bb,ccc"),
        (
            "{{ ['ccc', 'a', 'bb'] | sort | join(',') }} {{ [1, 2] | reverse | join(',') }}",
            "a,bb,ccc 2,1",
        ),
        ("{{ ['b', 'a', 'b'] | unique | sort | first }}", "a"),
        (
            "{{ [{'k': 'bb'}, {'k': 'a'}] | sort_by_length(attribute='k') | map(attribute='k') | join }}",
            "abb",
        ),
        (
            "{% set m = {'name': 'x', 'port': 9200} %}{{ m.name }}:{{ m['port'] }}",
            "x:9200",
        ),
        (
            "{{ 'a1b22' | regex_replace('[0-9]+', '#') }} {{ 'foo.bar' is matching('foo([.a-z]+)') }}",
            "a#b# true",
        ),
        ("{{ 'k=v' | regex_replace('(.)=(.)', '$2=$1') }}", "v=k"),
        (
            "{{ 'bladibla' | sha256 }}",
            "54cf4c66bcabb5c20e25331c01dd600b73369e97a947861bd8d3a0e0b8b3d70b",
        ),
        ("{{ 'a\\nb' | indent(2) }}", "a\n  b"),
        ("{{ [3, 1, 2] | min }}{{ [3, 1, 2] | max }}", "13"),
        ("{{ 'a b&c' | urlencode }}", "a%20b%26c"),
        (
            "{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}",
            "1",
        ),
        ("{{ env('TWITCHER_NONE', 'x') }}", "x"),
        ("{{ now('%Y') | length }} {{ now() | length }}", "4 20"),
        ("{{ 'x' if false else 'y' }} {{ false or 'z' }}", "y z"),
        ("<{{ '<&>\"' }}>", "<<&>\">"),
        (
            "{{ true }} {{ 1 > 2 }} {{ 1.5 }} {{ [true] | tojson }}",
            "true false 1.5 [true]",
        ),
    ] {
        becomes(Host::new(), template, expected);
    }
    for (template, words) in [
        ("{{ '{' | json }}", "it is not JSON: "),
        ("{{ '*' | base64_decode }}", "it is not base64: "),
        ("{{ '/w==' | base64_decode }}", "what is in base64 is not UTF-8"),
        (
            "{{ 'maybe' | parse_bool }}",
            "must be true or false, not 'maybe' in 'maybe' | parse_bool",
        ),
        ("{{ '80.5' | parse_int }}", "must be a whole number, not \"80.5\""),
        ("{{ 'x' is matching('(') }}", "is no regular expression"),
        ("{{ seq(1, 1000000) }}", "more than 100000 numbers"),
        ("{{ env('TWITCHER_NONE') }}", "env = {\"TWITCHER_NONE\": "),
        ("{{ file('/nowhere') }}", "/nowhere: No such file"),
        ("{{ now('%?') }}", "is no format of a time"),
        (
            "{{ fail('no leader yet') }}",
            "template_text:1: invalid operation: no leader yet in fail('no leader yet')",
        ),
        ("{{ 1 | explode }}", "explode is for a map"),
        (
            "{{ none }}",
            "template_text:1: undefined value: the value is null in none",
        ),
        ("{{ 'a' | nonsense }}", "unknown filter"),
        ("{{ nonsense('a') }}", "unknown function"),
    ] {
        fails(Host::new(), template, words);
    }
}

#[test]
fn other_znodes_can_be_asked_for_if_they_are_granted() {
    let host = || Host::new().znode("/other/token", "t0");
    becomes(
        host(),
        "{{ znode('/other/token') }}{{ znode('/other/none', 'x') }}",
        "t0x",
    );
    fails(host(), "{{ znode('/other/none') }}", "template_text:1: ");
    let scene = Scene::new("{{ znode('/other/token') }}");
    let host = scene.host.clone().znode("/other/token", "t0");
    let lost = host.znode_fails("/other/token", twitcher_sdk::znodes::ErrorKind::SessionLost);
    let failure = lost.run(on_change, "1").unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
}

#[test]
fn what_is_not_defined_is_an_error_unless_that_is_wanted() {
    for (template, words) in [
        (
            "a\n{{ data.prot }}",
            "template_text:2: undefined value: `data.prot` is undefined",
        ),
        ("{{ data.a.b.c }}", "undefined value: `data.a.b` is undefined"),
        ("{{ nothing }}", "undefined value: `nothing` is undefined"),
        ("{{ data.prot | upper }}", "undefined value"),
        ("{% for x in data.prots %}{% endfor %}", "undefined value"),
        ("{% if data.prot %}{% endif %}", "undefined value"),
    ] {
        fails(Host::new().content(r#"{"a": {}}"#), template, words);
        let lenient = Host::new().content(r#"{"a": {}}"#).config("undefined", "lenient");
        let rendered = render_with(lenient, template);
        assert!(rendered.is_ok(), "{template}: {rendered:?}");
    }
    let host = Host::new().content("{}").config("undefined", "lenient");
    becomes(host, "[{{ data.a.b.c }}] [{{ data.x | default('d') }}]", "[] [d]");
}

#[test]
fn an_error_names_the_template_the_line_and_the_expression() {
    let scene = Scene::new("ok\n{% include \"inner.conf\" %}\n");
    fs::write(scene.path("inner.conf"), "# inner\n\nport = {{ data.prot }}\n").unwrap();
    let dir = scene.dir.path().display();
    let failure = scene.run("{}").unwrap_err().to_string();
    let expected =
        format!("{dir}/inner.conf:3: undefined value: `data.prot` is undefined, included at {dir}/template:2");
    assert_eq!(failure, expected);
    for (template, words) in [
        ("a\nb {% if %}", "template:2: syntax error: "),
        ("{{ 1 + }}", "template:1: syntax error: "),
        ("{% for x in data %}", "template:1: syntax error: "),
        ("\n{% include \"none.conf\" %}", "template:2: template not found: "),
        ("{% include \"../template\" %}", "template not found"),
        ("{{ 'a' + 1 }}", "template:1: invalid operation: "),
    ] {
        fs::write(scene.path("template"), template).unwrap();
        let failure = scene.run("{}").unwrap_err().to_string();
        assert!(failure.contains(words), "{template}: {failure}");
    }
    fs::remove_file(scene.path("template")).unwrap();
    let failure = scene.run("{}").unwrap_err().to_string();
    assert!(
        failure.starts_with(&format!("{dir}/template: cannot read the template: ")),
        "{failure}"
    );
}

#[test]
fn templates_share_what_is_beside_them() {
    let scene = Scene::new(
        "{% extends \"base.conf\" %}{% import \"macros\" as m %}{% block body %}{{ m.line('a') }}{% endblock %}",
    );
    fs::write(
        scene.path("base.conf"),
        "# begin\n{% block body %}{% endblock +%}\n# end\n",
    )
    .unwrap();
    fs::write(
        scene.path("macros"),
        "{% macro line(name) %}{{ name }} = {{ data.x }}{% endmacro %}",
    )
    .unwrap();
    let macros = "{% macro line(name) %}{{ name }} = 1{% endmacro %}";
    fs::write(scene.path("macros"), macros).unwrap();
    assert_eq!(scene.run("{}"), Ok(()));
    assert_eq!(scene.text(), "# begin\na = 1\n# end\n");
    fails(Host::new(), "{% include 'x' %}", "template not found");
}

#[test]
fn the_ending_of_a_template_says_nothing_of_how_it_is_written() {
    let scene = Scene::new("");
    for name in ["page.html", "app.yaml", "app.json"] {
        fs::write(scene.path(name), "{{ data.x }}").unwrap();
        let path = scene.path(name);
        let host = scene.host.clone().config("template", path.to_str().unwrap());
        assert_eq!(host.run(on_change, r#"{"x": "<a&\"b"}"#), Ok(()));
        assert_eq!(scene.text(), "<a&\"b", "{name}");
    }
}

#[test]
fn what_stands_around_expressions_can_be_other_characters() {
    let scene =
        Scene::new("{{ $labels }} [[ data.x ]][% if true %]\n{% %}[% endif %][# no #]").config("delimiters", "[[ ]]");
    assert_eq!(scene.run(r#"{"x": 1}"#), Ok(()));
    assert_eq!(scene.text(), "{{ $labels }} 1{% %}");
}
