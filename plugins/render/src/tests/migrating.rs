//! What the documentation of confd and consul-template shows of its functions, beside what it is here. On the left is a call as it is
//! written there; the data is that of the documentation's examples.

use super::*;

/// A function of the other, what it is here, what it becomes.
type Line = (&'static str, &'static str, &'static str);

#[track_caller]
fn each_becomes(host: impl Fn() -> Host, lines: &[Line]) {
    for (theirs, here, expected) in lines {
        assert_eq!(render_with(host(), here).as_deref(), Ok(*expected), "{theirs}");
    }
}

#[test]
fn functions_of_confd() {
    let host = || {
        tree(&[
            ("/app/key", "foobar"),
            ("/app/count", "3"),
            ("/app/deis", ""),
            ("/app/deis/service", "10.0.0.5:8000"),
            ("/app/deis/services", ""),
            ("/app/deis/services/b", ""),
            ("/app/deis/services/b/1", "x"),
            ("/app/deis/services/a", "y"),
            ("/app/services", ""),
            ("/app/services/zookeeper", ""),
            (
                "/app/services/zookeeper/host1",
                r#"{"Id":"host1", "IP":"192.168.10.11"}"#,
            ),
            (
                "/app/services/zookeeper/host2",
                r#"{"Id":"host2", "IP":"192.168.10.12"}"#,
            ),
            ("/app/services/data", r#"["a", "b", "c"]"#),
            (
                "/app/test",
                r#"{"animals": [{"type": "dog", "name": "Fido"}, {"type": "cat", "name": "Misse"}]}"#,
            ),
            ("/app/nginx", "my-backend"),
        ])
    };
    each_becomes(
        host,
        &[
            (
                "map \"name\" \"elasticsearch\" \"private_port\" 9200",
                "{% set endpoint = {'name': 'elasticsearch', 'private_port': 9200} %}{{ endpoint.name }} {{ endpoint.private_port }}",
                "elasticsearch 9200",
            ),
            (
                "with get \"/key\"",
                "{% with kv = get('/key') %}{{ kv.key | base }}={{ kv.value }}{% endwith %}",
                "key=foobar",
            ),
            (
                "exists \"/key\"",
                "{% if exists('/key') %}value: {{ getv('/key') }}{% endif %}",
                "value: foobar",
            ),
            (
                "exists \"/doesnotexist\"",
                "{% if exists('/doesnotexist') %}x{% endif %}",
                "",
            ),
            (
                "getv \"/key\" \"default_value\"",
                "{{ getv('/none', 'default_value') }}",
                "default_value",
            ),
            (
                "range gets \"/*\"",
                "{% for kv in gets('/k*') %}{{ kv.key }}: {{ kv.value }};{% endfor %}",
                "/app/key: foobar;",
            ),
            (
                "range getvs \"/*\"",
                "{% for value in getvs('/deis/*') %}{{ value }}{% endfor %}",
                "10.0.0.5:8000",
            ),
            (
                "getenv \"HOST_IP\" \"127.0.0.1\"",
                "{{ env('HOST_IP', '127.0.0.1') }}",
                "127.0.0.1",
            ),
            (
                "split (getv \"/deis/service\") \":\"",
                "{% set url = getv('/deis/service') | split(':') %}host: {{ url[0] }} port: {{ url[1] }}",
                "host: 10.0.0.5 port: 8000",
            ),
            (
                "toUpper, toLower",
                "{{ 'value' | upper }} {{ 'Value' | lower }}",
                "VALUE value",
            ),
            (
                "json .Value",
                "{% for kv in gets('/services/zookeeper/*') %}{% set data = kv.value | json %}{{ data.Id }}={{ data.IP }};{% endfor %}",
                "host1=192.168.10.11;host2=192.168.10.12;",
            ),
            (
                "index $data.animals 1",
                "{% set data = getv('/test') | json %}{{ data.animals[1].type }}{% for animal in data.animals %} {{ animal.name }}{% endfor %}",
                "cat Fido Misse",
            ),
            (
                "jsonArray",
                "{% for val in getv('/services/data') | json %}{{ val }}{% endfor %}",
                "abc",
            ),
            (
                "ls \"/deis/services\"",
                "{% for name in ls('/deis/services') %}{{ name }} {% endfor %}",
                "a b ",
            ),
            (
                "lsdir \"/deis/services\"",
                "{% for name in lsdir('/deis/services') %}{{ name }} {% endfor %}",
                "b ",
            ),
            (
                "dir \"/services/data/url\"",
                "{{ '/services/data/url' | dir }}",
                "/services/data",
            ),
            (
                "join (getvs ...) \",\"",
                "{{ gets('/services/zookeeper/*') | map(attribute='key') | map('base') | join(',') }}",
                "host1,host2",
            ),
            (
                "replace $backend \"-\" \"_\" -1",
                "{{ getv('/nginx') | replace('-', '_') }}",
                "my_backend",
            ),
            (
                "contains, trimSuffix",
                "{{ 'back' in getv('/nginx') }} {{ getv('/nginx') | trim_suffix('-backend') }}",
                "true my",
            ),
            (
                "seq 1 (atoi (getv \"/count\"))",
                "{{ seq(1, getv('/count') | int) | join(' ') }}",
                "1 2 3",
            ),
            (
                "add, sub, mul, div, mod",
                "{{ 7 + 2 }} {{ 7 - 2 }} {{ 7 * 2 }} {{ 7 // 2 }} {{ 7 % 2 }}",
                "9 5 14 3 1",
            ),
            (
                "base64Encode, base64Decode",
                "{{ 'Value' | base64_encode }} {{ 'VmFsdWU=' | base64_decode }}",
                "VmFsdWU= Value",
            ),
            ("parseBool", "{{ 'yes' if 'true' | parse_bool else 'no' }}", "yes"),
            (
                "reverse (ls ...)",
                "{{ ls('/deis/services') | reverse | join(',') }}",
                "b,a",
            ),
            (
                "sortKVByLength (gets ...)",
                "{{ gets('/deis/*') | sort_by_length(attribute='key') | map(attribute='value') | join }}",
                "10.0.0.5:8000",
            ),
            (
                "sortByLength (ls \"/\")",
                "{{ ls('/') | sort_by_length | first }}",
                "key",
            ),
            ("fileExists \"/nowhere\"", "{{ file_exists('/nowhere') }}", "false"),
            ("datetime.Format", "{{ now('%b %d, %Y') | length }}", "12"),
            (
                "printf \"/services/%s/*\" $dir",
                "{% for dir in lsdir('/deis/services') %}{{ getvs('/deis/services/' ~ dir ~ '/*') | join }}{% endfor %}",
                "x",
            ),
        ],
    );
}

#[test]
fn functions_of_consul_template() {
    let host = || {
        tree(&[
            ("/app/service", ""),
            ("/app/service/redis", ""),
            ("/app/service/redis/maxconns", "15"),
            ("/app/service/redis/nested", ""),
            ("/app/service/redis/nested/minconns", "5"),
            ("/app/service/redis/tls", "false"),
        ])
        .config("undefined", "strict")
    };
    each_becomes(
        host,
        &[
            (
                "key \"service/redis/maxconns\"",
                "{{ getv('service/redis/maxconns') }}",
                "15",
            ),
            ("keyExists", "{% if exists('service/redis/tls') %}yes{% endif %}", "yes"),
            (
                "keyOrDefault \"service/redis/minconns\" \"1\"",
                "{{ getv('service/redis/minconns', '1') }}",
                "1",
            ),
            (
                "range ls \"service/redis\"",
                "{% for kv in gets('service/redis/*') %}{{ kv.key | base }}:{{ kv.value }} {% endfor %}",
                "maxconns:15 tls:false ",
            ),
            (
                "range tree \"service/redis\"",
                "{% for key, value in tree('service/redis') | items %}{{ key }}:{{ value }} {% endfor %}",
                "maxconns:15 nested/minconns:5 tls:false ",
            ),
            (
                "tree \"service/redis\" | explode",
                "{% with redis = tree('service/redis') | explode %}{{ redis.maxconns }} {{ redis.nested.minconns }}{% endwith %}",
                "15 5",
            ),
            (
                "toJSON",
                "{{ tree('service/redis') | explode | tojson }}",
                r#"{"maxconns": "15", "nested": {"minconns": "5"}, "tls": "false"}"#,
            ),
            ("toJSONPretty", "{{ {'a': 1} | tojson(indent=2) }}", "{\n  \"a\": 1\n}"),
            ("parseJSON", "{{ ('{\"foo\":\"bar\"}' | json).foo }}", "bar"),
            (
                "parseInt, parseFloat, parseUint",
                "{{ '1' | int }} {{ '1.2' | float }}",
                "1 1.2",
            ),
            ("env, envOrDefault", "{{ env('NO_SUCH', 'localhost') }}", "localhost"),
            (
                "contains, in",
                "{% set tags = ['v1', 'v2'] %}{{ 'v1' in tags }} {{ 'v3' in tags }}",
                "true false",
            ),
            (
                "containsAll, containsAny, containsNone",
                "{{ ['v1', 'v2'] | select('in', ['v2', 'v3']) | list | length > 0 }}",
                "true",
            ),
            ("indent 4", "{{ 'a\nb' | indent(4, true) }}", "    a\n    b"),
            ("loop 5 8", "{% for i in range(5, 8) %}{{ i }}{% endfor %}", "567"),
            ("join \",\"", "{{ ['a', 'b'] | join(',') }}", "a,b"),
            (
                "trimSpace, trimPrefix, trimSuffix",
                "{{ ' x ' | trim }}{{ 'v1' | trim_prefix('v') }}{{ 'a.d' | trim_suffix('.d') }}",
                "x1a",
            ),
            (
                "regexMatch \"foo([.a-z]+)\"",
                "{{ 'foo.bar' is matching('foo([.a-z]+)') }}",
                "true",
            ),
            (
                "regexReplaceAll",
                "{{ 'foo.bar' | regex_replace('foo([.a-z]+)', '$1') }}",
                ".bar",
            ),
            ("replaceAll", "{{ 'a.b.c' | replace('.', '-') }}", "a-b-c"),
            ("sha256Hex", "{{ 'bladibla' | sha256 | length }}", "64"),
            (
                "split, toTitle",
                "{{ 'foo.bar' | split('.') | map('title') | join(' ') }}",
                "Foo Bar",
            ),
            (
                "executeTemplate, define",
                "{% macro custom(x) %}my {{ x }}{% endmacro %}{{ custom('template') }}",
                "my template",
            ),
            (
                "scratch",
                "{% set ns = namespace(n=0) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
                "3",
            ),
            ("minimum, maximum", "{{ [2, 5] | min }} {{ [2, 5] | max }}", "2 5"),
            ("base64URLEncode", "{{ 'a?b' | base64_encode(url=true) }}", "YT9i"),
            ("timestamp \"2006\"", "{{ now('%Y') | length }}", "4"),
        ],
    );
}

/// What `service` is to Consul: a parent whose children are the instances, with what they say of themselves in JSON.
#[test]
fn services_of_consul_as_children() {
    let host = || {
        tree(&[
            ("/app/web", ""),
            (
                "/app/web/nyc1",
                r#"{"address": "10.5.2.45", "port": 2492, "tags": ["v1"]}"#,
            ),
            (
                "/app/web/nyc2",
                r#"{"address": "10.2.6.61", "port": 8901, "tags": ["v1", "v2"]}"#,
            ),
        ])
    };
    each_becomes(
        host,
        &[
            (
                "range service \"web\"",
                "{% for kv in gets('web/*') %}{% with it = kv.value | json %}server {{ kv.key | base }} {{ it.address }}:{{ it.port }}\n{% endwith %}{% endfor %}",
                "server nyc1 10.5.2.45:2492\nserver nyc2 10.2.6.61:8901\n",
            ),
            (
                "service \"v2.web\", byTag",
                "{% for kv in gets('web/*') if 'v2' in (kv.value | json).tags %}{{ kv.key | base }}{% else %}none{% endfor %}",
                "nyc2",
            ),
            (
                "range $index, $service := service \"memcached\"",
                "{% for kv in gets('web/*') %}{% with it = kv.value | json %}{{ ',' if not loop.first }}{{ it.address }}{% endwith %}{% endfor %}",
                "10.5.2.45,10.2.6.61",
            ),
        ],
    );
}
